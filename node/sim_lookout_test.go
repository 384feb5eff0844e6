package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSimFailoverBesideAFullDisk: one follower's disk is full and the leader dies.
// The follower with room leads before raft's own timers notice, for the full one
// does not wait longer than others.
func TestSimFailoverBesideAFullDisk(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1, 3, simDir(t))
		defer w.end()
		lead := w.leader()
		var others []*simServer
		for _, s := range w.sorted() {
			if s != lead {
				others = append(others, s)
			}
		}
		full, sound := others[0].running().node, others[1].running().node
		if full.id.NodeID < sound.id.NodeID { // by ids alone the full one would have the last turn, and lead
			others[0], others[1], full, sound = others[1], others[0], sound, full
		}
		others[0].disk.full.Store(true)
		w.eventually("the full disk is known", func() bool { return full.lookout.shy.Load() && sound.isFull(full.id.NodeID) })
		if err := lead.kill(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for sound.lead.Load() == nil && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(began)
		t.Logf("another leader after %s", took)
		if most := LocalTiming().Silence + LocalTiming().Election/2; took > most {
			t.Errorf("nobody led for %s, want at most %s", took, most)
		}
	})
}

// leader is the server that leads.
func (w *simWorld) leader() (lead *simServer) {
	w.eventually("a leader", func() bool {
		for _, s := range w.sorted() {
			if p := s.running(); p != nil && p.node.lead.Load() != nil {
				lead = s
			}
		}
		return lead != nil
	})
	return lead
}
