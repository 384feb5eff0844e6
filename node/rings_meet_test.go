package node

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// TestP5CosignersFollowASoleCoordinator: with its key the set changes, vouched for by the key before, and checkpoints go on.
func TestP5CosignersFollowASoleCoordinator(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	c.allHave(0, 1)
	first := n.epochNow()
	if _, err := c.client(0, c.admin).RotateKey(t.Context(), "coordinator/"+n.id.NodeID, client.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the set names the new key", func() bool {
		key, signs := n.signingPublic()
		return signs && key != first.set.Cosigners[0] && n.epochNow().cosigners().Has(key)
	})
	next := n.epochNow()
	if err := first.cosigners().Verify(next.set.Signed(next.cluster)); err != nil || next.set.Version != first.set.Version+1 {
		t.Errorf("version %d follows %d: %v", next.set.Version, first.set.Version, err)
	}
	c.ban(0, "agent-1")
	c.allHave(1, 1)
	// A key whose window is over stays while the set in force names it: it vouches for the next one.
	st, clock := n.standing(fsm.CoordinatorSubject(n.id.NodeID))
	st.Ring = slices.Clone(st.Ring)
	for i := range st.Ring {
		st.Ring[i].NotAfterMs = clock - 1
	}
	if err := n.dropEndedKeys(st, clock); err != nil {
		t.Fatal(err)
	}
	if !n.signer.holds(next.set.Cosigners[0]) || n.signer.holds(first.set.Cosigners[0]) {
		t.Error("it kept the wrong key")
	}
}

// sharesWith tells whether an edge holds what a node holds of the keys that all share, and uses the same ones.
func (e *Edge) sharesWith(n *Node) bool {
	mine, its := e.shared.Load(), n.shared.Load()
	same := func(a, b gossip.AckID) int { return slices.Compare(a[:], b[:]) }
	return mine.active().id() == its.active().id() && slices.Equal(mine.ring[0], its.ring[0]) &&
		slices.Equal(slices.SortedFunc(slices.Values(mine.acks()), same), slices.SortedFunc(slices.Values(its.acks()), same))
}

// TestP5EdgeFollowsSharedKeys: an edge takes up gossip keys and CAs as coordinators do, without a restart; one that was away while all it
// knew was replaced comes back by the TLS keys that it remembers.
func TestP5EdgeFollowsSharedKeys(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 2)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	cfg := edgeTestConfig(t, c, "e1", c.token("edge", 1))
	cfg.Join = cfg.Join[:1]
	e := startEdge(t, cfg)
	shared := []fsm.Subject{caSubject, gossipSubject}
	for _, of := range shared {
		c.overlapOf(of, 10*time.Second)
	}
	rotate := func() map[fsm.Subject]crypto.Hash {
		t.Helper()
		before := map[fsm.Subject]crypto.Hash{}
		for _, of := range shared {
			before[of] = c.activeKey(of)
			if res := c.asAdmin(fsm.KeyRotate{Subject: of.String()}); !res.OK() {
				t.Fatalf("rotate %s: %+v", of, res)
			}
		}
		for of, key := range before {
			c.rotated(of, key)
		}
		return before
	}
	first := rotate()
	c.within(rotationPatience, "the edge holds what the coordinators hold", func() bool { return e.sharesWith(c.nodes[0]) })
	for _, n := range c.nodes {
		c.eventually("each coordinator hears what the edge holds", func() bool {
			return slices.ContainsFunc(n.pool.Members(), func(m gossip.Member) bool {
				return m.Card.NodeID == e.id.NodeID && slices.Equal(m.Holds, e.shared.Load().acks())
			})
		})
	}
	c.eventually("it is a member, and its reports arrive", func() bool {
		return slices.ContainsFunc(c.nodes[0].pool.Members(), func(m gossip.Member) bool { return m.Card.NodeID == e.id.NodeID && m.State == gossip.StateAlive })
	})
	if err := e.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, ended := range []map[fsm.Subject]crypto.Hash{first, rotate()} {
		for of, key := range ended {
			c.forgotten(of, key)
		}
	}
	cfg.JoinToken = ""
	again := startEdge(t, cfg)
	c.eventually("who was away is back", func() bool { return again.sharesWith(c.nodes[0]) })
}

// TestEdgesAreNotToldWhatACompromisedNodeMustNotKnow: it may have edges of its own until it is removed.
func TestEdgesAreNotToldWhatACompromisedNodeMustNotKnow(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	l := n.lead.Load()
	l.rotating.Lock() // nothing is switched to meanwhile
	told := func() (out *sharedSet) {
		n.machine.Read(func(s *fsm.State) { out = n.shared.Load().forEdges(s) })
		return out
	}
	for _, of := range []fsm.Subject{caSubject, gossipSubject} {
		if _, err := n.prepareShared(t.Context(), l, of, 0, "ghost"); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the node holds both", func() bool { s := n.shared.Load(); return len(s.cas) == 2 && len(s.ring) == 2 })
	if s := told(); len(s.cas) != 1 || len(s.ring) != 1 || len(s.active().Key) != 0 {
		t.Errorf("an edge is told of %d CAs and %d gossip keys", len(s.cas), len(s.ring))
	}
	l.rotating.Unlock()
	c.eventually("edges are told what is in force", func() bool { s := told(); return len(s.cas) == 2 && len(s.ring) == 2 })
}

// TestKeysThatCouldNotBeShownAreShownLater: a set that is kept already, and that TLS did not take.
func TestKeysThatCouldNotBeShownAreShownLater(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	due := func(change func()) bool {
		n.sharing.Lock()
		defer n.sharing.Unlock()
		change()
		return n.shownDue
	}
	failed := due(func() {
		if err := n.adopt(n.shared.Load(), chains{peer: n.creds.cert.Load().Certificate, face: [][]byte{{1}}}); err == nil {
			t.Error("a chain that does not parse is shown")
		}
	})
	if !failed {
		t.Error("what could not be shown is not due")
	}
	c.eventually("it is shown", func() bool { return !due(func() {}) })
}
