package api

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

func TestOverloadIsRefusedEarlyAndHealthStays(t *testing.T) {
	f := newFixture(t)
	f.fill(classPlain)
	f.fill(classBatch)
	wantProblem(t, f.admin("GET", "/v1/status", nil), client.CodeOverloaded, "")
	wantProblem(t, f.admin("POST", "/v1/admissions/batch", "{}"), client.CodeOverloaded, "")
	for _, path := range []string{"/healthz", "/readyz"} {
		if rec := f.do(ask{method: "GET", path: path}); rec.Code != 200 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	plain := f.server.slots.tokens[classPlain][rankRule]
	plain.Leave(f.actor().TokenID)
	plain.Leave(f.actor().TokenID)
	used := plain.Used()
	for range 3 { // a slot comes back after each request
		if rec := f.admin("GET", "/v1/status", nil); rec.Code != 200 || plain.Used() != used {
			t.Fatal(rec.Code, plain.Used(), used)
		}
	}
}

// TestWaitingReadsStarveNobody: what waits for the leader or the log has slots
// of its own, and no token has them all.
func TestWaitingReadsStarveNobody(t *testing.T) {
	f := newFixture(t)
	reads := []string{"/v1/agents?level=strong", fmt.Sprintf("/v1/agents?min_index=%d", f.node.index+5)}
	for _, path := range reads {
		plainFree := false
		f.server.node = waitingNode{f.node, func() { plainFree = f.server.slots.tokens[classPlain][rankRule].Used() == 0 }}
		f.admin("GET", path, nil)
		if !plainFree {
			t.Errorf("%s waited in a plain slot", path)
		}
	}
	f.server.node = f.node
	viewer := must(crypto.ParseTokenText(f.tokens[fsm.RoleViewer])).ID
	for f.server.slots.tokens[classWait][rankWork].Take(viewer) {
	}
	for _, path := range reads {
		wantProblem(t, f.do(ask{method: "GET", path: path, token: f.tokens[fsm.RoleViewer]}), client.CodeOverloaded, "")
	}
	for _, path := range []string{"/v1/agents", "/v1/agents?min_index=1", "/v1/agents?level=local"} { // wait for nothing
		if rec := f.do(ask{method: "GET", path: path, token: f.tokens[fsm.RoleViewer]}); rec.Code != 200 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	for _, role := range []fsm.Role{fsm.RoleVerifier, fsm.RoleAdmin} {
		if rec := f.do(ask{method: "GET", path: reads[0], token: f.tokens[role]}); rec.Code != 200 {
			t.Errorf("another token: %d %s", rec.Code, rec.Body)
		}
	}
}

// waitingNode calls look while a read is under way that is not local.
type waitingNode struct {
	*fakeNode
	look func()
}

func (n waitingNode) Read(ctx context.Context, opts ReadOptions, f func(*fsm.State)) (uint64, error) {
	if opts != (ReadOptions{}) {
		n.look()
	}
	return n.fakeNode.Read(ctx, opts, f)
}

func TestMinIndexAheadOfTheLog(t *testing.T) {
	f := newFixture(t)
	for _, ahead := range []uint64{f.node.index + maxAhead + 1, 9e18} {
		p := wantProblem(t, f.admin("GET", fmt.Sprintf("/v1/agents?min_index=%d", ahead), nil), client.CodeInvalid, "min_index")
		if !strings.Contains(p.Detail, "ahead of the log") {
			t.Errorf("%+v", p)
		}
	}
	// What may yet come is waited for; the fake node gives up at once.
	wantProblem(t, f.admin("GET", fmt.Sprintf("/v1/agents?min_index=%d", f.node.index+maxAhead), nil), client.CodeUnavailable, "")
}

// TestEnrolmentIsChargedBeforeItHoldsASlot: strangers pay first, and no
// address has all the slots.
func TestEnrolmentIsChargedBeforeItHoldsASlot(t *testing.T) {
	f := newFixture(t)
	const addr = "198.51.100.7:1"
	stranger := ask{method: "POST", path: "/v1/agents", body: "{", from: addr}
	key := parseAddress(addr)
	for f.server.slots.open.Take(key) {
	}
	before := f.budget(key)
	wantProblem(t, f.do(stranger), client.CodeOverloaded, "")
	if after := f.budget(key); after != before-1 {
		t.Errorf("charged %v before it had a slot", before-after)
	}
	stranger.from = "198.51.100.8:1"
	wantProblem(t, f.do(stranger), client.CodeInvalid, "body")
}

// budget tells how much an address may still ask without a valid credential.
func (f *fixture) budget(addr netip.Addr) (left int) {
	for ; f.server.guard.charge(addr) == nil; left++ {
	}
	f.now = f.now.Add(time.Duration(left) * time.Second / guardPerSecond) // as it was
	return left
}

func TestWhatStrangersBreakIsCharged(t *testing.T) {
	f := newFixture(t)
	const addr = "198.51.100.9:1"
	charged := func(what string, least int, do func()) {
		t.Helper()
		before := f.budget(parseAddress(addr))
		do()
		if after := f.budget(parseAddress(addr)); before-after < least {
			t.Errorf("%s was charged %v, want %v", what, before-after, least)
		}
	}
	charged("a bad id in the path", 1, func() {
		wantProblem(t, f.do(ask{method: "GET", path: "/v1/agents/a%0Ab", from: addr}), client.CodeInvalid, "path")
	})
	charged("a body that broke off", 2, func() {
		req := httptest.NewRequest("POST", "/v1/agents", io.MultiReader(strings.NewReader("{"), brokenReader{}))
		req.ContentLength, req.RemoteAddr = 100, addr
		rec := httptest.NewRecorder()
		f.server.Handler().ServeHTTP(rec, req)
		wantProblem(t, rec, client.CodeInvalid, "body")
		if rec.Header().Get("Connection") != "close" {
			t.Error("the connection stays open for the rest of the body")
		}
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
