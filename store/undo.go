package store

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/durable"
	"github.com/edgecoder/edgecoder/fsm"
)

// A restore takes the place of one log index at each node that has it, and if
// the cluster went on without, another entry was committed there: the snapshot
// is an uncommitted end of the log, as raft cuts off every day. Undo does that.
// The log before it is here, the older snapshots are, and the history that the
// restore replaced was kept.

// ErrNotUndone: what the undoing needs is not here. Nothing was changed.
var ErrNotUndone = errors.New("store: the restore cannot be undone")

// undo is what takes back the snapshots of an epoch.
type undo struct {
	drop    []string // snapshots, the newest first
	cut     uint64   // entries behind this one go; 0: none
	last    uint64   // the newest entry
	history string   // the file that becomes the history; empty: it is the right one
}

// CanUndo tells whether Undo of an epoch that a snapshot brought would work.
func (s *Store) CanUndo(epoch uint64) error {
	h := s.History
	h.mu.Lock()
	base := h.disk.base
	h.mu.Unlock()
	u, err := planUndo(s.Snapshots.(*snapshotStore), s.Logs, base, epoch) // Open made it
	if err == nil && len(u.drop) == 0 {
		err = fmt.Errorf("%w: the newest snapshot is not of epoch %d", ErrNotUndone, epoch)
	}
	return err
}

// Undo takes a stopped node back to where it was before a snapshot brought an
// epoch that the cluster went on without. Term, vote and all that raft logged
// before stay, so the node may go on voting. It may be interrupted anywhere and
// called again.
func Undo(dir string, epoch uint64) error { return undoWith(&writer{}, dir, epoch) }

func undoWith(w *writer, dir string, epoch uint64) error {
	bolt, _, err := openRaft(dir)
	if err != nil {
		return err
	}
	defer bolt.Close()
	snapshots, err := openSnapshots(dir, math.MaxInt, w, nil, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	h, err := headOf(filepath.Join(dir, fileHistory))
	if err != nil {
		return damaged(fileHistory, err)
	}
	u, err := planUndo(snapshots, newLogStore(bolt, w), h.base, epoch)
	if err != nil {
		return err
	}
	if u.history != "" { // before the log: a history beyond the end of its log looks like damage
		if err := os.Rename(u.history, filepath.Join(dir, fileHistory)); err != nil {
			return err
		}
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
		w.at("undo/history back")
	}
	if u.cut > 0 {
		if err := os.RemoveAll(filepath.Join(dir, fileMark)); err != nil { // it speaks of the end that goes
			return err
		}
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
		w.at("undo/mark gone")
		if err := bolt.DeleteRange(u.cut+1, u.last); err != nil {
			return inRaftDB(err)
		}
		noteRaft(filepath.Join(dir, fileRaft))
		w.at("undo/log cut")
	}
	for _, id := range u.drop { // last, and the oldest of them at the end: it tells where to cut
		if err := snapshots.drop(id); err != nil {
			return err
		}
	}
	return nil
}

// planUndo looks at what would have to be done, and whether it can be.
func planUndo(s *snapshotStore, log raft.LogStore, base, epoch uint64) (u undo, err error) {
	ids, _, err := s.names()
	if err != nil {
		return u, err
	}
	var burned snapshotID // the oldest that goes
	var kept uint64       // index of the newest that stays
	var state fsm.SnapshotInfo
	for _, id := range ids {
		info, err := s.info(id.id)
		if err != nil {
			return u, err
		}
		if info.Epoch != epoch {
			kept, state = id.index, info
			break
		}
		u.drop, burned = append(u.drop, id.id), id
	}
	if len(u.drop) == 0 {
		return u, nil
	}
	if err := u.planLog(log, burned, kept); err != nil {
		return u, err
	}
	if base < epoch {
		return u, nil
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(s.dir), evidenceGlob))
	if err != nil || len(files) != 1 {
		return u, fmt.Errorf("%w: the history of before was not kept: %w", ErrNotUndone, errors.Join(err, os.ErrNotExist))
	}
	h, err := headOf(files[0])
	if err != nil {
		return u, fmt.Errorf("%w: %s: %w", ErrNotUndone, filepath.Base(files[0]), err)
	}
	if h.epoch >= epoch || kept > 0 && (h.base > state.Epoch || state.HistoryBytes == 0 && !h.totals().Cover(state.Totals)) {
		return u, fmt.Errorf("%w: %s is of epoch %d with %v records, the snapshot before needs %v", ErrNotUndone, filepath.Base(files[0]), h.epoch, h.totals(), state.Totals)
	}
	u.history = files[0]
	return u, nil
}

// planLog decides which entries go. If there is one where the restore was, all
// behind it came from a leader that went on without the restore, and may count:
// they stay. Else those behind it go that the restore's own leader made in the
// same term: had one of them counted, no later leader could have gone on without.
// An entry of another term may count: a leader that has the snapshot too, and an
// entry in its place, gives the snapshot as what comes before the next entry.
func (u *undo) planLog(log raft.LogStore, burned snapshotID, kept uint64) error {
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	if u.last, err = log.LastIndex(); err != nil {
		return err
	}
	if u.last > burned.index {
		var l raft.Log
		switch err := log.GetLog(burned.index, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			u.cut = burned.index
		case err != nil:
			return err
		}
	}
	if u.cut > 0 {
		if err := u.ofTerm(log, burned.term); err != nil {
			return err
		}
	}
	stays := first > 0 && (u.cut == 0 || first <= u.cut)
	if kept >= burned.index || !stays && kept == 0 || stays && first > kept+1 {
		return fmt.Errorf("%w: the log begins at entry %d, the newest snapshot before is of index %d", ErrNotUndone, first, kept)
	}
	return nil
}

// ofTerm refuses to cut entries of another term.
func (u *undo) ofTerm(log raft.LogStore, term uint64) error {
	for i := u.cut + 1; i <= u.last; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			return err
		}
		if l.Term != term {
			return fmt.Errorf("%w: entry %d is of term %d, the restore of term %d: others may count on it", ErrNotUndone, i, l.Term, term)
		}
	}
	return nil
}

// PassedOver tells whether the log has another entry where a snapshot is: then
// the cluster went on without the snapshot, and nobody may be sent it. One that
// was just installed is none: the log is still that of before.
func (s *Store) PassedOver(meta *raft.SnapshotMeta) (bool, error) {
	snapshots := s.Snapshots.(*snapshotStore) // Open made it
	snapshots.mu.Lock()
	installing := snapshots.unsettled == meta.ID
	snapshots.mu.Unlock()
	if installing {
		return false, nil
	}
	var l raft.Log
	switch err := s.Logs.GetLog(meta.Index, &l); {
	case errors.Is(err, raft.ErrLogNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return l.Term != meta.Term, nil
}

// headOf reads the head of a history that may be open.
func headOf(path string) (h head, err error) {
	if _, err := os.Stat(path); err != nil { // bbolt would make the file
		return h, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return h, err
	}
	defer db.Close()
	return readHead(db)
}
