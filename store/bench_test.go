package store

import (
	"io"
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// BenchmarkHistoryAppend: one record an entry, as under a stream of bans; the
// flusher writes beside it.
func BenchmarkHistoryAppend(b *testing.B) {
	h := openTestHistory(b, b.TempDir(), &writer{}, nil)
	defer h.Close()
	b.ReportAllocs()
	seq := uint64(0)
	r := recordOf(fsm.StreamBlacklist, 1, 1, 600)
	for b.Loop() {
		seq++
		r.Seq, r.Index = seq, seq
		if err := h.Append(1, []fsm.Record{r}); err != nil {
			b.Fatal(err)
		}
	}
	if err := h.Flush(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen: a log as long as TrailingLogs leaves it, three snapshots and
// 20,000 records.
func BenchmarkOpen(b *testing.B) {
	r := newRig(b, rigOptions())
	for range 3 {
		for range 6 {
			r.tokens(1000)
		}
		r.snapshot()
	}
	r.close()
	b.ReportAllocs()
	for b.Loop() {
		s, err := Open(r.dir, rigOptions())
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompose streams a snapshot with 50,000 records of 600 bytes.
func BenchmarkCompose(b *testing.B) {
	r := newRig(b, rigOptions())
	r.snapshot()
	fill(b, r.s.History, 50_000, 600)
	_, totals := r.s.History.Totals()
	size, err := r.s.History.sizeFor(fsm.SnapshotInfo{Epoch: 1, Totals: totals})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		c := &composed{live: io.NopCloser(eof{}), records: r.s.History.UpTo(totals), totals: totals, left: size}
		if n, err := io.Copy(io.Discard, c); err != nil || n != size {
			b.Fatal(n, err)
		}
		_ = c.Close()
	}
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
