package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/edgecoder/edgecoder/durable"
)

// run is a range of log entries without a gap.
type run struct{ first, last uint64 }

// raftFile is what the page check found in raft.db.
type raftFile struct {
	runs   []run    // of the log
	stable []string // keys
}

// raftOptions: the list of free pages is rebuilt at start instead of written
// with every entry, because after a snapshot it is long.
func raftOptions() *bbolt.Options {
	return &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: lockWait}
}

// lockWait is how long to wait for another process to let go of a file.
const lockWait = time.Second

// openRaft opens raft.db, which must be there, after a look at each page.
func openRaft(dir string) (*raftboltdb.BoltStore, raftFile, error) {
	var found raftFile
	path := filepath.Join(dir, fileRaft)
	err := locked(path, func() (err error) {
		found, err = checkRaft(path)
		return damaged(fileRaft, err)
	})
	if err != nil {
		return nil, found, err
	}
	bolt, err := newBolt(path)
	if err != nil {
		return nil, found, inRaftDB(err)
	}
	return bolt, found, nil
}

// newBolt opens a file of raft's for writing. Each of its transactions is durable
// before it returns, as raft counts on.
func newBolt(path string) (*raftboltdb.BoltStore, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, NoSync: plantNoSync, MsgpackUseNewTimeFormat: true, BoltOptions: raftOptions()})
	if err == nil {
		noteRaft(path) // it may have made its buckets
	}
	return bolt, err
}

// noteRaft says that a transaction of raft.db is durable.
func noteRaft(path string) {
	if !plantNoSync {
		durable.Note(path)
	}
}

// locked calls f while no other process writes to a bbolt file. A file that
// bbolt itself does not take for one is not locked: nobody else has it open.
func locked(path string, f func() error) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s: another process has it open: %w", filepath.Base(path), err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		return f()
	}
	defer db.Close()
	return f()
}

// checkRaft walks the pages of raft.db. raft-boltdb makes its two buckets in one
// transaction, and would make one that is not found anew: empty.
func checkRaft(path string) (found raftFile, err error) {
	buckets, err := checkBolt(path, false, func(bucket, key, _ []byte) error {
		switch string(bucket) {
		case "logs":
			if len(key) != 8 {
				return fmt.Errorf("log key %x", key)
			}
			found.entry(binary.BigEndian.Uint64(key))
		case "conf":
			found.stable = append(found.stable, string(key))
		}
		return nil
	})
	if err == nil && len(buckets) > 0 && !slices.Equal(buckets, []string{"conf", "logs"}) {
		err = fmt.Errorf("it has the buckets %q", buckets)
	}
	return found, err
}

func (f *raftFile) entry(index uint64) {
	if n := len(f.runs); n > 0 && f.runs[n-1].last+1 == index {
		f.runs[n-1].last = index
		return
	}
	f.runs = append(f.runs, run{index, index})
}

// last is the index of the newest entry, 0 for none.
func (f *raftFile) last() uint64 {
	if len(f.runs) == 0 {
		return 0
	}
	return f.runs[len(f.runs)-1].last
}

// verifyLog reads every entry and every stable value.
func verifyLog(log *logStore, stable *stableStore, found raftFile) error {
	for _, key := range found.stable {
		if _, err := stable.Get([]byte(key)); err != nil {
			return err
		}
	}
	var l raft.Log
	sealedFrom := uint64(math.MaxUint64)
	for _, r := range found.runs {
		for i := r.first; ; i++ {
			sealed, err := log.read(i, &l)
			if err == nil && !sealed && sealedFrom < i {
				err = errors.New("it has no checksum, entries before it have one")
			}
			if err != nil {
				return damagef(fileRaft, "entry %d: %w", i, err)
			}
			if sealed {
				sealedFrom = min(sealedFrom, i)
			}
			if i == r.last {
				break
			}
		}
	}
	log.sealedFrom.Store(sealedFrom)
	return nil
}

// verifyRuns holds the log against the newest snapshot (index 0: none): every
// entry behind it must be there, for nobody else may have it any more. Where
// raft installed a snapshot it leaves a gap, which lies before that snapshot.
func verifyRuns(found raftFile, snapshot uint64) error {
	next := snapshot + 1
	for _, r := range found.runs {
		if r.first > next {
			return damagef(fileRaft, "entry %d follows where %d should be, the newest snapshot is of index %d", r.first, next, snapshot)
		}
		next = max(next, r.last+1)
	}
	return nil
}

// createBolt makes a new bbolt file. It gets its name when it is whole: an
// empty or half file under that name is damage.
func createBolt(path string, o *bbolt.Options) error {
	fresh := path + suffixNew
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(fresh, 0o600, o)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	durable.Note(fresh) // bbolt syncs what it makes
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
