package api

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// BenchmarkLedgerBatch is what the API and one replica take for a batch of 1,024
// transfers: decoding, Apply twice (leader and replica of the fake node), the answer.
func BenchmarkLedgerBatch(b *testing.B) {
	f := ledgerFixture(b)
	batch := client.LedgerBatch{Entries: make([]client.LedgerEntry, client.MaxLedgerBatch)}
	n := 0
	body := func() string {
		for k := range batch.Entries {
			n++
			e := client.LedgerEntry{ID: ledger.NewID(testClock, [10]byte{2: byte(n >> 24), 3: byte(n >> 16), 8: byte(n >> 8), 9: byte(n)}).String(), Debit: "a", Credit: "b", Amount: 1}
			if k%2 == 1 {
				e.Debit, e.Credit = "b", "a"
			}
			batch.Entries[k] = e
		}
		return string(must(json.Marshal(batch)))
	}
	b.ReportAllocs()
	for range b.N {
		b.StopTimer()
		text := body()
		b.StartTimer()
		if w := f.post(fsm.RoleOperator, "/v1/ledger/transfers/batch", text); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
