package store

import (
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// BenchmarkHistoryBatch: what a busy ledger writes, with its tree. One op is a record.
func BenchmarkHistoryBatch(b *testing.B) {
	const batch = 4096
	h := openTestHistory(b, b.TempDir(), &writer{}, nil)
	defer h.Close()
	if err := h.KeepTree(b.Context(), fsm.StreamLedger); err != nil {
		b.Fatal(err)
	}
	records := make([]fsm.Record, batch)
	for i := range records {
		records[i] = recordOf(fsm.StreamLedger, uint64(i+1), 1, 260)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		for i := range records {
			records[i].Seq, records[i].Index = uint64(n+i+1), uint64(n+1)
		}
		h.Room()
		if err := h.Append(1, records); err != nil {
			b.Fatal(err)
		}
	}
	if err := h.Flush(); err != nil {
		b.Fatal(err)
	}
	if h.TreeSize(fsm.StreamLedger) == 0 {
		b.Fatal("no tree")
	}
}
