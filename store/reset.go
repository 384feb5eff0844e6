package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/edgecoder/edgecoder/durable"
)

// EvidenceDir is where Reset leaves what it threw away, for whoever looks for
// the cause. Only the newest is kept.
const EvidenceDir = "diverged"

// stableKeys are what raft keeps in its stable store.
var stableKeys = []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"}

// Reset throws away log, snapshots and history of a stopped node, but not
// raft's term and vote, so that it never votes twice. The node must have no
// vote in the configuration: its log may be what a majority rests on. Reset may
// be interrupted anywhere and called again.
func Reset(dir string) error {
	evidence := filepath.Join(dir, EvidenceDir)
	if exists(filepath.Join(dir, fileHistory)) && exists(filepath.Join(evidence, fileHistory)) {
		if err := os.RemoveAll(evidence); err != nil { // of an earlier time
			return err
		}
	}
	if err := os.MkdirAll(evidence, 0o700); err != nil {
		return err
	}
	if err := replaceLog(dir, evidence); err != nil {
		return fmt.Errorf("%s: %w", fileRaft, err)
	}
	// History last: while it is here the reset is not over.
	for _, name := range []string{dirSnapshots, fileHistory} {
		if err := move(filepath.Join(dir, name), filepath.Join(evidence, name)); err != nil {
			return err
		}
	}
	return errors.Join(durable.SyncDir(evidence), durable.SyncDir(dir))
}

// replaceLog puts an empty log with the same stable values in the place of the
// old one, in one step.
func replaceLog(dir, evidence string) error {
	path := filepath.Join(dir, fileRaft)
	fresh, kept := path+suffixNew, filepath.Join(evidence, fileRaft)
	old, _, err := openRaft(dir) // a node that differs may well have a bad disk
	if err != nil {
		return err
	}
	defer old.Close()
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := copyStable(old, fresh); err != nil {
		return err
	}
	if !exists(kept) {
		if err := os.Link(path, kept); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, fileMark)); err != nil { // it speaks of the old log
		return err
	}
	return os.Rename(fresh, path)
}

// copyStable reads each value against its seal: a term or a vote that is not
// what it was could be given twice.
func copyStable(old *raftboltdb.BoltStore, path string) error {
	bolt, err := newBolt(path)
	if err != nil {
		return err
	}
	from, to := &stableStore{bolt: old, w: &writer{}}, &stableStore{bolt: bolt, w: &writer{raft: path}}
	for _, key := range stableKeys {
		value, err := from.Get([]byte(key))
		if err == nil {
			err = to.Set([]byte(key), value)
		}
		if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return errors.Join(err, bolt.Close())
		}
	}
	return bolt.Close()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func move(from, to string) error {
	if !exists(from) {
		return nil
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(from, to)
}
