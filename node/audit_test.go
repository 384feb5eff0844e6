package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestAuditOfTheWholeCluster: what one node saw is found at every other one, a
// node that is away is named, and each log verifies against the head it told.
func TestAuditOfTheWholeCluster(t *testing.T) {
	heavy(t)
	c := newTrio(t, 3)
	ctx := t.Context()
	made := c.token("viewer", -1)
	_, _ = c.client(1, made[:len(made)-1]+"x").Status(ctx) // refused at n2
	a := c.enroll(2, "agent-1")
	verifier := c.client(2, c.admin)
	req := a.request(t, "0123456789abcdef0123456789abcdef")
	for range 5 {
		req.ClaimID = client.NewClaimID()
		if _, err := verifier.Admit(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	find := func(i int, typ string) (out client.AuditEvents) {
		t.Helper()
		c.eventually("events of type "+typ, func() bool {
			var err error
			out, err = c.client(i, c.admin).AuditEvents(ctx, client.AuditQuery{Type: typ, Limit: 100})
			return err == nil && len(out.Events) > 0
		})
		return out
	}
	ids := []string{c.nodes[0].id.NodeID, c.nodes[1].id.NodeID, c.nodes[2].id.NodeID}
	for i := range c.nodes {
		if e := find(i, "failed_auth").Events[0]; e.Node != ids[1] || e.Code != client.CodeUnauthorized {
			t.Errorf("seen from n%d: %+v", i+1, e)
		}
		if e := find(i, "replay_attempt").Events[0]; e.Node != ids[2] || e.Actor.ID != "agent-1" || !e.Actor.Proved {
			t.Errorf("seen from n%d: %+v", i+1, e)
		}
		if e := find(i, "member_join").Events; len(e) != 2 || e[0].Actor.Kind != "token" {
			t.Errorf("seen from n%d: %+v", i+1, e)
		}
	}
	c.walkAudit(ctx)

	heads, err := c.client(0, c.admin).AuditHeads(ctx)
	if err != nil || len(heads.Heads) != 3 || len(heads.Unreachable) != 0 {
		t.Fatalf("%+v, %v", heads, err)
	}
	if err := c.nodes[2].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = nil
	c.eventually("the node that is away is named", func() bool {
		out, err := c.client(0, c.admin).AuditEvents(ctx, client.AuditQuery{Limit: 1})
		return err == nil && len(out.Unreachable) == 1 && out.Unreachable[0].Node == ids[2]
	})
	for _, h := range heads.Heads {
		if h.Node != ids[2] {
			continue
		}
		dir := audit.Dir(c.cfgs[2].DataDir)
		if r, err := audit.Verify(dir, audit.Head{Seq: h.Seq, Hash: h.Hash}); err != nil || len(r.Faults) > 0 || r.Node != ids[2] {
			t.Errorf("the log of n3: %+v, %v", r, err)
		}
		info, err := os.Stat(filepath.Join(dir, h.File))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// walkAudit pages through everything and wants each event once.
func (c *trio) walkAudit(ctx context.Context) {
	c.t.Helper()
	seen := map[string]bool{}
	q := client.AuditQuery{SinceMs: 1, Limit: 3}
	for {
		page, err := c.client(1, c.admin).AuditEvents(ctx, q)
		if err != nil || len(page.Unreachable) > 0 {
			c.t.Fatalf("%+v, %v", page.Unreachable, err)
		}
		for _, e := range page.Events {
			key := fmt.Sprint(e.Node, e.Seq)
			if seen[key] {
				c.t.Fatalf("%s twice", key)
			}
			seen[key] = true
		}
		if q.Cursor = page.Next; !page.More {
			break
		}
	}
	if len(seen) < 10 {
		c.t.Errorf("only %d events", len(seen))
	}
}

// answerOf is the answer of a node with events at the given times.
func answerOf(id string, times ...int64) auditAnswer {
	a := auditAnswer{node: fsm.Coordinator{ID: id}, reply: auditReply{Through: uint64(len(times)), Seq: uint64(len(times))}}
	for i, at := range times {
		a.lines = append(a.lines, client.AuditEvent{Node: id, Seq: uint64(i + 1), TimeMs: at})
	}
	return a
}

func TestAuditMergeKeepsOrderAndPlaces(t *testing.T) {
	a, b := answerOf("a", 1, 4, 2), answerOf("b", 1, 3)
	away := auditAnswer{node: fsm.Coordinator{ID: "c"}, err: context.DeadlineExceeded}
	for _, tc := range []struct {
		limit  int
		newest bool
		want   string
		places string
		more   bool
	}{
		{10, false, "a1 b1 b2 a2 a3 ", `{"a":3,"b":2,"c":9}`, false},
		{3, false, "a1 b1 b2 ", `{"a":1,"b":2,"c":9}`, true},
		{2, true, "a3 b2 ", `{"a":3,"b":2,"c":9}`, false},
	} {
		places := auditPlaces{Seq: map[string]uint64{"c": 9, "gone": 4}}
		out := mergeAudit([]auditAnswer{a, b, away}, places, tc.limit, tc.newest)
		got := ""
		for _, e := range out.Events {
			got += fmt.Sprint(e.Node, e.Seq, " ")
		}
		next, err := parsePlaces(out.Next)
		text, _ := json.Marshal(next.Seq)
		if err != nil || got != tc.want || string(text) != tc.places || out.More != tc.more || len(out.Unreachable) != 1 || out.Unreachable[0].Node != "c" {
			t.Errorf("limit %d: %q, places %s (%v), %+v", tc.limit, got, text, err, out)
		}
	}
}

// TestAuditLiarHidesNobody: a node whose events are all of long ago, or of the
// far future, takes no more of a page than leaves room for the others.
func TestAuditLiarHidesNobody(t *testing.T) {
	var many []int64
	for i := range 100 {
		many = append(many, int64(i))
	}
	honest := answerOf("honest", 1000, 1001, 1002)
	for _, newest := range []bool{false, true} {
		liar := answerOf("liar", many...)
		for i := range liar.lines {
			if newest {
				liar.lines[i].TimeMs += 1 << 50
			}
		}
		places := auditPlaces{Seq: map[string]uint64{}}
		out := mergeAudit([]auditAnswer{honest, liar}, places, 20, newest)
		told := 0
		for _, e := range out.Events {
			if e.Node == "honest" {
				told++
			}
		}
		if told != 3 || len(out.Events) != 20 {
			t.Errorf("newest %t: %d of 3 honest events in a page of %d", newest, told, len(out.Events))
		}
	}
}

// TestAuditTailSkipsThePastOfWhoWasAway: what a node noted before a tail began is
// not told as news when it comes back; what it noted since is.
func TestAuditTailSkipsThePastOfWhoWasAway(t *testing.T) {
	away := auditAnswer{node: fsm.Coordinator{ID: "c"}, err: context.DeadlineExceeded}
	out := mergeAudit([]auditAnswer{answerOf("a", 1), away}, auditPlaces{Seq: map[string]uint64{}, SinceMs: 77}, 10, true)
	next, err := parsePlaces(out.Next)
	if _, known := next.Seq["c"]; err != nil || known || next.SinceMs != 77 || next.Seq["a"] != 1 {
		t.Errorf("%+v, %v", next, err)
	}
}

func TestAuditNobodySpeaksForAnotherNode(t *testing.T) {
	l, err := audit.Open(audit.Options{Dir: t.TempDir(), Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Commit(t.Context(), audit.Event{Type: "ban"}); err != nil {
		t.Fatal(err)
	}
	page, err := l.Read(t.Context(), audit.Query{Limit: 1, Bytes: 1})
	if err != nil || len(page.Lines) != 1 {
		t.Fatal(page, err)
	}
	own := auditAnswer{node: fsm.Coordinator{ID: "a"}, reply: auditReply{Lines: page.Lines, Seq: 1}}
	if got, err := own.decode(auditRequest{Limit: 1}); err != nil || len(got) != 1 || got[0].Type != "ban" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := own.decode(auditRequest{Limit: 1, After: 1}); err == nil {
		t.Error("a line that was told before")
	}
	other := auditAnswer{node: fsm.Coordinator{ID: "b"}, reply: auditReply{Lines: page.Lines, Seq: 1}}
	if got, err := other.decode(auditRequest{Limit: 1}); err == nil {
		t.Errorf("node b spoke for a: %+v", got)
	}
	own.reply.Lines = append(page.Lines, page.Lines[0])
	if _, err := own.decode(auditRequest{Limit: 1}); err == nil {
		t.Error("more lines than asked for")
	}
	if _, err := own.decode(auditRequest{Limit: 2}); err == nil {
		t.Error("the same line twice")
	}
	own.reply.Lines = page.Lines[:1]
	page.Lines[0][40] ^= 1
	if _, err := own.decode(auditRequest{Limit: 2}); err == nil {
		t.Error("a line that is not what its hash was made of")
	}
}

func FuzzAuditCursor(f *testing.F) {
	f.Add(auditPlaces{Seq: map[string]uint64{"a": 1, "b": 1 << 60}, SinceMs: 5}.String())
	f.Add("e30")
	f.Add("!")
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := parsePlaces(cursor)
		if err != nil {
			return
		}
		again, err := parsePlaces(p.String())
		if err != nil || again.String() != p.String() || len(p.Seq) > maxPlaces {
			t.Fatalf("%q: %v, %v", cursor, again, err)
		}
	})
}
