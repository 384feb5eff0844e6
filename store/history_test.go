package store

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/fsm"
)

// openTestHistory opens the history of a directory, and begins it if need be.
func openTestHistory(t rapid.TB, dir string, w *writer, onDamage func(error)) *History {
	t.Helper()
	if _, err := os.Stat(under(dir, fileHistory)); err != nil {
		if err := createHistory(dir); err != nil {
			t.Fatal(err)
		}
	}
	db, h, _, err := openHistory(dir, checkWhole)
	if err != nil {
		t.Fatal(err)
	}
	return newHistory(under(dir, fileHistory), db, h, mustTrees(t, db), w, discard(), onDamage)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func yields(records ...fsm.Record) iter.Seq2[fsm.Record, error] {
	return func(yield func(fsm.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func recordOf(s fsm.Stream, seq, index uint64, n int) fsm.Record {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(uint64(s) + seq + uint64(i))
	}
	return fsm.Record{Stream: s, Seq: seq, Index: index, Data: data}
}

// modelOf drives a History and fsm.MemoryHistory side by side.
type modelOf struct {
	t     *rapid.T
	dir   string
	real  *History
	model *fsm.MemoryHistory
	index uint64
}

func (m *modelOf) epoch() uint64 { e, _ := m.model.Totals(); return e }

// next draws records that may follow.
func (m *modelOf) next(n int) (out []fsm.Record) {
	_, totals := m.model.Totals()
	m.index++
	for range n {
		s := rapid.SampledFrom(fsm.Streams()).Draw(m.t, "stream")
		totals[s]++
		out = append(out, recordOf(s, totals[s], m.index, rapid.SampledFrom([]int{0, 1, 30, 300, 5000}).Draw(m.t, "size")))
	}
	return out
}

// both appends to the two and wants them to agree whether that is allowed.
func (m *modelOf) both(epoch uint64, records []fsm.Record) {
	m.t.Helper()
	want, got := m.model.Append(epoch, records), m.real.Append(epoch, records)
	if (want == nil) != (got == nil) {
		m.t.Fatalf("append %v: %v, the model says %v", records, got, want)
	}
}

func (m *modelOf) all() (out []fsm.Record) {
	_, totals := m.model.Totals()
	for r := range m.model.UpTo(totals) {
		out = append(out, r)
	}
	return out
}

func (m *modelOf) check(t *rapid.T) {
	gotEpoch, got := m.real.Totals()
	wantEpoch, want := m.model.Totals()
	for s, n := range want {
		if n == 0 {
			delete(want, s)
		}
	}
	if gotEpoch != wantEpoch || !reflect.DeepEqual(got, want) {
		t.Fatalf("epoch %d %v, the model has %d %v", gotEpoch, got, wantEpoch, want)
	}
}

func (m *modelOf) read(t *rapid.T) {
	s := rapid.SampledFrom(fsm.Streams()).Draw(t, "stream")
	from, limit := rapid.Uint64Range(0, 60).Draw(t, "from"), rapid.IntRange(-1, 60).Draw(t, "limit")
	got, err := m.real.Read(s, from, limit)
	want, _ := m.model.Read(s, from, limit)
	if err != nil || !slices.EqualFunc(got, want, sameRecord) {
		t.Fatalf("read %d from %d, %d: %v, %v, the model has %v", s, from, limit, got, err, want)
	}
}

func sameRecord(a, b fsm.Record) bool {
	return a.Stream == b.Stream && a.Seq == b.Seq && same(a, b)
}

// walk compares the records up to random totals, and the bytes of their frames.
func (m *modelOf) walk(t *rapid.T) {
	_, totals := m.model.Totals()
	for s, n := range totals {
		totals[s] = rapid.Uint64Range(0, n).Draw(t, "upto")
	}
	var got, want []fsm.Record
	var size int64
	for r, err := range m.real.UpTo(totals) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
		size += fsm.FrameSize(r)
	}
	for r := range m.model.UpTo(totals) {
		want = append(want, r)
	}
	if !slices.EqualFunc(got, want, sameRecord) {
		t.Fatalf("up to %v: %d records, the model has %d", totals, len(got), len(want))
	}
	if n, err := m.real.Bytes(totals); err != nil || n != size {
		t.Fatalf("up to %v: %d bytes, %v; they are %d", totals, n, err, size)
	}
}

// importAll imports everything and some more, or another epoch's history.
func (m *modelOf) importAll(t *rapid.T) {
	epoch, records := m.epoch(), m.all()
	if rapid.Bool().Draw(t, "other epoch") {
		epoch += rapid.Uint64Range(1, 3).Draw(t, "epochs")
		records = records[:0:0]
		for i := range rapid.IntRange(0, 20).Draw(t, "records") {
			records = append(records, recordOf(fsm.StreamAdmin, uint64(i+1), uint64(i+1), i*7))
		}
	} else {
		records = append(records, m.next(rapid.IntRange(0, 9).Draw(t, "more"))...)
		slices.SortStableFunc(records, func(a, b fsm.Record) int { return int(a.Stream) - int(b.Stream) })
	}
	totals := fsm.Totals{}
	for _, r := range records {
		totals[r.Stream] = r.Seq
	}
	if err := m.model.Import(epoch, totals, yields(records...), nil); err != nil {
		t.Fatal(err)
	}
	if err := m.real.Import(epoch, totals, yields(records...), nil); err != nil {
		t.Fatal(err)
	}
}

func TestHistoryModel(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(root, fmt.Sprint(runs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		m := &modelOf{t: t, dir: dir, real: openTestHistory(t, dir, &writer{}, nil), model: fsm.NewMemoryHistory()}
		defer func() { _ = m.real.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { m.both(m.epoch(), m.next(rapid.IntRange(1, 6).Draw(t, "n"))) },
			"replay": func(t *rapid.T) {
				if all := m.all(); len(all) > 0 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "i")
					m.both(m.epoch(), all[i:min(len(all), i+3)])
				}
			},
			"forged": func(t *rapid.T) {
				if all := m.all(); len(all) > 0 {
					r := rapid.SampledFrom(all).Draw(t, "r")
					r.Data = append(slices.Clone(r.Data), 'x')
					m.both(m.epoch(), []fsm.Record{r})
				}
			},
			"gap": func(t *rapid.T) {
				r := m.next(1)[0]
				r.Seq++
				m.both(m.epoch(), []fsm.Record{r})
			},
			"epoch": func(t *rapid.T) {
				m.both(m.epoch()+1, nil)
				if m.epoch() > 0 {
					m.both(m.epoch()-1, nil)
				}
			},
			"flush": func(t *rapid.T) {
				if err := m.real.Flush(); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := m.real.Close(); err != nil {
					t.Fatal(err)
				}
				m.real = openTestHistory(t, dir, &writer{}, nil)
			},
			"read": m.read, "walk": m.walk, "import": m.importAll,
			"": m.check,
		})
	})
}

// TestHistoryRefuses: what it must not take, and what it says of others' data.
func TestHistoryRefuses(t *testing.T) {
	dir := t.TempDir()
	h := openTestHistory(t, dir, &writer{}, nil)
	one, two := recordOf(fsm.StreamAdmin, 1, 5, 10), recordOf(fsm.StreamAdmin, 2, 6, 10)
	if err := h.Append(3, []fsm.Record{one, two}); err != nil {
		t.Fatal(err)
	}
	forged := one
	forged.Index++
	for range 2 { // first it waits, then it is on disk
		var d *Damage
		if err := h.Append(3, []fsm.Record{forged}); !errors.As(err, &d) || d.File != fileHistory {
			t.Errorf("a record that differs: %v", err)
		}
		if err := h.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Import(3, fsm.Totals{fsm.StreamAdmin: 2}, yields(forged, two), nil); err == nil {
		t.Error("an import that differs was taken")
	}
	if err := h.Import(3, fsm.Totals{fsm.StreamAdmin: 3}, yields(one, two), nil); err == nil {
		t.Error("an import of too few was taken")
	}
	if err := h.Import(4, fsm.Totals{fsm.StreamAdmin: 2}, yields(one), nil); err == nil {
		t.Error("a replacement by too few was taken")
	}
	if err := h.Import(4, fsm.Totals{fsm.StreamAdmin: 2}, yields(two), nil); err == nil {
		t.Error("a replacement with a gap was taken")
	}
	if epoch, totals := h.Totals(); epoch != 3 || totals[fsm.StreamAdmin] != 2 {
		t.Errorf("after refusals: epoch %d, %v", epoch, totals)
	}
	if _, err := h.Bytes(fsm.Totals{fsm.StreamAdmin: 3}); err == nil {
		t.Error("bytes of more than there is")
	}
	var last error
	for _, err := range h.UpTo(fsm.Totals{fsm.StreamAdmin: 3}) {
		last = err
	}
	if last == nil {
		t.Error("up to more than there is")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Read(fsm.StreamAdmin, 1, 1); !errors.Is(err, ErrClosed) {
		t.Error("read after close:", err)
	}
	if err := h.Append(3, []fsm.Record{recordOf(fsm.StreamAdmin, 3, 7, 1)}); !errors.Is(err, ErrClosed) {
		t.Error("append after close:", err)
	}
	if left, _ := filepath.Glob(under(dir, "*"+suffixNew)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestHistoryKeepsEvidence: the history of the epoch before is kept, the ones
// before that are not, and a snapshot of an older epoch finds no match.
func TestHistoryKeepsEvidence(t *testing.T) {
	dir := t.TempDir()
	h := openTestHistory(t, dir, &writer{}, nil)
	defer h.Close()
	for epoch := uint64(1); epoch <= 4; epoch++ {
		r := recordOf(fsm.StreamAdmin, 1, epoch, int(epoch))
		if err := h.Import(epoch, fsm.Totals{fsm.StreamAdmin: 1}, yields(r), nil); err != nil {
			t.Fatal(err)
		}
		got, err := h.Read(fsm.StreamAdmin, 1, 9)
		if err != nil || len(got) != 1 || !sameRecord(got[0], r) {
			t.Fatalf("epoch %d: %v, %v", epoch, got, err)
		}
	}
	kept, _ := filepath.Glob(under(dir, evidenceGlob))
	if len(kept) != 1 || filepath.Base(kept[0]) != "history-epoch-3.db" {
		t.Errorf("kept: %v", kept)
	}
	if err := checkHistory(kept[0]); err != nil {
		t.Errorf("the evidence: %v", err)
	}
	if _, err := h.sizeFor(fsm.SnapshotInfo{Epoch: 3, LiveBytes: 1}); err == nil {
		t.Error("a snapshot of an epoch before was composed")
	}
}
