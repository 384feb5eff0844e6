package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/durable"
	"github.com/edgecoder/edgecoder/fsm"
)

const (
	// checkWhole is the size up to which all of history.db is read at start; of a
	// larger one the newest checkTail records of each stream are, and the rest in
	// the background.
	checkWhole = 64 << 20
	checkTail  = 4096
	// checkPause between two chunks leaves the disk to others: some 50 MiB/s at
	// most.
	checkPause = 20 * time.Millisecond
)

// openHistory opens history.db, which must be there, and checks it. rest says
// that the older records are still to be read.
func openHistory(dir string, whole int64) (db *bbolt.DB, h head, rest bool, err error) {
	path := filepath.Join(dir, fileHistory)
	info, err := os.Stat(path)
	if err != nil {
		return nil, h, false, err
	}
	rest = info.Size() > whole
	if rest {
		_, err = checkBolt(path, true, nil)
	} else {
		err = checkHistory(path)
	}
	if err != nil {
		return nil, h, false, damaged(fileHistory, err)
	}
	db, err = bbolt.Open(path, 0o600, historyOptions())
	if err != nil {
		return nil, h, false, fmt.Errorf("%s: %w", fileHistory, err)
	}
	h, err = readHead(db)
	switch {
	case err == nil && rest:
		err = errors.Join(checkTails(db, h), checkTreeTails(db, h))
	case err == nil:
		err = checkTrees(db, h)
	}
	if err != nil {
		return nil, h, false, errors.Join(damaged(fileHistory, err), db.Close())
	}
	return db, h, rest, nil
}

// createHistory makes a new history.db with an empty head.
func createHistory(dir string) error {
	path := filepath.Join(dir, fileHistory)
	fresh := path + suffixNew
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	db, err := bbolt.Open(fresh, 0o600, historyOptions())
	if err != nil {
		return err
	}
	if err := errors.Join(writeRows(db, nil, newHead()), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// checkHistory reads all of history.db: every record, no gap, and the sums of
// the head.
func checkHistory(path string) error {
	h, seen, some, trees := newHead(), map[fsm.Stream]tail{}, false, map[fsm.Stream]uint64{}
	_, err := checkBolt(path, false, func(bucket, key, value []byte) (err error) {
		if bytes.Equal(bucket, bucketMeta) {
			if !bytes.Equal(key, keyHead) {
				return fmt.Errorf("meta: unknown key %q", key)
			}
			some = true
			h, err = decodeHead(value)
			return err
		}
		s, err := streamOf(bucket)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(bucket, []byte(treePrefix)) {
			trees[s], err = nextHashes(s, trees[s], key, value)
			return err
		}
		end, err := nextRow(s, seen[s], key, value)
		seen[s] = end
		return err
	})
	if err != nil {
		return err
	}
	if !some {
		return errors.New("it has no head")
	}
	if !maps.Equal(seen, h.tails) {
		return fmt.Errorf("it holds %v, its head says %v", seen, h.tails)
	}
	for s, size := range trees {
		if size > h.tails[s].seq {
			return fmt.Errorf("stream %d: a tree of %d records, there are %d", s, size, h.tails[s].seq)
		}
	}
	return nil
}

func streamOf(bucket []byte) (fsm.Stream, error) {
	number, ok := strings.CutPrefix(string(bucket), streamPrefix)
	if !ok {
		number, ok = strings.CutPrefix(string(bucket), treePrefix)
	}
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || err != nil {
		return 0, fmt.Errorf("unknown bucket %q", bucket)
	}
	return fsm.Stream(n), nil
}

// nextHashes checks the row of a tree behind the first size records, and returns how many there are with it.
func nextHashes(s fsm.Stream, size uint64, key, value []byte) (uint64, error) {
	if len(key) != 8 || binary.BigEndian.Uint64(key) != size+1 {
		return size, fmt.Errorf("stream %d: key %x where the hashes from record %d on should be", s, key, size+1)
	}
	hashes, err := decodeHashes(s, size+1, value)
	return size + uint64(hashes.leaves()), err
}

// nextRow checks the row behind end.
func nextRow(s fsm.Stream, end tail, key, value []byte) (tail, error) {
	if len(key) != 8 || binary.BigEndian.Uint64(key) != end.seq+1 {
		return end, fmt.Errorf("stream %d: key %x where record %d should be", s, key, end.seq+1)
	}
	r, err := decodeRow(s, end.seq+1, value)
	if err != nil {
		return end, err
	}
	if r.sum != end.sum+fsm.FrameSize(r.Record) {
		return end, fmt.Errorf("stream %d: record %d: its bytes do not add up", s, r.Seq)
	}
	return tail{r.Seq, r.sum}, nil
}

// checkTails reads the newest records of each stream and that nothing follows.
func checkTails(db *bbolt.DB, h head) error {
	for s, end := range h.tails {
		if end.seq == 0 {
			continue
		}
		last, err := newestSeq(db, s)
		if err != nil {
			return err
		}
		if last != end.seq {
			return fmt.Errorf("stream %d: %d records, the head says %d", s, last, end.seq)
		}
		first := max(1, end.seq-min(end.seq, checkTail)+1)
		if err := checkRange(db, s, first, end); err != nil {
			return err
		}
	}
	return nil
}

func newestSeq(db *bbolt.DB, s fsm.Stream) (seq uint64, err error) {
	err = safely(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketOf(s))
			if b == nil {
				return fmt.Errorf("stream %d: it is not there", s)
			}
			k, _ := b.Cursor().Last()
			if len(k) != 8 {
				return fmt.Errorf("stream %d: last key %x", s, k)
			}
			seq = binary.BigEndian.Uint64(k)
			return nil
		})
	})
	return seq, err
}

// checkRange reads the records of a stream from first to end and checks that
// their sums grow as they should.
func checkRange(db *bbolt.DB, s fsm.Stream, first uint64, end tail) error {
	var before tail
	if first > 1 {
		rows, err := readRows(db, s, first-1, first-1, 0)
		if err != nil {
			return err
		}
		before = tail{rows[0].Seq, rows[0].sum}
	}
	for before.seq < end.seq {
		rows, err := readRows(db, s, before.seq+1, min(end.seq, before.seq+chunkRecords), chunkBytes)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.sum != before.sum+fsm.FrameSize(r.Record) {
				return fmt.Errorf("stream %d: record %d: its bytes do not add up", s, r.Seq)
			}
			before = tail{r.Seq, r.sum}
		}
	}
	if before != end {
		return fmt.Errorf("stream %d: it ends at %v, the head says %v", s, before, end)
	}
	return nil
}

// readRest reads in the background what Open did not. Import may replace the
// file meanwhile; what it wrote was checked as it came, so there is nothing left
// to do then.
func (h *History) readRest(was head, trees map[fsm.Stream]uint64) {
	began := time.Now()
	for _, s := range slices.Sorted(maps.Keys(was.tails)) {
		end, tree := was.tails[s], treeCheck{stream: s}
		for next := uint64(1); next <= end.seq; {
			rows, swaps, err := h.read(s, next, chunkRecords, chunkBytes)
			if err == nil && swaps == 0 {
				err = h.checkTree(&tree, rows, trees[s])
			}
			switch {
			case errors.Is(err, ErrClosed), err == nil && swaps != 0:
				return
			case err == nil && len(rows) == 0:
				err = damaged(fileHistory, short(s, end.seq))
			}
			if err != nil {
				h.report(err)
				return
			}
			next += uint64(len(rows))
			select {
			case <-h.stop:
				return
			case <-time.After(checkPause):
			}
		}
	}
	h.log.Info("history read to its beginning: it is sound", slog.Duration("took", time.Since(began)))
}
