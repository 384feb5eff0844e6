package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/fsm"
)

// What lies in a data directory.
const (
	fileRaft     = "raft.db"
	fileMark     = "raft.mark"
	fileHistory  = "history.db"
	dirSnapshots = "snapshots"
	fileMeta     = "meta.json" // of a snapshot
	fileState    = "state.bin"
	fileSum      = "meta.sum"

	suffixNew       = ".new" // a file that does not have its name yet
	suffixTmp       = ".tmp" // a snapshot that is none yet, or no more
	evidencePattern = "history-epoch-%d.db"
	evidenceGlob    = "history-epoch-*.db"
)

// logCache keeps the newest entries in memory for followers.
const logCache = 512

// Options are how a data directory is opened.
type Options struct {
	Log   *slog.Logger // nil: none
	HCLog hclog.Logger // raft's snapshot store logs here; nil: none
	// Keep is how many snapshots stay, at least 1. raft falls back to an older one
	// if the newest is bad.
	Keep  int
	Guard Guard // is told of each durable write; nil: nobody
	// OnDamage is called at most once, from another goroutine, when history cannot
	// be read or written any more. The node must stop.
	OnDamage func(error)

	// Statfs asks for the room in a directory; nil: ask the system.
	Statfs func(dir string) (free, size int64, err error)

	step         func(string)       // tests: called at each step of a change
	fault        func(string) error // tests: an error instead of a write
	wholeHistory int64              // tests: instead of checkWhole
}

// Store is an open data directory.
type Store struct {
	Logs      raft.LogStore // behind a cache
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	History   *History

	bolt *raftboltdb.BoltStore
	mark *logMark
}

// Open opens a data directory, or begins it when it was never used. It reads
// and checks all that the node will rely on; a fault is a *Damage.
func Open(dir string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HCLog == nil {
		o.HCLog = hclog.NewNullLogger()
	}
	if o.wholeHistory == 0 {
		o.wholeHistory = checkWhole
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := begin(dir, fileRaft, func() error { return createBolt(filepath.Join(dir, fileRaft), raftOptions()) }); err != nil {
		return nil, err
	}
	bolt, found, err := openRaft(dir) // from here on nobody else has the directory
	if err != nil {
		return nil, err
	}
	s, err := open(dir, o, bolt, found)
	if err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	return s, nil
}

func open(dir string, o Options, bolt *raftboltdb.BoltStore, found raftFile) (*Store, error) {
	w := &writer{guard: o.Guard, raft: filepath.Join(dir, fileRaft), step: o.step, fault: o.fault}
	log, stable := newLogStore(bolt, w), &stableStore{bolt: bolt, w: w}
	if err := errors.Join(verifyLog(log, stable, found), checkMark(dir, log, found)); err != nil {
		return nil, err
	}
	snapshots, err := openSnapshots(dir, o.Keep, w, o.Log, o.HCLog)
	if err != nil {
		return nil, err
	}
	if err := snapshots.clean(); err != nil {
		return nil, err
	}
	newest, index, err := snapshots.check()
	if err != nil {
		return nil, err
	}
	if err := verifyRuns(found, index); err != nil {
		return nil, err
	}
	for _, half := range []string{fileRaft, fileMark, fileHistory} {
		if err := os.RemoveAll(filepath.Join(dir, half+suffixNew)); err != nil {
			return nil, err
		}
	}
	if err := begin(dir, fileHistory, func() error { return createHistory(dir) }); err != nil {
		return nil, err
	}
	db, head, rest, err := openHistory(dir, o.wholeHistory)
	if err != nil {
		return nil, err
	}
	if err := agree(db, head, newest, max(index, found.last())); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	cached, err := raft.NewLogCache(logCache, log)
	if err == nil {
		log.mark, err = openMark(dir, log, found)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	trees, err := treesOf(db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	history := newHistory(filepath.Join(dir, fileHistory), db, head, trees, w, o.Log, o.OnDamage)
	snapshots.history = history
	if snapshots.statfs = o.Statfs; snapshots.statfs == nil {
		snapshots.statfs = statfs
	}
	if rest {
		history.loops.Go(func() { history.readRest(head, trees) })
	}
	return &Store{Logs: cached, Stable: stable, Snapshots: snapshots, History: history, bolt: bolt, mark: log.mark}, nil
}

// begin makes a file that is not there, in a directory that was never used. A
// file that should be there is damage.
func begin(dir, file string, create func() error) error {
	_, err := os.Lstat(filepath.Join(dir, file))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if file == fileRaft {
		if _, err := os.Lstat(filepath.Join(dir, fileHistory)); err == nil {
			return damagef(file, "it is missing, but %s is there", fileHistory)
		}
		if kept, err := os.ReadDir(filepath.Join(dir, dirSnapshots)); err == nil && len(kept) > 0 {
			return damagef(file, "it is missing, but there are snapshots")
		}
	}
	if err := create(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// agree holds the files against each other: a snapshot taken here needs the
// history up to it, and history comes from entries that are in the log or in a
// snapshot. last is the newest index of both.
func agree(db *bbolt.DB, h head, newest fsm.SnapshotInfo, last uint64) error {
	if have := h.totals(); newest.HistoryBytes == 0 && (!have.Cover(newest.Totals) || newest.LiveBytes > 0 && newest.Epoch < h.base) {
		return damagef(fileHistory, "it has %v records since epoch %d, the newest snapshot needs %v of epoch %d", have, h.base, newest.Totals, newest.Epoch)
	}
	for s, end := range h.tails {
		if end.seq == 0 {
			continue
		}
		rows, err := readRows(db, s, end.seq, end.seq, 0)
		if err != nil {
			return err
		}
		if rows[0].Index > last {
			return damagef(fileRaft, "it ends at entry %d, but history has a record of entry %d", last, rows[0].Index)
		}
	}
	return nil
}

// HasState tells whether raft ever ran here.
func (s *Store) HasState() (bool, error) {
	return raft.HasExistingState(s.Logs, s.Stable, s.Snapshots)
}

// Ending tells that the node is going down: nobody waits for a full disk any
// more. Call it before raft is shut down, whose apply loop may be waiting.
func (s *Store) Ending() { s.History.Ending() }

// Close writes what waits and closes the files. Raft must be down.
func (s *Store) Close() error {
	return errors.Join(s.History.Close(), s.bolt.Close(), s.mark.close())
}
