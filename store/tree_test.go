package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

func mustTrees(t rapid.TB, db *bbolt.DB) map[fsm.Stream]uint64 {
	t.Helper()
	sizes, err := treesOf(db)
	if err != nil {
		t.Fatal(err)
	}
	return sizes
}

// rootsOf computes the roots of the first 0, 1, 2… records with transparency-dev's code.
func rootsOf(t rapid.TB, records []fsm.Record) [][]byte {
	t.Helper()
	r := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	roots := [][]byte{rfc6962.DefaultHasher.EmptyRoot()}
	for _, rec := range records {
		if err := r.Append(rfc6962.DefaultHasher.HashLeaf(rec.Data), nil); err != nil {
			t.Fatal(err)
		}
		root, err := r.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	return roots
}

// checkAgainst holds the tree of a stream against the records that it should be of: roots and some proofs.
func checkAgainst(t rapid.TB, h *History, s fsm.Stream, records []fsm.Record) {
	t.Helper()
	if got := h.TreeSize(s); got != uint64(len(records)) {
		t.Fatalf("the tree covers %d records of %d", got, len(records))
	}
	roots := rootsOf(t, records)
	for size, want := range roots {
		got, err := h.TreeRoot(s, uint64(size))
		if err != nil || !bytes.Equal(got[:], want) {
			t.Fatalf("size %d: root %s, %v, want %x", size, got, err, want)
		}
	}
	n := uint64(len(records))
	for i := uint64(0); i < n; i += 1 + n/7 {
		p, err := h.ProveInclusion(s, i, n)
		if err == nil {
			err = proof.VerifyInclusion(rfc6962.DefaultHasher, i, n, rfc6962.DefaultHasher.HashLeaf(records[i].Data), theirs(p), roots[n])
		}
		if err != nil {
			t.Fatalf("record %d of %d: %v", i, n, err)
		}
		p, err = h.ProveConsistency(s, i+1, n)
		if err == nil {
			err = proof.VerifyConsistency(rfc6962.DefaultHasher, i+1, n, theirs(p), roots[i+1], roots[n])
		}
		if err != nil {
			t.Fatalf("from %d to %d: %v", i+1, n, err)
		}
	}
}

func theirs(hashes []crypto.Hash) (out [][]byte) {
	for _, h := range hashes {
		out = append(out, bytes.Clone(h[:]))
	}
	return out
}

// TestTreeModel: whatever happens to a history, its tree is that of its records by an independent implementation.
func TestTreeModel(t *testing.T) {
	root, runs := t.TempDir(), 0
	const s = fsm.StreamBlacklist
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(root, fmt.Sprint(runs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		h := openTestHistory(t, dir, &writer{}, nil)
		defer func() { _ = h.Close() }()
		var all []fsm.Record
		epoch := uint64(1)
		more := func(n int) (out []fsm.Record) {
			for range n {
				seq := uint64(len(all) + len(out) + 1)
				out = append(out, recordOf(s, seq, seq+epoch*1000, rapid.IntRange(0, 40).Draw(t, "size")))
			}
			return out
		}
		kept := false
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				fresh := more(rapid.IntRange(1, 2*rowLeaves+3).Draw(t, "n"))
				all = append(all, fresh...)
				if err := h.Append(epoch, fresh); err != nil {
					t.Fatal(err)
				}
			},
			"keep": func(t *rapid.T) {
				kept = true
				if err := h.KeepTree(context.Background(), s); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := h.Close(); err != nil {
					t.Fatal(err)
				}
				h = openTestHistory(t, dir, &writer{}, nil)
			},
			"extend": func(t *rapid.T) {
				all = append(all, more(rapid.IntRange(0, 9).Draw(t, "n"))...)
				if err := h.Import(epoch, fsm.Totals{s: uint64(len(all))}, yields(all...), nil); err != nil {
					t.Fatal(err)
				}
			},
			"replace": func(t *rapid.T) {
				epoch++
				all = nil
				all = more(rapid.IntRange(0, 9).Draw(t, "n"))
				if err := h.Import(epoch, fsm.Totals{s: uint64(len(all))}, yields(all...), nil); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				if err := h.Flush(); err != nil {
					t.Fatal(err)
				}
				if kept {
					checkAgainst(t, h, s, all)
				} else if h.TreeSize(s) != 0 {
					t.Fatal("a tree that nobody asked for")
				}
			},
		})
	})
}

// TestTreeCatchesUp: a history that was there before trees gets one in batches while records come in.
func TestTreeCatchesUp(t *testing.T) {
	dir := t.TempDir()
	h := openTestHistory(t, dir, &writer{}, nil)
	defer h.Close()
	const s, before = fsm.StreamAdmin, 3*importRecords + 5
	fill(t, h, before, 20)
	if h.TreeSize(s) != 0 {
		t.Fatal("a tree without being asked")
	}
	went := make(chan error, 1)
	go func() { went <- h.KeepTree(context.Background(), s) }()
	_, totals := h.Totals()
	for i := range uint64(50) {
		seq := totals[s] + i + 1
		if err := h.Append(1, []fsm.Record{recordOf(s, seq, seq, 20)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(<-went, h.Flush(), h.KeepTree(context.Background(), s)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := h.WaitTree(ctx, s, totals[s]+50); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := h.WaitTree(ctx, s, totals[s]+51); !errors.Is(err, ErrNoTree) {
		t.Errorf("more than there is: %v", err)
	}
	for _, ask := range []func() error{
		func() error { _, err := h.TreeRoot(s, totals[s]+51); return err },
		func() error { _, err := h.ProveInclusion(s, 3, 3); return err },
		func() error { _, err := h.ProveConsistency(s, 3, 2); return err },
		func() error { _, err := h.TreeRoot(fsm.StreamBlacklist, 1); return err },
	} {
		if err := ask(); !errors.Is(err, ErrNoTree) {
			t.Errorf("what no tree has: %v", err)
		}
	}
}

// TestTreeNamesTampering: a history file changed with its checksums made anew is caught when it is opened, and the
// record is named; a large file, whose beginning is read later, in the background.
func TestTreeNamesTampering(t *testing.T) {
	const s, n = fsm.StreamAdmin, checkTail + 600
	for name, c := range map[string]struct {
		tamper func(*bbolt.Tx) error
		wants  string
		later  bool
	}{
		"old record":  {rewriteRow(s, 70), "record 70", true},
		"last record": {rewriteRow(s, n), fmt.Sprintf("record %d", n), false},
		"old node":    {rewriteNodes(s, 128), "record 128", true},
		"cut record and its hash": {func(tx *bbolt.Tx) error {
			return errors.Join(tx.Bucket(bucketOf(s)).Delete(seqKey(n)), rewriteLast(s, -1)(tx))
		}, fmt.Sprintf("{%d ", n-1), false},
		"a hash too many": {rewriteLast(s, 1), fmt.Sprintf("a tree of %d records", n+1), false},
		"old leaf": {func(tx *bbolt.Tx) error {
			b := tx.Bucket(treeOf(s))
			value := bytes.Clone(b.Get(seqKey(rowOf(70))))
			value[treeHeader+(70-1)%rowLeaves*tlog.HashSize] ^= 1
			sealHashes(s, rowOf(70), value)
			return b.Put(seqKey(rowOf(70)), value)
		}, "record 70", true},
		"a row is gone": {func(tx *bbolt.Tx) error { return tx.Bucket(treeOf(s)).Delete(seqKey(rowOf(70))) }, "65", true},
		"no nodes": {func(tx *bbolt.Tx) error {
			b := tx.Bucket(treeOf(s))
			value := bytes.Clone(b.Get(seqKey(65)))[:treeHeader+rowLeaves*tlog.HashSize]
			sealHashes(s, 65, value)
			return b.Put(seqKey(65), value)
		}, "65 to 96", true},
	} {
		dir := t.TempDir()
		h := openTestHistory(t, dir, &writer{}, nil)
		fill(t, h, n, 20)
		if err := errors.Join(h.KeepTree(context.Background(), s), h.Close()); err != nil {
			t.Fatal(err)
		}
		path := under(dir, fileHistory)
		db, err := bbolt.Open(path, 0o600, historyOptions())
		if err == nil {
			err = errors.Join(db.Update(c.tamper), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		var d *Damage
		if db, _, _, err := openHistory(dir, checkWhole); !errors.As(err, &d) || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = db.Close()
			}
		}
		db, head, _, err := openHistory(dir, 1)
		if !c.later {
			if !errors.As(err, &d) {
				t.Errorf("%s, a large file: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s, a large file: %v", name, err)
		}
		told := make(chan error, 1)
		trees := mustTrees(t, db)
		h = newHistory(path, db, head, trees, &writer{}, discard(), func(err error) { told <- err })
		h.loops.Go(func() { h.readRest(head, trees) })
		if err := <-told; !errors.As(err, &d) || !strings.Contains(err.Error(), c.wants) {
			t.Errorf("%s, in the background: %v", name, err)
		}
		_ = h.Close()
	}
}

func rewriteRow(s fsm.Stream, seq uint64) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOf(s))
		r, err := decodeRow(s, seq, b.Get(seqKey(seq)))
		if err != nil {
			return err
		}
		r.Data = bytes.Clone(r.Data)
		r.Data[0] ^= 1
		return b.Put(seqKey(seq), r.encode())
	}
}

// rewriteNodes breaks the last hash of the row that ends with a record.
func rewriteNodes(s fsm.Stream, seq uint64) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket(treeOf(s))
		first := rowOf(seq)
		value := bytes.Clone(b.Get(seqKey(first)))
		value[len(value)-1] ^= 1
		sealHashes(s, first, value)
		return b.Put(seqKey(first), value)
	}
}

// rewriteLast gives the last row of a tree, which is not full, some hashes more or fewer.
func rewriteLast(s fsm.Stream, more int) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket(treeOf(s))
		k, v := b.Cursor().Last()
		value := append(bytes.Clone(v), make([]byte, tlog.HashSize)...)[:len(v)+more*tlog.HashSize]
		sealHashes(s, binary.BigEndian.Uint64(k), value)
		return b.Put(bytes.Clone(k), value)
	}
}

// BenchmarkTree: what a tree of 1,000,000 records costs: to catch up with them, to prove, to append. It takes a minute and
// a gigabyte of disk.
func BenchmarkTree(b *testing.B) {
	const s, n = fsm.StreamAdmin, 1_000_000
	h := openTestHistory(b, b.TempDir(), &writer{}, nil)
	defer h.Close()
	if testing.Short() {
		b.Skip("a million records")
	}
	fill(b, h, n, 600)
	b.Run("append without", func(b *testing.B) { appendSome(b, h, s) })
	b.Run("catch up", func(b *testing.B) { // the first round does it
		began := time.Now()
		for b.Loop() {
			if err := h.KeepTree(context.Background(), s); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(began).Seconds(), "s")
	})
	b.Run("inclusion", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			if _, err := h.ProveInclusion(s, i*7919%n, n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			if _, err := h.ProveConsistency(s, 1+i*7919%n, n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("root", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			if _, err := h.TreeRoot(s, n-i%1000); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("append with", func(b *testing.B) { appendSome(b, h, s) })
}

func appendSome(b *testing.B, h *History, s fsm.Stream) {
	_, totals := h.Totals()
	seq := totals[s]
	for b.Loop() {
		seq++
		if err := h.Append(1, []fsm.Record{recordOf(s, seq, seq, 600)}); err != nil {
			b.Fatal(err)
		}
	}
	if err := h.Flush(); err != nil {
		b.Fatal(err)
	}
}
