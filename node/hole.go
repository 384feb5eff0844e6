package node

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A restore takes a log index without an entry: the snapshot stands there, and the
// leader that made it writes on behind. To its own followers that hole says that
// they need the snapshot. But a follower with such a hole, whose cluster went on
// without the restore, has to learn that another entry belongs there: raft asks
// for the entry to compare the terms, finds none, refuses, and is asked the same
// again for ever. If the two of them are all there is of a majority, that is the end.
//
// So a follower is told the term of what stands in the hole, which is the
// snapshot's; raft then cuts off the end, as it does with all that was never committed.

// holeLog is raft's log store to a node that may have such a hole.
type holeLog struct {
	raft.LogStore
	newest func() (index, term uint64) // of the newest snapshot; zeros without one
	halt   func(error) error           // ends the node for a new start

	state atomic.Pointer[func() raft.RaftState] // nil until raft runs
	led   atomic.Bool                           // this process was a leader: some of its replication may still ask

	now         func() time.Time
	mu          sync.Mutex
	first, last time.Time // of questions that followed each other
}

// holePatience is longer than a majority needs to tell that the restore was passed
// over (a ping), and than raft waits between two tries.
const holePatience = 5 * time.Second

// GetLog implements raft.LogStore.
func (s *holeLog) GetLog(index uint64, l *raft.Log) error {
	err := s.LogStore.GetLog(index, l)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	state := s.state.Load()
	if state == nil || (*state)() == raft.Leader {
		return err
	}
	at, term := s.newest()
	if at != index {
		return err
	}
	first, firstErr := s.LogStore.FirstIndex()
	last, lastErr := s.LogStore.LastIndex()
	if failed := errors.Join(firstErr, lastErr); failed != nil {
		return failed
	}
	if first > index || last < index { // compacted, or the snapshot is the end
		return err
	}
	if s.led.Load() { // what led sends entries on for a moment, and must not send one that is none
		if !s.stuck() {
			return err
		}
		return s.halt(fmt.Errorf("a leader without the restore at index %d wants another entry there", index))
	}
	*l = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
	return nil
}

// stuck tells whether raft has asked in vain for so long that no majority of
// others will tell this node what became of its restore.
func (s *holeLog) stuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.first.IsZero() || now.Sub(s.last) > holePatience {
		s.first = now
	}
	s.last = now
	return now.Sub(s.first) > holePatience
}

// follow is called once raft runs. It learns of each leadership before raft sends
// a first entry in it: raft calls an observer's filter as the state changes.
func (s *holeLog) follow(r *raft.Raft) {
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if o.Data == raft.Leader {
			s.led.Store(true)
		}
		return false
	}))
	state := r.State
	s.state.Store(&state)
}

// IsMonotonic implements raft.MonotonicLogStore as the store beneath does.
func (s *holeLog) IsMonotonic() bool {
	m, ok := s.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// newestSnapshot is where the newest snapshot stands.
func (n *Node) newestSnapshot() (index, term uint64) {
	all, err := n.store.Snapshots.List()
	if err != nil || len(all) == 0 {
		return 0, 0
	}
	return all[0].Index, all[0].Term
}
