package node

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestBookNeverForgets: a state that was restored from an old snapshot knows
// fewer members than the file did before the restart; it must not win.
func TestBookNeverForgets(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	b := openAddressBook(dir, log)
	newer := map[string]peerAddress{"a": {Name: "a", Raft: "h:1"}, "b": {Name: "b", Raft: "h:2"}}
	b.record(memberFile{Index: 20, Members: newer})
	b.record(memberFile{Index: 10, Members: map[string]peerAddress{"a": newer["a"]}})
	again := openAddressBook(dir, log)
	if _, asOf, known := again.recordOf("b"); !known || asOf != 20 {
		t.Errorf("b is known: %t, as of %d", known, asOf)
	}
	again.record(memberFile{Index: 30, Members: map[string]peerAddress{"b": newer["b"]}})
	if _, asOf, known := again.recordOf("a"); known || asOf != 30 {
		t.Errorf("a, removed at 30, is known: %t, as of %d", known, asOf)
	}
}

// TestBookKnowsWhoIsAtAnAddress: from records, from gossip, by what it proved, and
// after a restart.
func TestBookKnowsWhoIsAtAnAddress(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	b := openAddressBook(dir, log)
	b.record(memberFile{Index: 1, Members: map[string]peerAddress{"a": {API: "192.0.2.1:1", Raft: "[2001:db8::7]:2"}, "c": {Raft: "192.0.2.1:3"}}})
	b.hear("a", peerAddress{Raft: "a.example:2", Gossip: "a.example:3", Reached: "192.0.2.2:3"})
	b.meet("b", netip.MustParseAddr("192.0.2.3"))
	b.meet("b", netip.MustParseAddr("192.0.2.4"))
	check := func(b *addressBook, want map[string][]string) {
		t.Helper()
		for at, ids := range want {
			if got := slices.Sorted(slices.Values(b.at(netip.MustParseAddr(at)))); !slices.Equal(got, ids) {
				t.Errorf("at %s: %v", at, got)
			}
		}
	}
	check(b, map[string][]string{"192.0.2.1": {"a", "c"}, "2001:db8::": {"a"}, "192.0.2.2": {"a"}, "192.0.2.3": nil, "192.0.2.4": {"b"}})
	check(openAddressBook(dir, log), map[string][]string{"192.0.2.1": {"a", "c"}, "2001:db8::": {"a"}, "192.0.2.2": nil})
	b.record(memberFile{Index: 2, Members: map[string]peerAddress{"c": {Raft: "192.0.2.9:3"}}})
	check(b, map[string][]string{"192.0.2.1": nil, "192.0.2.9": {"c"}})
}

// TestQuorumWithAJoinerNobodyApplied: two voters of three are up, one of them
// joined after what the other has applied. Without trust in its own log that one
// would refuse the only majority there is, for ever (found by chaos).
func TestQuorumWithAJoinerNobodyApplied(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	cfg := testConfig(t, "n3")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
	c.cfgs = append(c.cfgs, cfg)
	c.start(2)
	c.eventually("three vote", func() bool { return len(voters(c.nodes[1].servers())) == 3 && c.allReady() })
	c.stopAll()
	if err := os.Remove(filepath.Join(c.cfgs[1].DataDir, filePeers)); err != nil {
		t.Fatal(err)
	}
	c.nodes[0] = nil
	started := make(chan *Node, 2)
	for i := 1; i <= 2; i++ {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			n, err := Start(ctx, c.cfgs[i])
			if err != nil {
				t.Error(err)
			}
			started <- n
		}()
	}
	c.nodes[1], c.nodes[2] = <-started, <-started
	if t.Failed() {
		t.FailNow()
	}
	c.eventually("the two have a leader", func() bool { return c.leader() > 0 && c.allReady() })
	c.nodes[1].machine.Read(func(s *fsm.State) {
		if len(s.Coordinators()) != 3 {
			t.Errorf("%d coordinators", len(s.Coordinators()))
		}
	})
}
