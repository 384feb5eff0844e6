package fsm

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
)

// Machine is the one place that knows raft's types: it feeds the log to a
// State and lets others read it.
type Machine struct {
	mu      sync.RWMutex // guards state: raft's apply loop writes, readers read
	state   *State
	changed chan struct{} // closed and replaced after each apply; guarded by mu

	fields  map[uint64]map[string]string // digests of the fields right after each mark that is kept; guarded by mu
	history History
	applied func(Result, Kind) // observer for metrics and hints, called in the apply loop
	before  func(*State)       // called with the state of a snapshot before others can read it

	outdated func(error) // told of a log that is of a newer binary
	stopped  bool        // it was: nothing is applied any more; the apply loop's own
}

// NewMachine returns a machine before genesis. The observer may be nil; it
// must not block.
func NewMachine(history History, observer func(Result, Kind)) *Machine {
	if observer == nil {
		observer = func(Result, Kind) {}
	}
	return &Machine{state: NewState(), changed: make(chan struct{}), fields: map[uint64]map[string]string{}, history: history, applied: observer,
		before: func(*State) {}}
}

// OnNewerLog has f called, in the apply loop, when the log holds what only a
// newer binary understands (ErrLevel). Nothing is applied from there on: f ends
// the node. Without it that is a panic, as is any log that cannot be read. To be
// set before any Apply.
func (m *Machine) OnNewerLog(f func(error)) { m.outdated = f }

// BeforeRestored has f called with the state of each snapshot before others can
// read it or its history, even if it does not get that far. f must neither block nor ask the machine. To be set before any Restore.
func (m *Machine) BeforeRestored(f func(*State)) { m.before = f }

// Apply implements raft.FSM. A broken log is a panic: a replica that skipped
// what others applied would answer wrongly for ever.
func (m *Machine) Apply(l *raft.Log) any {
	if m.stopped {
		return Result{}
	}
	res, err := m.apply(l)
	switch {
	case err == nil:
	case errors.Is(err, ErrLevel) && m.outdated != nil:
		m.stopped = true
		m.outdated(err)
	default:
		panic(err.Error())
	}
	return res
}

func (m *Machine) apply(l *raft.Log) (Result, error) {
	cmd, err := DecodeCommand(l.Data)
	if err != nil {
		return Result{}, fmt.Errorf("log index %d: %w", l.Index, err)
	}
	cmd.Term = l.Term
	m.history.Room() // here, not in Append: readers need not wait for a disk that hangs
	m.mu.Lock()
	res, records, err := m.state.Apply(l.Index, cmd)
	if err == nil && cmd.Kind == KindTick {
		m.rememberFields()
	}
	if err == nil && len(records) > 0 {
		if err = m.history.Append(m.state.meta.v.Epoch, records); plantBlindHistory {
			err = nil // planted: what the history would find is the judges' to find
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	m.applied(res, cmd.Kind)
	return res, nil
}

// Snapshot implements raft.FSM: it freezes the state, Persist writes it while
// Apply goes on.
func (m *Machine) Snapshot() (raft.FSMSnapshot, error) {
	if m.stopped {
		return nil, ErrLevel // raft would file it under entries that were not applied
	}
	frozen := m.Freeze()
	if plantOldSnapshot {
		frozen = plantedFrozen(frozen) // planted: of another index than raft files it under
	}
	return &machineSnapshot{frozen: frozen, history: m.history}, nil
}

// Freeze returns the state as it is now, to be written while Apply goes on.
func (m *Machine) Freeze() *Frozen {
	m.mu.Lock() // Freeze brings lazily kept digests up to date
	defer m.mu.Unlock()
	return m.state.Freeze()
}

// Restore implements raft.FSM: it replaces the state by a snapshot's, and the
// history too unless the one that is here covers it already. The state changes
// only if the whole snapshot is sound.
func (m *Machine) Restore(in io.ReadCloser) error {
	defer in.Close()
	s, history, err := ReadSnapshot(in)
	if err != nil {
		return err
	}
	if err := m.replace(s, history); err != nil {
		return err
	}
	m.applied(Result{Code: CodeOK, Index: s.Index()}, KindRestored)
	return nil
}

// replace takes the history first and holds readers off only for the last step:
// an import takes as long as the disk does. Nothing is applied meanwhile, raft
// does both in one loop.
func (m *Machine) replace(s *State, history *SnapshotHistory) error {
	epoch, have := m.history.Totals()
	covered := m.history.Base() <= s.meta.v.Epoch && s.meta.v.Epoch <= epoch && have.Cover(history.Totals()) && m.checkHead(s) == nil
	if covered && !history.MustRead() {
		return m.become(s, func() error { return nil })
	}
	present, err := history.Present()
	if err != nil {
		return err
	}
	if !present {
		return fmt.Errorf("fsm: the snapshot of index %d needs %v records of epoch %d, the history here has %v of epoch %d: the history is damaged",
			s.Index(), history.Totals(), s.meta.v.Epoch, have, epoch)
	}
	return m.history.Import(s.meta.v.Epoch, history.Totals(), history.Records(), func(place func() error) error { return m.become(s, place) })
}

// become makes a state the machine's, together with its history.
func (m *Machine) become(s *State, place func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before(s)
	if err := place(); err != nil {
		return err
	}
	if err := m.checkHead(s); err != nil {
		return err
	}
	m.state = s
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

// checkHead holds the history against the state that it belongs to: the event
// that the state calls its newest must be the one that hashes to its head.
func (m *Machine) checkHead(s *State) error {
	if s.meta.v.ChainSize == 0 {
		return m.checkLedgerHead(s)
	}
	fault := func(err error) error {
		return fmt.Errorf("fsm: event %d of the history is not the head of the state, the history is damaged: %w", s.meta.v.ChainSize, err)
	}
	records, err := m.history.Read(StreamBlacklist, s.meta.v.ChainSize, 1)
	if err != nil || len(records) == 0 {
		return fault(errors.Join(errors.New("it cannot be read"), err))
	}
	if err := s.isHead(records[0]); err != nil {
		return fault(err)
	}
	return m.checkLedgerHead(s)
}

// checkLedgerHead does the same for the ledger.
func (m *Machine) checkLedgerHead(s *State) error {
	size := s.ledger.book.v.Size
	if size == 0 {
		return nil
	}
	records, err := m.history.Read(StreamLedger, size, 1)
	if err == nil && len(records) == 0 {
		err = errors.New("it cannot be read")
	}
	if err == nil {
		err = s.isLedgerHead(records[0])
	}
	if err != nil {
		return fmt.Errorf("fsm: record %d of the ledger's history is not the head of the state, the history is damaged: %w", size, err)
	}
	return nil
}

// isHead holds a record of the blacklist against the chain's head.
func (s *State) isHead(r Record) error {
	event, err := crypto.ParseBlacklistEvent(r.Data)
	if err == nil && event.EventHash != s.meta.v.ChainHead {
		err = fmt.Errorf("it hashes to %s, the head is %s", event.EventHash, s.meta.v.ChainHead)
	}
	return err
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

// rememberFields keeps the digest of each field beside each mark, so that two
// replicas whose marks differ can say which tenant it is.
func (m *Machine) rememberFields() {
	marks := m.state.Marks()
	if len(marks) == 0 || marks[len(marks)-1].Index != m.state.Index() {
		return // the tick made no mark
	}
	m.fields[m.state.Index()] = m.state.FieldDigests()
	for index := range m.fields {
		if index < marks[0].Index {
			delete(m.fields, index)
		}
	}
}

// FieldsAt returns the digest of each field right after a mark that this
// machine applied itself, nil when it is not known any more.
func (m *Machine) FieldsAt(mark uint64) map[string]string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.fields[mark]
}

// History returns the records that were handed out.
func (m *Machine) History() History { return m.history }

type machineSnapshot struct {
	frozen  *Frozen
	history History
}

// Persist implements raft.FSMSnapshot. The history goes to disk first: once the
// snapshot stands, raft may drop the entries that the records came from. On
// error the sink is cancelled, so that raft never takes half a snapshot for a
// whole one.
func (s *machineSnapshot) Persist(sink raft.SnapshotSink) error {
	err := s.history.Flush()
	if err == nil {
		err = s.frozen.Write(sink)
	}
	if err != nil {
		_ = sink.Cancel() // the write error is the one to report
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *machineSnapshot) Release() {}
