package fsm

import (
	"bytes"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// FuzzReadHistoryPart seals what stands behind a sound live part: whatever is
// accepted there is exactly the records that the state counts.
func FuzzReadHistoryPart(f *testing.F) {
	w := sampleWorld(f)
	frozen := w.s.Freeze()
	totals := frozen.Totals()
	var live, history bytes.Buffer
	if err := frozen.Write(&live); err != nil {
		f.Fatal(err)
	}
	if err := WriteHistory(&history, totals, w.history.UpTo(totals)); err != nil {
		f.Fatal(err)
	}
	f.Add(history.Bytes()[:history.Len()-len(crypto.Hash{})])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := crypto.Sum(body)
		got := Totals{}
		_, _, err := LoadSnapshot(bytes.NewReader(slices.Concat(live.Bytes(), body, sum[:])), func(r Record) error {
			got[r.Stream]++
			return nil
		})
		if err != nil {
			return
		}
		for stream, n := range totals {
			if got[stream] != n {
				t.Errorf("stream %d has %d records, %d were accepted", stream, n, got[stream])
			}
		}
	})
}
