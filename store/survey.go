package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/edgecoder/edgecoder/fsm"
)

// Copy is what a stopped data directory holds: what an operator compares when a
// cluster lost its majority. What could not be read is zero, and says so in
// Damage.
type Copy struct {
	FirstIndex   uint64                `json:"first_index"` // of the raft log, 0: no entries
	LastIndex    uint64                `json:"last_index"`
	LastTerm     uint64                `json:"last_term"` // of the newest entry or snapshot
	CurrentTerm  uint64                `json:"current_term"`
	VotedFor     string                `json:"voted_for,omitempty"` // raft address, which is a node id
	VotedTerm    uint64                `json:"voted_term"`
	Snapshots    []CopySnapshot        `json:"snapshots"` // the newest first
	HistoryEpoch uint64                `json:"history_epoch"`
	History      map[fsm.Stream]uint64 `json:"history"` // records of each stream
	Damage       []CopyDamage          `json:"damage"`
}

// CopySnapshot is one snapshot of a Copy.
type CopySnapshot struct {
	ID            string             `json:"id"`
	Index         uint64             `json:"index"` // of raft; the state's own may be lower
	Term          uint64             `json:"term"`
	Configuration raft.Configuration `json:"configuration"`
	State         fsm.SnapshotInfo   `json:"state"`
	// Records is how many records of each stream belong to the state.
	Records map[fsm.Stream]uint64 `json:"records"`
}

// CopyDamage is one fault of a Copy.
type CopyDamage struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// Survey looks at the data directory of a stopped node and changes nothing. It
// goes on after a fault and reports all it finds; an error means that it could
// not look, as when a node is running there.
func Survey(dir string) (Copy, error) {
	v := surveyor{dir: dir, c: Copy{Snapshots: []CopySnapshot{}, History: map[fsm.Stream]uint64{}, Damage: []CopyDamage{}}}
	if _, err := os.Stat(filepath.Join(dir, fileRaft)); err != nil {
		return v.c, err
	}
	var (
		found  raftFile
		newest fsm.SnapshotInfo
		index  uint64
		err    error
	)
	if v.guarded(fileRaft, func() { found, err = v.raft() }); err != nil {
		return v.c, err
	}
	v.guarded(dirSnapshots, func() { newest, index = v.snapshots() })
	v.note(fileRaft, verifyRuns(found, index))
	v.guarded(fileHistory, func() { v.history(newest, max(index, found.last())) })
	return v.c, nil
}

// guarded looks at one file; where that panics the file is damaged.
func (v *surveyor) guarded(file string, look func()) {
	v.note(file, safely(func() error { look(); return nil }))
}

type surveyor struct {
	dir string
	c   Copy
}

// note adds a fault.
func (v *surveyor) note(file string, err error) {
	if err == nil {
		return
	}
	var d *Damage
	if errors.As(err, &d) {
		file, err = d.File, d.Err
	}
	v.c.Damage = append(v.c.Damage, CopyDamage{File: file, Error: err.Error()})
}

// raft looks at log, term and vote.
func (v *surveyor) raft() (found raftFile, err error) {
	path := filepath.Join(v.dir, fileRaft)
	var pages error
	if err := locked(path, func() error { found, pages = checkRaft(path); return nil }); err != nil {
		return found, err
	}
	v.note(fileRaft, pages)
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: lockWait}})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return found, inRaftDB(err)
	case err != nil:
		if pages == nil {
			v.note(fileRaft, err)
		}
		return found, nil
	}
	defer bolt.Close()
	w := &writer{}
	log, stable := newLogStore(bolt, w), &stableStore{bolt: bolt, w: w}
	if pages == nil {
		v.note(fileRaft, verifyLog(log, stable, found))
		v.note(fileRaft, checkMark(v.dir, log, found))
	}
	v.values(log, stable)
	return found, nil
}

// values reads what can be read, damaged or not.
func (v *surveyor) values(log *logStore, stable *stableStore) {
	fault := func(err error) {
		if err != nil && err.Error() != raftboltdb.ErrKeyNotFound.Error() {
			v.note(fileRaft, err)
		}
	}
	var err error
	v.c.FirstIndex, err = log.FirstIndex()
	fault(err)
	v.c.LastIndex, err = log.LastIndex()
	fault(err)
	if v.c.LastIndex > 0 && err == nil {
		var l raft.Log
		fault(log.GetLog(v.c.LastIndex, &l))
		v.c.LastTerm = l.Term
	}
	v.c.CurrentTerm, err = stable.GetUint64([]byte("CurrentTerm"))
	fault(err)
	v.c.VotedTerm, err = stable.GetUint64([]byte("LastVoteTerm"))
	fault(err)
	vote, err := stable.Get([]byte(keyVote))
	fault(err)
	v.c.VotedFor = string(vote)
}

// snapshots looks at every snapshot, and returns the newest that is sound.
func (v *surveyor) snapshots() (newest fsm.SnapshotInfo, index uint64) {
	s := &snapshotStore{dir: filepath.Join(v.dir, dirSnapshots), infos: map[string]fsm.SnapshotInfo{}}
	ids, _, err := s.names()
	if errors.Is(err, fs.ErrNotExist) {
		return newest, 0
	}
	v.note(dirSnapshots, err)
	for _, id := range ids {
		meta, info, err := s.look(id.id)
		if err != nil {
			v.note(dirSnapshots, err)
			continue
		}
		if index == 0 {
			newest, index = info, id.index
			v.c.LastTerm = max(v.c.LastTerm, id.term)
		}
		v.c.Snapshots = append(v.c.Snapshots, CopySnapshot{ID: id.id, Index: id.index, Term: id.term,
			Configuration: meta.Configuration, State: info, Records: info.Totals})
	}
	return newest, index
}

// history looks at history.db.
func (v *surveyor) history(newest fsm.SnapshotInfo, last uint64) {
	path := filepath.Join(v.dir, fileHistory)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		v.note(fileHistory, agree(nil, newHead(), newest, last))
		return
	}
	if err := checkHistory(path); err != nil {
		v.note(fileHistory, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		v.unlessNoted(fileHistory, err)
		return
	}
	defer db.Close()
	h, err := readHead(db)
	if err != nil {
		v.unlessNoted(fileHistory, err)
		return
	}
	v.c.HistoryEpoch, v.c.History = h.epoch, h.totals()
	v.note(fileHistory, agree(db, h, newest, last))
}

func (v *surveyor) unlessNoted(file string, err error) {
	if !slices.ContainsFunc(v.c.Damage, func(d CopyDamage) bool { return d.File == file }) {
		v.note(file, fmt.Errorf("it cannot be opened: %w", err))
	}
}
