package node

import (
	"errors"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/store"
)

// TestSnapshotOutranksATail: a node comes back with entries of an old term that
// nobody else has, across the place that a restore took. raft leaves them, refuses
// all that follows the snapshot and is sent it again, for ever.
func TestSnapshotOutranksATail(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	path := c.save(0)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	away, other := (lead+1)%3, raft.ServerID(c.nodes[(lead+2)%3].id.NodeID)
	term := c.nodes[away].raft.CurrentTerm()
	if err := c.nodes[away].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[away] = nil
	addTail(t, c.cfgs[away].DataDir, term, 2000)
	c.eventually("another term", func() bool {
		if c.leader() == lead {
			_ = c.nodes[lead].raft.LeadershipTransferToServer(other, raft.ServerAddress(other)).Error()
		}
		l := c.leader()
		return l >= 0 && c.nodes[l].raft.CurrentTerm() > term
	})
	c.restore(path, true)
	c.start(away)
	n := c.nodes[away]
	c.awaitEnd("it ends, to start again", n)
	if err := n.Err(); !errors.Is(err, ErrResync) || n.id.Resync {
		t.Fatalf("it ended with %v, resync %t", err, n.id.Resync)
	}
	c.start(away)
	c.inEpoch(2)
}

// addTail gives a stopped node entries that it logged as a leader.
func addTail(t *testing.T, dir string, term uint64, count int) {
	t.Helper()
	s, err := store.Open(dir, store.Options{Keep: snapshotsKept})
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.Logs.LastIndex()
	var logs []*raft.Log
	for i := range count {
		logs = append(logs, &raft.Log{Index: last + 1 + uint64(i), Term: term, Type: raft.LogNoop})
	}
	if err := errors.Join(err, s.Logs.StoreLogs(logs), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// brokenLog fails when it is told to; a cut that fails has cut off one entry
// less than it should, or none.
type brokenLog struct {
	*raft.InmemStore
	store, cut error
	half       bool
}

func (l *brokenLog) StoreLogs(logs []*raft.Log) error {
	if l.store != nil {
		return l.store
	}
	return l.InmemStore.StoreLogs(logs)
}

func (l *brokenLog) DeleteRange(first, last uint64) error {
	if l.cut != nil && l.half {
		return errors.Join(l.cut, l.InmemStore.DeleteRange(first+1, last))
	}
	if l.cut != nil {
		return l.cut
	}
	return l.InmemStore.DeleteRange(first, last)
}

// TestCutWithoutSuccessor: raft goes on believing in the end of a log that it
// had cut off, if the entries for that place cannot be stored.
func TestCutWithoutSuccessor(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		spent       bool
		log         brokenLog
		first, last uint64
		cut, store  error // what raft is told
		halted      bool
		end         uint64 // of the log, after the cut
	}{
		"all is well":            {first: 6, last: 10, end: 5},
		"no room left":           {spent: true, first: 6, last: 10, cut: syscall.ENOSPC, end: 10},
		"no room left, compacts": {spent: true, first: 1, last: 5, store: syscall.ENOSPC, end: 10},
		"nothing was cut":        {log: brokenLog{cut: broken}, first: 6, last: 10, cut: broken, end: 10},
		"half of it was cut":     {log: brokenLog{cut: broken, half: true}, first: 6, last: 10, cut: broken, halted: true, end: 6},
		"cut, then not stored":   {log: brokenLog{store: broken}, first: 6, last: 10, store: broken, halted: true, end: 5},
		"compacts, not stored":   {log: brokenLog{store: broken}, first: 1, last: 5, store: broken, end: 10},
	} {
		t.Run(name, func(t *testing.T) {
			d := roomyDisk(t)
			tt.log.InmemStore = raft.NewInmemStore()
			for i := range uint64(10) {
				if err := tt.log.InmemStore.StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
					t.Fatal(err)
				}
			}
			halted := false
			log := &vitalLog{LogStore: &tt.log, disk: d, settle: func() error { return nil }, halt: func(err error) error { halted = true; return err }}
			if tt.spent && !d.NoSpace() {
				t.Fatal("no reserve")
			}
			if err := log.DeleteRange(tt.first, tt.last); !errors.Is(err, tt.cut) {
				t.Errorf("cut: %v, want %v", err, tt.cut)
			}
			if end, _ := tt.log.LastIndex(); end != tt.end {
				t.Errorf("the log ends at %d, want %d", end, tt.end)
			}
			if tt.cut == nil {
				if err := log.StoreLog(&raft.Log{Index: tt.end + 1, Term: 2}); !errors.Is(err, tt.store) {
					t.Errorf("stored: %v, want %v", err, tt.store)
				}
			}
			if halted != tt.halted {
				t.Errorf("halted %t, want %t", halted, tt.halted)
			}
			if tt.log.store = nil; !tt.spent && !tt.halted && tt.cut == nil && log.cut {
				t.Error("a cut is remembered for ever")
			}
		})
	}
}

func roomyDisk(t *testing.T) *disk {
	t.Helper()
	cfg := Config{DataDir: t.TempDir(), Name: "n", DiskReserve: 1 << 20}
	cfg.disk.statfs = func(string) (int64, int64, error) { return badDiskSize, badDiskSize, nil }
	d, err := openDisk(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.space.Check(); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestHaltKeepsRaftStill: from the decision on raft's loop does nothing, the node
// ends all the same, and it may start again at once.
func TestHaltKeepsRaftStill(t *testing.T) {
	c := newTrio(t, 1)
	n, why := c.nodes[0], errors.New("the log is another")
	done := make(chan error, 1)
	go func() { done <- n.halt(why) }()
	c.eventually("it ends", func() bool { return isOver(n) })
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("raft is told %v", err)
	}
	if err := n.Err(); !errors.Is(err, ErrResync) || !errors.Is(err, why) || n.raft.State() != raft.Shutdown {
		t.Errorf("it ended with %v, raft %v", err, n.raft.State())
	}
	c.start(0)
	c.eventually("it leads", func() bool { return c.leader() == 0 })
	if _, err := c.client(0, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); err != nil {
		t.Error(err)
	}
}

func isOver(n *Node) bool {
	select {
	case <-n.Done():
		return true
	default:
		return false
	}
}
