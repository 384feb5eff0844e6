package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// busyLog makes a raft.db of several levels, with overflow pages, deletions at
// both ends and free pages.
func busyLog(t testing.TB, seed uint64, rounds int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fileRaft)
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, MsgpackUseNewTimeFormat: true, NoSync: true, BoltOptions: raftOptions()})
	if err != nil {
		t.Fatal(err)
	}
	log := newLogStore(bolt, &writer{})
	if log.mark, err = openMark(filepath.Dir(path), log, raftFile{}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	next, first := uint64(1), uint64(1)
	for range rounds {
		var batch []*raft.Log
		for range 1 + random.IntN(40) {
			data := bytes.Repeat([]byte{byte(next)}, random.IntN(300))
			if random.IntN(50) == 0 {
				data = bytes.Repeat([]byte{byte(next)}, 9000)
			}
			batch = append(batch, &raft.Log{Index: next, Term: 1, Data: data})
			next++
		}
		if err := log.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
		switch random.IntN(8) {
		case 0:
			to := first + (next-first)*2/3
			if err := log.DeleteRange(first, to); err != nil {
				t.Fatal(err)
			}
			first = to + 1
		case 1:
			from := next - (next-first)/5 - 1
			if err := log.DeleteRange(from, next-1); err != nil {
				t.Fatal(err)
			}
			next = from
		}
		first = min(first, next)
	}
	if err := log.StoreLogs([]*raft.Log{{Index: next, Term: 2}}); err != nil { // the mark speaks of the end
		t.Fatal(err)
	}
	if err := errors.Join(log.mark.close(), bolt.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// pairsOf is a hash over all pairs that the check visits.
func pairsOf(path string) (sum [32]byte, n int, err error) {
	h := sha256.New()
	names, err := checkBolt(path, false, func(bucket, key, value []byte) error {
		fmt.Fprintf(h, "%q %x %d ", bucket, key, len(value))
		h.Write(value)
		n++
		return nil
	})
	fmt.Fprint(h, names)
	return [32]byte(h.Sum(nil)), n, err
}

// entriesOf is a hash over all entries of a log, read and verified as Open does.
func entriesOf(path string) (sum [32]byte, err error) {
	bolt, found, err := openRaft(filepath.Dir(path))
	if err != nil {
		return sum, err
	}
	defer bolt.Close()
	log := newLogStore(bolt, &writer{})
	if err := errors.Join(verifyLog(log, &stableStore{bolt: bolt}, found), checkMark(filepath.Dir(path), log, found)); err != nil {
		return sum, err
	}
	h := sha256.New()
	for _, r := range found.runs {
		for i := r.first; i <= r.last; i++ {
			var l raft.Log
			if err := log.GetLog(i, &l); err != nil {
				return sum, err
			}
			fmt.Fprintf(h, "%+v", l)
		}
	}
	return [32]byte(h.Sum(nil)), verifyRuns(found, found.runs[0].first-1)
}

// TestPageCheckAcceptsWhatBboltWrites: no false alarm, whatever was stored and
// deleted, and the check sees what bbolt reads.
func TestPageCheckAcceptsWhatBboltWrites(t *testing.T) {
	for seed := range uint64(8) {
		path := busyLog(t, seed, 30+int(seed)*10)
		_, n, err := pairsOf(path)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		db, err := bbolt.Open(path, 0o600, raftOptions())
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				return err
			}
			if have := tx.Bucket([]byte("logs")).Stats().KeyN; have != n {
				return fmt.Errorf("%d pairs, bbolt has %d", n, have)
			}
			return nil
		})
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		_ = db.Close()
	}
}

// TestPageCheckFindsEveryStructuralBit flips every bit of page headers and
// element tables, where bbolt has no checksum: what still passes must read the
// same.
func TestPageCheckFindsEveryStructuralBit(t *testing.T) {
	for seed := range structuralSeeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { flipStructure(t, busyLog(t, seed, 25)) })
	}
}

func structuralSeeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 32); err == nil {
		return n
	}
	if testing.Short() {
		return 1
	}
	return 2
}

func flipStructure(t *testing.T, path string) {
	t.Helper()
	entries, err := entriesOf(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := pairsOf(path) // after bbolt opened and wrote it
	if err != nil {
		t.Fatal(err)
	}
	data := slurp(t, path)
	used := usedPages(t, path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tried, missed := 0, 0
	for page := 2 * 4096; page < len(data); page += 4096 {
		if !used(page) || binary.NativeEndian.Uint64(data[page:]) != uint64(page/4096) {
			continue
		}
		count := int(binary.NativeEndian.Uint16(data[page+10:]))
		branch := binary.NativeEndian.Uint16(data[page+8:]) == flagBranch
		for at := page; at < page+pageHeader+min(count, 250)*elementSize; at++ {
			for bit := range 8 {
				if n := at*8 + bit; at-page >= pageHeader && (!branch && n%29 != 0 || branch && testing.Short() && n%5 != 0) {
					continue
				}
				if _, err := f.WriteAt([]byte{data[at] ^ 1<<bit}, int64(at)); err != nil {
					t.Fatal(err)
				}
				tried++
				if got, _, err := pairsOf(path); err != nil || got == want {
					continue
				}
				if got, err := entriesOf(path); err == nil && got != entries { // the sums of the entries are the second line
					missed++
					t.Logf("page %d byte %d bit %d: not found", page/4096, at-page, bit)
				}
				if err := os.WriteFile(path, data, 0o600); err != nil { // bbolt wrote to it
					t.Fatal(err)
				}
			}
			if _, err := f.WriteAt(data[at:at+1], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d of %d flips pass unseen and change what is read", missed, tried)
	if missed > 0 {
		t.Errorf("%d of %d flips pass unseen and change what is read", missed, tried)
	}
}
