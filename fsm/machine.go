package fsm

import (
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/hashicorp/raft"
)

// Machine is the one place that knows raft's types: it feeds the log to a
// State and lets others read it.
type Machine struct {
	mu      sync.RWMutex // guards state: raft's apply loop writes, readers read
	state   *State
	changed chan struct{} // closed and replaced after each apply; guarded by mu

	history History
	applied func(Result, Kind) // observer for metrics and hints, called in the apply loop
}

// NewMachine returns a machine before genesis. The observer may be nil; it
// must not block.
func NewMachine(history History, observer func(Result, Kind)) *Machine {
	if observer == nil {
		observer = func(Result, Kind) {}
	}
	return &Machine{state: NewState(), changed: make(chan struct{}), history: history, applied: observer}
}

// Apply implements raft.FSM. A broken log is a panic: a replica that skipped
// what others applied would answer wrongly for ever.
func (m *Machine) Apply(l *raft.Log) any {
	cmd, err := DecodeCommand(l.Data)
	if err != nil {
		panic(fmt.Sprintf("log index %d: %v", l.Index, err))
	}
	cmd.Term = l.Term
	m.mu.Lock()
	res, records, err := m.state.Apply(l.Index, cmd)
	if err == nil && len(records) > 0 {
		err = m.history.Append(records)
	}
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if err != nil {
		panic(err.Error())
	}
	m.applied(res, cmd.Kind)
	return res
}

// Snapshot implements raft.FSM: it freezes the state, Persist writes it while
// Apply goes on.
func (m *Machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock() // Freeze brings lazily kept digests up to date
	defer m.mu.Unlock()
	frozen := m.state.Freeze()
	if plantOldSnapshot {
		frozen = plantedFrozen(frozen) // planted: of another index than raft files it under
	}
	return &machineSnapshot{frozen: frozen, history: m.history.UpTo(frozen.Index())}, nil
}

// Restore implements raft.FSM: it replaces state and history by a snapshot's.
// Nothing changes unless the whole snapshot is sound.
func (m *Machine) Restore(in io.ReadCloser) error {
	defer in.Close()
	var records []Record
	s, err := ReadSnapshot(in, func(r Record) error { records = append(records, r); return nil })
	if err != nil {
		return err
	}
	if err := m.replace(s, records); err != nil {
		return err
	}
	m.applied(Result{Code: CodeOK, Index: s.Index()}, KindRestored)
	return nil
}

func (m *Machine) replace(s *State, records []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.history.Replace(records); err != nil {
		return err
	}
	m.state = s
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

// Read calls f with the state, which f must neither change nor keep.
func (m *Machine) Read(f func(*State)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state)
}

// Index returns the log index that the state reflects, and a channel that is
// closed once it has moved on.
func (m *Machine) Index() (uint64, <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.Index(), m.changed
}

// FieldDigests returns the digest of each field at the same index.
func (m *Machine) FieldDigests() (uint64, map[string]string) {
	m.mu.Lock() // digests of rate windows are brought up to date
	defer m.mu.Unlock()
	return m.state.Index(), m.state.FieldDigests()
}

// History returns the records that were handed out.
func (m *Machine) History() History { return m.history }

type machineSnapshot struct {
	frozen  *Frozen
	history iter.Seq2[Record, error]
}

// Persist implements raft.FSMSnapshot. On error the sink is cancelled, so that
// raft never takes half a snapshot for a whole one.
func (s *machineSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.frozen.Write(sink, s.history); err != nil {
		_ = sink.Cancel() // the write error is the one to report
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *machineSnapshot) Release() {}
