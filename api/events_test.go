package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// told is one block of a stream.
type told struct {
	id, kind string
	event    client.Event
}

// listener reads a stream of events in a synctest bubble.
type listener struct {
	t      *testing.T
	status int
	body   string // of a refusal
	blocks chan told
	ended  chan struct{}
	close  func()
}

// listen asks for events over a connection in memory.
func (f *fixture) listen(t *testing.T, dial func(addr string) *wire, token, query, after string) *listener {
	t.Helper()
	w := dial("192.0.2.1:1")
	header := "Authorization: Bearer " + token + "\r\n"
	if after != "" {
		header += "Last-Event-ID: " + after + "\r\n"
	}
	go func() { _, _ = io.WriteString(w.conn, "GET /v1/events"+query+" HTTP/1.1\r\nHost: x\r\n"+header+"\r\n") }()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, status: resp.StatusCode, blocks: make(chan told, 4096), ended: make(chan struct{}), close: func() { _ = w.conn.Close() }}
	t.Cleanup(l.close)
	if resp.StatusCode != 200 {
		text, _ := io.ReadAll(resp.Body)
		l.body = string(text)
		return l
	}
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("content type %q", kind)
	}
	go l.read(resp.Body)
	return l
}

func (l *listener) read(body io.Reader) {
	defer close(l.ended)
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	var b told
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			b.id = value
		case "event":
			b.kind = value
		case "data":
			if err := json.Unmarshal([]byte(value), &b.event); err != nil {
				l.t.Errorf("data %q: %v", value, err)
			}
		case "":
			l.blocks <- b
			b = told{}
		}
	}
}

// heard returns the events that came until now, heartbeats apart, and the last id.
func (l *listener) heard() (events []told, last string) {
	time.Sleep(2 * eventPause) // virtual
	synctest.Wait()
	for {
		select {
		case b := <-l.blocks:
			if b.id != "" {
				last = b.id
			}
			if b.kind != "" {
				events = append(events, b)
			}
		default:
			return events, last
		}
	}
}

func (l *listener) over() bool {
	synctest.Wait()
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func eventNames(events []told) (out []string) {
	for _, e := range events {
		if e.kind != e.event.Type {
			out = append(out, fmt.Sprintf("%s is not %s", e.kind, e.event.Type))
		}
		out = append(out, e.event.Action+" "+e.event.Subject)
	}
	return out
}

// banAgent has the fake cluster ban an agent.
func (f *fixture) banAgent(id string) {
	f.t.Helper()
	rec := f.admin("POST", "/v1/blacklist", client.BanRequest{AgentID: id, ReasonCode: "manual_review", Reason: "reason",
		EvidenceSHA256: strings.Repeat("ab", 32), ReporterID: "op"})
	if rec.Code != 201 {
		f.t.Fatalf("ban: %d %s", rec.Code, rec.Body)
	}
}

func (f *fixture) liftAgent(id string) {
	f.t.Helper()
	if rec := f.admin("DELETE", "/v1/blacklist/agents/"+id, client.LiftRequest{Reason: "reason"}); rec.Code != 200 {
		f.t.Fatalf("lift: %d %s", rec.Code, rec.Body)
	}
}

func streaming(t *testing.T, test func(t *testing.T, f *fixture, listen func(token, query, after string) *listener)) {
	f := newFixture(t)
	f.agent("a-1", fsm.AgentActive)
	synctest.Test(t, func(t *testing.T) {
		f.letStreamsLast()
		dial := serveInMemory(t, f.server.HTTPServer())
		test(t, f, func(token, query, after string) *listener { return f.listen(t, dial, token, query, after) })
		f.server.EndStreams()
	})
}

// letStreamsLast undoes what newFixture does. It is called in the bubble: its time
// would stand still while somebody waits on a channel from outside.
func (f *fixture) letStreamsLast() {
	f.server.closing, f.server.endStreams = make(chan struct{}), sync.Once{}
}

func TestEventsTellWhatIsCommitted(t *testing.T) {
	streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
		all, trust := listen(f.tokens[fsm.RoleViewer], "", ""), listen(f.tokens[fsm.RoleMesh], "", "")
		bans := listen(f.tokens[fsm.RoleViewer], "?types=ban", "")
		if got, id := all.heard(); len(got) != 0 || id == "" {
			t.Fatalf("at the start: %v, id %q", got, id)
		}
		f.banAgent("a-1")
		f.admin("POST", "/v1/tokens", client.TokenRequest{Role: "viewer"})
		f.liftAgent("a-1")
		f.admin("POST", "/v1/agents/a-1/suspend", nil)
		got, _ := all.heard()
		if len(got) != 4 {
			t.Fatal(eventNames(got))
		}
		want := []string{"ban a-1", "token_create " + got[1].event.Subject, "lift a-1", "agent_suspended a-1"}
		if !slices.Equal(eventNames(got), want) {
			t.Errorf("all: %v", eventNames(got))
		}
		for i, e := range got {
			if e.id == "" || e.event.Epoch != 1 || e.event.Index == 0 || e.event.AtMs == 0 || i > 0 && e.event.Index <= got[i-1].event.Index {
				t.Errorf("%+v", e)
			}
		}
		if chained, err := crypto.ParseBlacklistEvent(got[0].event.Event); err != nil || chained.AgentID != "a-1" || got[0].event.Seq != 1 {
			t.Errorf("the record of the chain: %s, %v", got[0].event.Event, err)
		}
		if got[1].event.Actor == nil || got[1].event.Actor.TokenID == "" {
			t.Errorf("no actor in %+v", got[1].event)
		}
		if got, id := trust.heard(); !slices.Equal(eventNames(got), []string{"ban a-1", "lift a-1"}) || id == "" {
			t.Errorf("who reads the chain alone heard %v, id %q", eventNames(got), id)
		}
		if got, _ := bans.heard(); !slices.Equal(eventNames(got), []string{"ban a-1"}) {
			t.Errorf("bans: %v", eventNames(got))
		}
	})
}

// TestEventsResumeWithoutGapOrDuplicate: from every single id that was told, and
// with pages smaller than what is missing.
func TestEventsResumeWithoutGapOrDuplicate(t *testing.T) {
	streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
		for i := range eventPage + 10 {
			f.admin("POST", "/v1/tokens", client.TokenRequest{Role: "viewer", Label: fmt.Sprint(i)})
			if i%3 == 0 {
				f.banAgent(fmt.Sprintf("x-%d", i))
			}
		}
		viewer := f.tokens[fsm.RoleViewer]
		first := listen(viewer, "", client.EventStart)
		all, last := first.heard()
		first.close()
		_, totals := f.node.history.Totals()
		if want := int(totals[fsm.StreamAdmin]); len(all) != want { // each ban has a record of both kinds, and is told once
			t.Fatalf("%d events from the beginning, want %d", len(all), want)
		}
		if last != all[len(all)-1].id {
			t.Errorf("the last id is %q", last)
		}
		for i := 0; i < len(all); i += 7 {
			l := listen(viewer, "", all[i].id)
			rest, _ := l.heard()
			l.close()
			if !slices.EqualFunc(rest, all[i+1:], func(a, b told) bool { return a.id == b.id && a.event.Index == b.event.Index }) {
				t.Fatalf("behind event %d: %d events, want %d", i, len(rest), len(all)-i-1)
			}
		}
		byQuery := listen(viewer, "?last_event_id="+all[3].id, "")
		if rest, _ := byQuery.heard(); len(rest) != len(all)-4 {
			t.Errorf("by the query: %d", len(rest))
		}
	})
}

func TestEventsResumeAtAReplicaThatLags(t *testing.T) {
	streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
		viewer := f.tokens[fsm.RoleViewer]
		l := listen(viewer, "", "")
		f.banAgent("a-1")
		got, id := l.heard()
		l.close()
		if len(got) != 1 {
			t.Fatal(eventNames(got))
		}
		f.node.mu.Lock()
		strong := f.node.strong
		f.node.mu.Unlock()
		if l := listen(viewer, "", id); l.status != 200 {
			t.Errorf("%d %s", l.status, l.body)
		}
		f.node.mu.Lock()
		if f.node.strong != strong {
			t.Error("a replica that has it asked the leader")
		}
		f.node.mu.Unlock()
		ahead := must(parseMark(id))
		ahead.seen[0]++
		if l := listen(viewer, "", ahead.String()); l.status != 409 || !strings.Contains(l.body, client.ReasonReset) {
			t.Errorf("an event that nobody has: %d %s", l.status, l.body)
		}
		if f.node.strong == strong {
			t.Error("what is not here was called lost without asking the cluster")
		}
	})
}

func TestEventIDsOfALostFutureAreRefused(t *testing.T) {
	streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
		viewer := f.tokens[fsm.RoleViewer]
		l := listen(viewer, "", client.EventStart)
		_, id := l.heard()
		m := must(parseMark(id))
		m.check[0] ^= 1
		for what, bad := range map[string]string{"another past": m.String()} {
			if l := listen(viewer, "", bad); l.status != 409 || !strings.Contains(l.body, client.ReasonReset) {
				t.Errorf("%s: %d %s", what, l.status, l.body)
			}
		}
		for _, bad := range []string{"x", "1-1-1-1", "2" + id[1:], id + "0", "01" + id[1:], "-1"} {
			if l := listen(viewer, "", bad); l.status != 422 {
				t.Errorf("%q: %d %s", bad, l.status, l.body)
			}
		}
	})
}

// TestEventsOfARecovery: an epoch whose history has what was told goes on, with
// the recovery as an event; one that lost it says reset and ends.
func TestEventsOfARecovery(t *testing.T) {
	for _, lost := range []bool{false, true} {
		streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
			viewer := f.tokens[fsm.RoleViewer]
			l := listen(viewer, "", "")
			f.banAgent("a-1")
			if got, _ := l.heard(); len(got) != 1 {
				t.Fatal(eventNames(got))
			}
			if lost {
				f.node.rewrite(t)
			}
			f.node.nowMs -= 1000 // what the leader then says is behind the cluster clock
			if res := f.admin("POST", "/v1/recover/clock", nil); res.Code != 200 {
				t.Fatalf("recover clock: %d %s", res.Code, res.Body)
			}
			got, _ := l.heard()
			if !lost && (len(got) != 1 || got[0].kind != client.EventRecovery || got[0].event.Epoch != 2 || l.over()) {
				t.Errorf("kept: %v, over %v", eventNames(got), l.over())
			}
			if lost && (len(got) != 1 || got[0].kind != client.EventReset || got[0].id != "" || !l.over()) {
				t.Errorf("lost: %v, over %v", eventNames(got), l.over())
			}
		})
	}
}

// rewrite makes the history another one, as a restore does.
func (n *fakeNode) rewrite(t *testing.T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh := fsm.NewMemoryHistory()
	_, totals := n.history.Totals()
	for r, err := range n.history.UpTo(totals) {
		if r.Index++; err != nil || fresh.Append(1, []fsm.Record{r}) != nil {
			t.Fatal("rewrite the history:", err)
		}
	}
	n.history = fresh
}

func TestEventsEnd(t *testing.T) {
	for what, end := range map[string]func(f *fixture, token string){
		"when the token is revoked": func(f *fixture, token string) {
			f.admin("DELETE", "/v1/tokens/"+must(crypto.ParseTokenText(token)).ID, nil)
		},
		"when the node stops serving": func(f *fixture, _ string) {
			f.node.mu.Lock()
			f.node.servingErr = &client.Error{Code: client.CodeUnavailable, Reason: "diverged", Detail: "d"}
			f.node.mu.Unlock()
			time.Sleep(eventLook) // nothing else wakes it
		},
		"on shutdown": func(f *fixture, _ string) { f.server.EndStreams() },
	} {
		streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
			token := f.makeToken(fsm.RoleViewer, 1)
			l := listen(token, "", "")
			l.heard()
			if l.over() {
				t.Fatal("it did not begin")
			}
			end(f, token)
			if l.heard(); !l.over() {
				t.Errorf("%s: it goes on", what)
			}
			if f.server.slots.tokens[classEvents][rankWork].Used() != 0 {
				t.Errorf("%s: the slot is still held", what)
			}
		})
	}
}

func TestEventsAreBounded(t *testing.T) {
	streaming(t, func(t *testing.T, f *fixture, listen func(token, query, after string) *listener) {
		viewer := f.tokens[fsm.RoleViewer]
		for range classSizes[classEvents][rankWork] / 2 {
			if l := listen(viewer, "", ""); l.status != 200 {
				t.Fatal(l.status, l.body)
			}
		}
		if l := listen(viewer, "", ""); l.status != 503 || !strings.Contains(l.body, client.CodeOverloaded) {
			t.Errorf("one too many of a token: %d %s", l.status, l.body)
		}
		if l := listen(f.tokens[fsm.RoleAdmin], "", ""); l.status != 200 {
			t.Errorf("another token: %d %s", l.status, l.body)
		}
	})
}

func TestEventsBeatAndCutSlowReaders(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.letStreamsLast()
		dial := serveInMemory(t, f.server.HTTPServer())
		l := f.listen(t, dial, f.tokens[fsm.RoleViewer], "", "")
		l.heard()
		time.Sleep(eventBeat + 2*eventLook)
		synctest.Wait()
		if len(l.blocks) == 0 {
			t.Error("no heartbeat")
		}
		slow := dial("192.0.2.2:1")
		_, _ = io.WriteString(slow.conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+f.tokens[fsm.RoleAdmin]+"\r\n\r\n")
		synctest.Wait() // nobody reads the pipe: the very first write waits
		time.Sleep(eventWrite + time.Second)
		synctest.Wait()
		slots := f.server.slots.tokens[classEvents]
		if slots[rankWork].Used() != 1 || slots[rankRule].Used() != 0 {
			t.Error("a slow reader should have been cut off, and nobody else")
		}
		time.Sleep(2 * writeTimeout) // the server's own deadlines must not end a stream
		if l.over() {
			t.Error("a quiet stream ended")
		}
		f.server.EndStreams()
	})
}

func TestEventTypeOfActions(t *testing.T) {
	for action, want := range map[string]string{"agent_rekey": client.EventKey, "agent_approve": client.EventAgent, "token_revoke": client.EventToken,
		"coordinator_join": client.EventMembership, "something_new": client.EventAdmin} {
		if got := typeOfAction(action); got != want {
			t.Errorf("%s: %s, want %s", action, got, want)
		}
	}
}

func TestEventTypesNeedTheirCapability(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		role  fsm.Role
		types string
		code  string
		field string
	}{
		{fsm.RoleMesh, "ban,token", client.CodeForbidden, ""},
		{fsm.RoleVerifier, "agent", client.CodeForbidden, ""},
		{fsm.RoleViewer, "ban,nonsense", client.CodeInvalid, "types"},
		{fsm.RoleViewer, "ban,", client.CodeInvalid, "types"},
	} {
		rec := f.do(ask{method: "GET", path: "/v1/events?types=" + c.types, token: f.tokens[c.role]})
		wantProblem(t, rec, c.code, c.field)
	}
	if rec := f.do(ask{method: "HEAD", path: "/v1/events", token: f.tokens[fsm.RoleViewer]}); rec.Code != 405 {
		t.Errorf("HEAD: %d", rec.Code)
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add(place{seen: [2]uint64{3, 9}}.mark(2).String())
	f.Add("1-0-0-0-0000000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := parseMark(text); err == nil && m.String() != text {
			t.Errorf("%q reads as %s", text, m)
		}
	})
}
