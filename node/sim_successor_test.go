package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimLeadershipGoesInNoCircles: one node's clock is an hour behind, another one's
// disk fills while it leads, then it is stopped. Leadership goes to the sound one
// each time, in one move.
func TestSimLeadershipGoesInNoCircles(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1, 3, simDir(t))
		defer w.end()
		first := w.leader()
		wrong, sound := w.servers["node2"], w.servers["node3"]
		if wrong == first {
			wrong = w.servers["node1"]
		}
		if sound == first {
			sound = w.servers["node1"]
		}
		if sound.running().node.id.NodeID < wrong.running().node.id.NodeID {
			wrong, sound = sound, wrong // the wrong one comes first by its id
		}
		wrong.clock.move(-time.Hour)
		time.Sleep(5 * time.Second)
		moves := func(what string, leave func()) {
			term := sound.running().node.raft.CurrentTerm()
			leave()
			time.Sleep(5 * time.Second)
			n := sound.running().node
			if now := n.raft.CurrentTerm(); now != term+1 || n.lead.Load() == nil || n.Ready() != nil {
				t.Errorf("%s: from term %d to %d, the sound node leads: %t", what, term, now, n.lead.Load() != nil)
			}
		}
		moves("a full disk", func() { first.disk.full.Store(true) })
		first.disk.full.Store(false)
		time.Sleep(5 * time.Second)
		if err := sound.running().node.TransferLeadership(t.Context(), first.running().node.id.NodeID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		moves("a stop", func() {
			if err := first.stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	})
}
