package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/fsm"
)

// Replay reads the data directory of a stopped node and changes nothing: first
// the newest snapshot, if there is one, then each entry of the log behind it.
// The last entries may never have been acknowledged: a directory does not say
// how far its log was committed.
func Replay(dir string, snapshot func(raft.SnapshotMeta, io.Reader) error, entry func(*raft.Log) error) error {
	index, err := replaySnapshot(dir, snapshot)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, fileRaft)
	if _, err := os.Stat(path); err != nil { // bbolt would make the file
		return err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: lockWait}})
	if err != nil {
		return inRaftDB(err)
	}
	defer bolt.Close()
	log := newLogStore(bolt, &writer{})
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	for i := index + 1; i <= last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return damaged(fileRaft, err)
		}
		if err := entry(&l); err != nil {
			return err
		}
	}
	return nil
}

// replaySnapshot hands out the newest snapshot and returns its raft index, 0
// when there is none.
func replaySnapshot(dir string, snapshot func(raft.SnapshotMeta, io.Reader) error) (uint64, error) {
	s := &snapshotStore{dir: filepath.Join(dir, dirSnapshots), infos: map[string]fsm.SnapshotInfo{}}
	ids, _, err := s.names()
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(ids) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	meta, err := s.readMeta(ids[0].id)
	if err != nil {
		return 0, err
	}
	in, err := os.Open(filepath.Join(s.dir, ids[0].id, fileState))
	if err != nil {
		return 0, err
	}
	defer in.Close()
	return meta.Index, snapshot(meta.SnapshotMeta, in)
}

// Newest tells of the directory of a stopped node which snapshot is the newest,
// nil if it has none, and where the log ends.
func Newest(dir string) (snapshot *raft.SnapshotMeta, last uint64, err error) {
	path := filepath.Join(dir, fileRaft)
	err = locked(path, func() error {
		found, err := checkRaft(path)
		last = found.last()
		return damaged(fileRaft, err)
	})
	if err != nil {
		return nil, 0, err
	}
	s := &snapshotStore{dir: filepath.Join(dir, dirSnapshots), infos: map[string]fsm.SnapshotInfo{}}
	ids, _, err := s.names()
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(ids) == 0 {
		return nil, last, nil
	}
	if err != nil {
		return nil, 0, err
	}
	meta, err := s.readMeta(ids[0].id)
	return &meta.SnapshotMeta, last, err
}

// KeepNewest drops what lies before the newest snapshot: older snapshots, which
// raft would fall back to, and the log up to it. It may be interrupted anywhere
// and called again.
func (s *Store) KeepNewest() error {
	snapshots := s.Snapshots.(*snapshotStore) // Open made it
	ids, _, err := snapshots.names()
	if err != nil || len(ids) == 0 {
		return err
	}
	for _, old := range ids[1:] {
		if err := snapshots.drop(old.id); err != nil {
			return err
		}
	}
	first, err := s.Logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.Logs.LastIndex()
	if err != nil {
		return err
	}
	if last = min(last, ids[0].index); first == 0 || first > last {
		return nil
	}
	return s.Logs.DeleteRange(first, last)
}
