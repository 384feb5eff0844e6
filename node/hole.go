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
	stored func([]*raft.Log) error     // called after entries were stored

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
	// Compacted; or the snapshot is the end, which raft knows, except for one whose
	// restore was the last thing that it did as the leader.
	if first > index || last < index && !s.led.Load() {
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

// StoreLog implements raft.LogStore.
func (s *holeLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *holeLog) StoreLogs(logs []*raft.Log) error {
	if err := s.LogStore.StoreLogs(logs); err != nil {
		return err
	}
	return s.stored(logs)
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

// disown is called when entries were stored. One in the place of a restore that
// nobody confirmed is the proof that it was passed over: from here on the log is
// the others', and the state must follow at once. Else this node could lead, and
// hand its snapshot on as if it were what the log leads to.
func (n *Node) disown(logs []*raft.Log) error {
	a, waits := n.arrivedEpoch()
	if !waits {
		return nil
	}
	at, term := n.newestSnapshot()
	for _, l := range logs {
		if l.Index != at || l.Term == term {
			continue
		}
		if err := n.store.CanUndo(a.epoch); err != nil {
			return nil // judgeEpoch takes the long way
		}
		if err := n.rememberUndo(a.epoch); err != nil {
			n.log.Error("cannot note that this node undoes the restore", "error", err)
			return nil
		}
		n.fail(undone(a.epoch))
		<-n.ending // raft must do nothing more with this state
		return undone(a.epoch)
	}
	return nil
}

// disowned tells whether this node's own log has another entry in the place of
// the snapshot that brought its state.
func (n *Node) disowned() bool {
	at, term := n.newestSnapshot()
	var l raft.Log
	return at > 0 && n.store.Logs.GetLog(at, &l) == nil && l.Term != term
}

// newestSnapshot is where the newest snapshot stands.
func (n *Node) newestSnapshot() (index, term uint64) {
	all, err := n.store.Snapshots.List()
	if err != nil || len(all) == 0 {
		return 0, 0
	}
	return all[0].Index, all[0].Term
}
