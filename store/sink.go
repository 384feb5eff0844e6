package store

import (
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"
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
		if err := syncDir(filepath.Join(s.dir, id+suffixTmp)); err != nil { // raft's store syncs the files, not their names
			_ = k.inner.Cancel()
			return err
		}
		return k.inner.Close()
	})
	s.w.at("snapshot/closed")
	if k.err == nil {
		_, k.err = s.info(id)
		s.w.at("snapshot/verified")
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
	for _, id := range ids[min(len(ids), s.keep):] {
		if err := s.drop(id.id); err != nil {
			return err
		}
	}
	return nil
}
