package store

import (
	"context"
	"errors"
	"math/bits"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestTreeNodes: each hash that tlog would store can be read, at whatever size the tree was left between two writes, and
// the next one cannot.
func TestTreeNodes(t *testing.T) {
	const s, n = fsm.StreamLedger, 5*rowLeaves + 7
	h := openTestHistory(t, t.TempDir(), &writer{}, nil)
	defer h.Close()
	if err := h.KeepTree(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	var want []tlog.Hash
	next := uint64(1)
	for _, more := range []int{1, rowLeaves - 2, 1, 1, rowLeaves - 1, rowLeaves, 2*rowLeaves + 3, 4} {
		var fresh []fsm.Record
		for range more {
			r := recordOf(s, next, next, int(next%50))
			hashes, err := tlog.StoredHashes(int64(next-1), r.Data, tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
				for _, i := range at {
					out = append(out, want[i])
				}
				return out, nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			want, fresh, next = append(want, hashes...), append(fresh, r), next+1
		}
		if err := errors.Join(h.Append(1, fresh), h.Flush()); err != nil {
			t.Fatal(err)
		}
		err := h.db.View(func(tx *bbolt.Tx) error {
			read := nodeReader(s, tx.Bucket(treeOf(s)))
			for i, hash := range want {
				if got, err := read.ReadHashes([]int64{int64(i)}); err != nil || got[0] != hash {
					t.Errorf("%d records, hash %d: %v, %v", next-1, i, got, err)
				}
			}
			if got, err := read.ReadHashes([]int64{int64(len(want))}); err == nil {
				t.Errorf("%d records: a hash of the next one: %v", next-1, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if next != n+1 {
		t.Errorf("%d records, not %d", next-1, n)
	}
}

// FuzzTreeRow seals what it is given: of a row that is accepted every hash can be read, and no other.
func FuzzTreeRow(f *testing.F) {
	f.Add(make([]byte, treeHeader+tlog.HashSize), byte(1), uint64(1))
	f.Add(make([]byte, treeHeader+(rowLeaves+rowNodes(8*rowLeaves))*tlog.HashSize), byte(5), uint64(7*rowLeaves+1))
	f.Fuzz(func(t *testing.T, value []byte, stream byte, first uint64) {
		s := fsm.Stream(stream)
		if len(value) >= treeHeader {
			sealHashes(s, first, value)
		}
		h, err := decodeHashes(s, first, value)
		if err != nil {
			return
		}
		for i := range uint64(rowLeaves) {
			last := first + i
			for level := 0; level < 64 && last>>level<<level == last && last != 0; level++ {
				if _, err := h.node(s, last-1<<level+1, last); (err == nil) != (i < uint64(h.leaves())) {
					t.Errorf("%d leaves from %d: node of level %d that record %d completes: %v", h.leaves(), first, level, last, err)
				}
			}
		}
		if last := first + rowLeaves - 1; h.leaves() == rowLeaves && len(h) != (rowLeaves+1+bits.TrailingZeros64(last)-rowLevel)*tlog.HashSize {
			t.Errorf("%d bytes", len(h))
		}
		if _, err := decodeHashes(s, first+rowLeaves, value); err == nil {
			t.Error("a row passes for the next one")
		}
	})
}
