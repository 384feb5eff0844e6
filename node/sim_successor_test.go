package node

import (
	"context"
	"strings"
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

// TestSimWrongClockDoesNotStay: a node whose clock is wrong wins elections as soon
// as any other, and leadership leaves it at once each time, whoever led lately.
// Nobody can ask for it either.
func TestSimWrongClockDoesNotStay(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1, 3, simDir(t))
		defer w.end()
		wrong := w.leader()
		wrong.clock.move(-time.Hour)
		time.Sleep(5 * time.Second)
		if err := w.leader().running().node.TransferLeadership(t.Context(), wrong.running().node.id.NodeID); err == nil || !strings.Contains(err.Error(), "straight back") {
			t.Errorf("a transfer to a clock that is an hour off: %v", err)
		}
		for range 3 { // whoever led is killed, and comes back
			s := w.leader()
			if s == wrong {
				t.Fatal("the wrong clock leads")
			}
			if err := s.kill(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if err := s.start(context.Background()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for !w.stamps() {
				if time.Since(began) > 5*time.Second {
					t.Fatalf("%s after all are back nobody stamps", time.Since(began))
				}
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(time.Second)
		}
	})
}

// stamps tells whether somebody leads, and may stamp.
func (w *simWorld) stamps() bool {
	for _, s := range w.sorted() {
		p := s.running()
		if p == nil {
			continue
		}
		if l := p.node.lead.Load(); l != nil {
			select {
			case <-l.ready:
				return p.node.clockRefuses(l) == nil
			default:
			}
		}
	}
	return false
}
