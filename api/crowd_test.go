package api

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// junk asks for a worker without its key, from the worker's own address.
func (w *worker) junk(headers map[string]string) int {
	return w.f.do(ask{method: "POST", path: "/heartbeat", body: w.call(), header: headers, from: "198.51.100.9:4711"}).Code
}

// TestAgentsAreServedBesideAFlood: who has used up the budget of an address takes
// nothing from agents that sign there, up to a stated degree.
func TestAgentsAreServedBesideAFlood(t *testing.T) {
	f := newFixture(t)
	w, other := f.enrolled("worker-1"), f.enrolled("worker-2")
	bare := map[string]string{crypto.HeaderAgentID: w.id}
	for range guardBurst + 600 {
		w.junk(bare)
	}
	if code := w.junk(bare); code != 429 {
		t.Fatalf("a flood without a signature: %d", code)
	}
	for range 4 {
		f.tick(1)
		if a, b := w.heartbeat().Code, w.register().Code; a != 200 || b != 200 {
			t.Fatalf("an honest worker beside it: %d and %d", a, b)
		}
	}
	// A flood that forges signatures of an id uses up what is left for that id alone.
	forged := w.sign("/heartbeat", w.call(), other.key)
	for range 3 * namedBurst {
		if code := w.junk(forged); code != 429 {
			t.Fatalf("a forged signature: %d", code)
		}
	}
	if code := w.heartbeat().Code; code != 429 {
		t.Errorf("the forged id: %d", code)
	}
	if code := other.heartbeat().Code; code != 200 {
		t.Errorf("another agent at that address: %d", code)
	}
	f.tick(1000 * 60 / namedPerSecond)
	if code := w.heartbeat().Code; code != 200 {
		t.Errorf("after a pause: %d", code)
	}
}

// TestProvedConnectionsAreServedBesideAFlood: over a connection on which the last
// credential was valid an agent is served whatever its address does; not so once
// something else came over it.
func TestProvedConnectionsAreServedBesideAFlood(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	synctest.Test(t, func(t *testing.T) {
		f.server.pause = 0
		dial := serveInMemory(t, f.server.HTTPServer())
		kept := dial("198.51.100.9:1")
		send := func(signed bool) int {
			body := w.call()
			text := "POST /heartbeat HTTP/1.1\r\nHost: x\r\n"
			key := w.key
			if !signed {
				key = f.worker("thief", "").key
			}
			for name, value := range w.sign("/heartbeat", body, key) {
				text += name + ": " + value + "\r\n"
			}
			go func() {
				_, _ = io.WriteString(kept.conn, text+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
			}()
			resp, err := http.ReadResponse(kept.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		if code := send(true); code != 200 {
			t.Fatal(code)
		}
		spend := func() {
			for f.server.guard.charge(parseAddress("198.51.100.9:1")) == nil {
			}
			for f.server.guard.spare(w.id, parseAddress("198.51.100.9:1")) {
			}
		}
		spend()
		for range 2 * namedBurst {
			if code := send(true); code != 200 {
				t.Fatalf("an agent on its connection: %d", code)
			}
		}
		if code := send(false); code != 429 {
			t.Errorf("a forged request: %d", code)
		}
		if code := send(true); code != 429 {
			t.Errorf("a flood and an agent on one connection: %d", code)
		}
	})
}

// TestReplaysCostTheirVictimNothing: whoever captured a request uses up neither the
// agent's budget here nor its share in the cluster, but that of the own address.
func TestReplaysCostTheirVictimNothing(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	body := w.call()
	captured := w.sign("/heartbeat", body, w.key)
	if rec := w.post("/heartbeat", body, captured); rec.Code != 200 {
		t.Fatal(rec.Code, rec.Body)
	}
	registered := w.sign("/register", w.registerBody(), w.key)
	before := f.node.leader.Sizes()["nonces"]
	limited := 0
	for range guardBurst {
		for path, a := range map[string]ask{
			"/heartbeat": {body: body, header: captured}, "/pull": {body: body, header: captured}, "/register": {body: w.registerBody(), header: registered},
		} {
			a.method, a.path, a.from = "POST", path, "203.0.113.5:1"
			if rec := f.do(a); rec.Code == 429 {
				limited++
			}
		}
	}
	if limited == 0 {
		t.Error("replays are free")
	}
	if n := f.node.leader.Sizes()["nonces"]; n != before {
		t.Errorf("replays added %d nonces", n-before)
	}
	for i := range selfBurst / 3 {
		if a, b := w.heartbeat(), w.register(); a.Code != 200 || b.Code != 200 {
			t.Fatalf("the victim's request %d: %d %s, %d %s", i, a.Code, a.Body, b.Code, b.Body)
		}
	}
	// A retry after a lost answer is the address's too, and gets the first answer.
	if rec := w.post("/heartbeat", body, captured); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"ok":true`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestOneAgentLeavesTheLogToOthers: what an agent asks for itself is bounded for the
// whole cluster, and it is told when to come back.
func TestOneAgentLeavesTheLogToOthers(t *testing.T) {
	f := newFixture(t)
	w, other := f.enrolled("worker-1"), f.enrolled("worker-2")
	policy := f.node.leader.Policy()
	limit := policy.SelfLimit()
	for i := range limit.Requests {
		if i%selfPerSecond == 0 {
			f.tick(1000)
		}
		if rec := w.heartbeat(); rec.Code != 200 {
			t.Fatal(i, rec.Code, rec.Body)
		}
	}
	rec := w.heartbeat()
	if rec.Code != 429 || rec.Header().Get("Retry-After") == "" || !strings.Contains(rec.Body.String(), "480 times in 240 s") {
		t.Errorf("%d %s %s", rec.Code, rec.Header(), rec.Body)
	}
	if rec := other.heartbeat(); rec.Code != 200 {
		t.Errorf("another agent: %d %s", rec.Code, rec.Body)
	}
}

// TestAgentsThatWaitLeaveTheSlotsOfStrangers: who is verified waits for the log in
// slots of its own.
func TestAgentsThatWaitLeaveTheSlotsOfStrangers(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	f.server.node = waitingNode{f.node, func() {
		if n := f.server.slots.open.Used(); n > 1 {
			t.Errorf("%d slots of strangers are held", n)
		}
	}}
	for range openSlots {
		f.server.slots.agents.Take("worker-9")
	}
	if rec := w.heartbeat(); rec.Code != 200 {
		t.Errorf("beside a busy agent: %d %s", rec.Code, rec.Body)
	}
	for f.server.slots.agents.Take(w.id) {
	}
	if rec := w.heartbeat(); rec.Code != 503 {
		t.Errorf("an agent with its share in flight: %d %s", rec.Code, rec.Body)
	}
	if n := f.server.slots.open.Used(); n != 0 {
		t.Errorf("%d slots of strangers are held after all have ended", n)
	}
	if rankOf(fsm.RoleMesh) != rankLeast || rankOf(fsm.RoleVerifier) != rankWork || rankOf(fsm.RoleAdmin) != rankRule {
		t.Error("ranks")
	}
}

// TestStrangersAskTheLeaderSoOften: within the budget of an address there are fewer
// questions to the leader, and another address has its own.
func TestStrangersAskTheLeaderSoOften(t *testing.T) {
	f := newFixture(t)
	before := f.node.strong
	unknown := must(crypto.NewTokenText(rand.Reader, clusterID, "viewer", "")).String()
	for range guardBurst {
		f.do(ask{method: "GET", path: "/v1/status", token: unknown, from: "192.0.2.1:9"})
	}
	if n := f.node.strong - before; n != lookupsBurst {
		t.Errorf("%d strong reads, want %d", n, lookupsBurst)
	}
	if rec := f.do(ask{method: "GET", path: "/v1/status", token: unknown, from: "192.0.2.2:9"}); rec.Code != 401 {
		t.Errorf("another address: %d", rec.Code)
	}
}
