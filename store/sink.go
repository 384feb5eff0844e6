package store

import (
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/durable"
	"github.com/edgecoder/edgecoder/fsm"
)

// snapshotSink takes one snapshot. It belongs to one goroutine, as raft's does.
type snapshotSink struct {
	store  *snapshotStore
	inner  raft.SnapshotSink
	closed bool
	err    error // of Close, for those who close again
}

// ID implements raft.SnapshotSink.
func (k *snapshotSink) ID() string { return k.inner.ID() }

// Write implements io.Writer.
func (k *snapshotSink) Write(b []byte) (n int, err error) {
	err = k.store.w.once(WriteSnapshot, func() (err error) { n, err = k.inner.Write(b); return err })
	k.store.w.at("snapshot/wrote")
	return n, err
}

// Close implements io.Closer: the snapshot stands, durable and read back, or it
// is removed and Close says why.
func (k *snapshotSink) Close() error {
	if k.closed {
		return k.err
	}
	k.closed = true
	s, id := k.store, k.inner.ID()
	k.err = s.w.once(SyncSnapshot, func() error {
		if err := durable.SyncDir(filepath.Join(s.dir, id+suffixTmp)); err != nil { // raft's store syncs the files, not their names
			_ = k.inner.Cancel()
			return err
		}
		if err := k.inner.Close(); err != nil {
			return err
		}
		for _, path := range []string{filepath.Join(s.dir, id, fileState), filepath.Join(s.dir, id, fileMeta), s.dir} {
			durable.Note(path) // raft's store syncs them
		}
		return nil
	})
	s.w.at("snapshot/closed")
	var info fsm.SnapshotInfo
	if k.err == nil {
		info, k.err = s.info(id)
		s.w.at("snapshot/verified")
	}
	if k.err == nil {
		k.err = s.roomFor(info)
	}
	if k.err == nil {
		k.err = s.w.once(SyncSnapshot, func() error { return s.seal(id) })
		s.w.at("snapshot/sealed")
	}
	if k.err != nil {
		k.err = fmt.Errorf("%s/%s: %w", dirSnapshots, id, k.err)
		_ = s.drop(id) // it may not be there; the error above is the one to report
		return k.err
	}
	if info.HistoryBytes > 0 {
		s.mu.Lock()
		s.unsettled = id
		s.mu.Unlock()
	}
	if err := s.reap(); err != nil { // the new one stands: that the old ones do too is no failure of it
		s.log.Warn("an old snapshot cannot be removed", "err", err)
	}
	s.w.at("snapshot/reaped")
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.closed {
		return nil
	}
	k.closed = true
	return k.inner.Cancel()
}

// reap drops what is beyond those to keep.
func (s *snapshotStore) reap() error {
	ids, _, err := s.names()
	if err != nil {
		return err
	}
	for _, id := range spare(ids, s.keep) {
		if err := s.drop(id.id); err != nil {
			return err
		}
	}
	return nil
}

// spare returns which of the snapshots, the newest first, are beyond those to
// keep. One that was sent again counts once, or a leader that repeats itself
// would push out the older ones that Undo goes back to. Of those that are the
// same two stay: the newest may not be restored yet, and goes if it cannot be.
func spare(ids []snapshotID, keep int) (out []snapshotID) {
	distinct, same := 0, 0
	for i, id := range ids {
		if i > 0 && id.term == ids[i-1].term && id.index == ids[i-1].index {
			same++
		} else {
			distinct, same = distinct+1, 1
		}
		if distinct > keep || same > 2 {
			out = append(out, id)
		}
	}
	return out
}

// roomFor tells whether the disk takes the history that an installed snapshot
// brings. One of another epoch is written whole beside the one that is there, and
// it is better to refuse the snapshot than to find out in its restore.
func (s *snapshotStore) roomFor(info fsm.SnapshotInfo) error {
	if info.HistoryBytes == 0 {
		return nil
	}
	if epoch, _ := s.history.Totals(); info.Epoch == epoch {
		return nil
	}
	free, _, err := s.statfs(s.dir)
	if err != nil {
		return fmt.Errorf("room for the history of epoch %d: %w", info.Epoch, err)
	}
	if need := info.HistoryBytes + info.HistoryBytes/2 + importSpare; free < need {
		return fmt.Errorf("its epoch %d brings a history of its own, which takes %d MiB, and %d are free: %w", info.Epoch, need>>20, free>>20, syscall.ENOSPC)
	}
	return nil
}

// importSpare is what a new history takes beyond its records.
const importSpare = 1 << 20

// Settle says how the restore of the snapshot went that raft installed last, if
// that is not known yet. One that was not restored is dropped: raft was told "no"
// and goes on in the old state, so the snapshot must not be the newest at the
// next start. An error means that it may still be there.
func (s *Store) Settle(restored bool) error {
	snapshots := s.Snapshots.(*snapshotStore) // Open made it
	snapshots.mu.Lock()
	id := snapshots.unsettled
	snapshots.unsettled = ""
	snapshots.mu.Unlock()
	if id == "" || restored {
		return nil
	}
	if err := snapshots.drop(id); err != nil {
		snapshots.mu.Lock()
		snapshots.unsettled = id
		snapshots.mu.Unlock()
		return fmt.Errorf("%s/%s: it was not restored, and must not stay, but it cannot be removed: %w", dirSnapshots, id, err)
	}
	snapshots.log.Warn("a snapshot that was not restored is removed", "snapshot", id)
	return nil
}
