package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// memorySink is a raft.SnapshotSink that keeps what it gets.
type memorySink struct {
	bytes.Buffer
	room              int // bytes it takes before it fails; 0: no bound
	closed, cancelled bool
}

var errSink = errors.New("sink is full")

func (s *memorySink) Write(b []byte) (int, error) {
	if s.room > 0 && s.Len()+len(b) > s.room {
		return 0, errSink
	}
	return s.Buffer.Write(b)
}
func (s *memorySink) Close() error  { s.closed = true; return nil }
func (s *memorySink) Cancel() error { s.cancelled = true; return nil }
func (s *memorySink) ID() string    { return "test" }

func raftLog(l logged) *raft.Log {
	return &raft.Log{Type: raft.LogCommand, Index: l.index, Data: l.data}
}

func feed(m *Machine, log []logged) {
	for _, l := range log {
		m.Apply(raftLog(l))
	}
}

// busyWorld is a long log: many agents, claims, bans and marks.
func busyWorld(t testing.TB, rounds int) *world {
	w := genesisWorld(t)
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: 5, WindowMs: 1000}; p.MaxSkewMs = 3_000 })
	for i := range rounds {
		id := fmt.Sprint("agent-", i)
		w.enroll(id)
		w.admit(claimOf(id, "n", w.wallMs, id), claimOf(id, "n", w.wallMs, "other"), claimOf("agent-0", id, w.wallMs, ""))
		if i%5 == 0 {
			w.must(w.do(operator, w.banOf(id, "e"+id, "n0", nil)))
		}
		w.pass(100)
		if i%7 == 0 {
			w.mark()
		}
	}
	return w
}

func TestMachineAnswersAsTheStateDoes(t *testing.T) {
	w := busyWorld(t, 10)
	var seen []Kind
	m := NewMachine(NewMemoryHistory(), func(_ Result, k Kind) { seen = append(seen, k) })
	for _, l := range w.log {
		before, changed := m.Index()
		res, ok := m.Apply(raftLog(l)).(Result)
		if !ok || !sameEncoding(res, l.res) {
			t.Fatalf("index %d: %+v, want %+v", l.index, res, l.res)
		}
		select {
		case <-changed:
		default:
			t.Fatalf("nobody was told that index %d is over", before)
		}
	}
	if len(seen) != len(w.log) {
		t.Errorf("the observer saw %d of %d", len(seen), len(w.log))
	}
	index, digests := m.FieldDigests()
	if index != w.index || digests["nonces"] != w.s.FieldDigests()["nonces"] {
		t.Error("the field digests differ")
	}
	if got := recordsOf(t, m.History(), StreamBlacklist); !sameEncoding(got, recordsOf(t, w.history, StreamBlacklist)) {
		t.Error("the chain differs")
	}
}

// Every snapshot taken while Apply goes on is of one index, whole, and
// continues to the same end. Run with -race.
func TestMachineSnapshotWhileApplying(t *testing.T) {
	w := busyWorld(t, 40)
	m := NewMachine(NewMemoryHistory(), nil)
	type shot struct{ data []byte }
	shots := make(chan shot, len(w.log))
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				m.Read(func(s *State) {
					c := claimOf("agent-1", "n", worldStart, "x")
					s.Check(&c, s.ClockMs())
					s.IsReplay(&c)
					s.Agents("", 3)
					s.Bans("", 3, s.ClockMs())
					s.Sizes()
					if marks := s.Marks(); len(marks) > 0 && marks[len(marks)-1].Index > s.Index() {
						t.Error("a mark of the future")
					}
				})
				m.Index()
			}
		})
	}
	// Raft asks for snapshots between two applies and persists them beside the next ones.
	for i, l := range w.log {
		m.Apply(raftLog(l))
		if i%9 != 0 {
			continue
		}
		snapshot, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			sink := &memorySink{}
			if err := snapshot.Persist(sink); err != nil || !sink.closed || sink.cancelled {
				t.Errorf("persist: %v, closed %t, cancelled %t", err, sink.closed, sink.cancelled)
			}
			snapshot.Release()
			shots <- shot{sink.Bytes()}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	close(shots)
	for s := range shots {
		back, records := restored(t, s.data)
		at := back.Index()
		if got, want := back.Digest(), w.log[at-1].digest; got != want {
			t.Fatalf("the snapshot of index %d has digest %s, want %s", at, got, want)
		}
		for _, r := range records {
			if r.Index > at {
				t.Fatalf("the snapshot of index %d has a record of %d", at, r.Index)
			}
		}
		replay(t, back, w.log[at:])
	}
}

func TestMachineRestoreReplacesAll(t *testing.T) {
	w := busyWorld(t, 10)
	m := NewMachine(NewMemoryHistory(), nil)
	feed(m, w.log)
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &memorySink{}
	if err := snapshot.Persist(sink); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))); err != nil {
		t.Fatalf("the history is here, yet: %v", err)
	}
	if err := NewMachine(NewMemoryHistory(), nil).Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))); err == nil {
		t.Error("a local snapshot was restored although the history behind it is gone")
	}

	other := NewMachine(NewMemoryHistory(), nil)
	feed(other, busyWorld(t, 3).log[:20])
	_, changed := other.Index()
	if err := other.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, w.s, w.history)))); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("a restore tells nobody")
	}
	if index, digests := other.FieldDigests(); index != w.index || digests["meta"] != w.s.FieldDigests()["meta"] {
		t.Errorf("index %d, want %d", index, w.index)
	}
	if got := recordsOf(t, other.History(), StreamAdmin); !sameEncoding(got, recordsOf(t, w.history, StreamAdmin)) {
		t.Error("the history is another")
	}
}

func TestMachineDamagedSnapshotChangesNothing(t *testing.T) {
	w := busyWorld(t, 5)
	m := NewMachine(NewMemoryHistory(), nil)
	known := w.log[:len(w.log)/2] // of a history that covers the snapshot nobody would read
	feed(m, known)
	_, before := m.History().Totals()
	data := snapshotOf(t, w.s, w.history)
	for _, bad := range [][]byte{nil, data[:len(data)-1], append(bytes.Clone(data), 0), bytes.Replace(data, []byte("agent-1"), []byte("agent-9"), 1)} {
		if err := m.Restore(io.NopCloser(bytes.NewReader(bad))); !errors.Is(err, ErrSnapshot) {
			t.Errorf("a damaged snapshot: %v", err)
		}
	}
	_, after := m.History().Totals()
	if index, _ := m.FieldDigests(); index != known[len(known)-1].index || !before.Cover(after) {
		t.Error("the damage reached the machine")
	}
}

func TestMachinePersistCancelsOnError(t *testing.T) {
	w := busyWorld(t, 5)
	m := NewMachine(NewMemoryHistory(), nil)
	feed(m, w.log)
	snapshot, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &memorySink{room: 100}
	if err := snapshot.Persist(sink); !errors.Is(err, errSink) || !sink.cancelled || sink.closed {
		t.Errorf("persist: %v, cancelled %t, closed %t", err, sink.cancelled, sink.closed)
	}
}

// A log that cannot be applied, or that contradicts the history, stops the node.
func TestMachinePanicsOnABrokenLog(t *testing.T) {
	w := busyWorld(t, 2)
	damaged := NewMemoryHistory()
	if err := damaged.Append(1, []Record{{Stream: StreamAdmin, Seq: 1, Index: 1, Data: []byte("forged")}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		history History
		log     *raft.Log
	}{
		"no command":      {NewMemoryHistory(), &raft.Log{Index: 1, Data: []byte("junk")}},
		"empty":           {NewMemoryHistory(), &raft.Log{Index: 1}},
		"index zero":      {NewMemoryHistory(), &raft.Log{Index: 0, Data: w.log[0].data}},
		"damaged history": {damaged, raftLog(w.log[0])},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it went on")
				}
			}()
			NewMachine(c.history, nil).Apply(c.log)
		})
	}
}
