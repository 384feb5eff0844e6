package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// logStore keeps raft's log in raft.db with a seal on each entry, in its
// Extensions, behind whatever stood there.
type logStore struct {
	bolt *raftboltdb.BoltStore
	w    *writer
	// sealedFrom is the first index from which every entry has a seal. Older
	// versions wrote entries without; those stay readable below it.
	sealedFrom atomic.Uint64
	mark       *logMark // nil: none
}

func newLogStore(bolt *raftboltdb.BoltStore, w *writer) *logStore {
	s := &logStore{bolt: bolt, w: w}
	s.sealedFrom.Store(math.MaxUint64)
	return s
}

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (i uint64, err error) {
	err = safely(func() (err error) { i, err = s.bolt.FirstIndex(); return err })
	return i, inRaftDB(err)
}

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (i uint64, err error) {
	err = safely(func() (err error) { i, err = s.bolt.LastIndex(); return err })
	return i, inRaftDB(err)
}

// IsMonotonic implements raft.MonotonicLogStore as raft-boltdb does; today it
// does not, so raft leaves a gap where it installed a snapshot.
func (s *logStore) IsMonotonic() bool {
	m, ok := any(s.bolt).(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// GetLog implements raft.LogStore. An entry that does not match its seal is an
// error that names the file.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	sealed, err := s.read(index, l)
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return raft.ErrLogNotFound // raft compares it with ==
	case err == nil && !sealed && index >= s.sealedFrom.Load():
		err = errors.New("it has no checksum, entries before it have one")
	}
	if err != nil {
		return damagef(fileRaft, "entry %d: %w", index, err)
	}
	return nil
}

// read gets an entry and takes its seal off.
func (s *logStore) read(index uint64, l *raft.Log) (sealed bool, err error) {
	*l = raft.Log{}
	if err := safely(func() error { return s.bolt.GetLog(index, l) }); err != nil {
		return false, err
	}
	if l.Index != index {
		return false, fmt.Errorf("it says it is entry %d", l.Index)
	}
	if len(l.Extensions) == 0 {
		return false, nil
	}
	ext, sum, ok := cutSeal(l.Extensions)
	if !ok || sum != entrySum(l, ext) {
		return false, errSum
	}
	if l.Extensions = ext; len(ext) == 0 {
		l.Extensions = nil
	}
	return true, nil
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries are raft's and in use by
// others meanwhile, so the seal goes onto copies. A full disk refuses entries
// and leaves the reserve to what must be written: raft steps down, or the
// leader tries again.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	copies, to := make([]raft.Log, len(logs)), make([]*raft.Log, len(logs))
	for i, l := range logs {
		copies[i], to[i] = *l, &copies[i]
		ext := make([]byte, 0, len(l.Extensions)+sealSize)
		copies[i].Extensions = appendSeal(append(ext, l.Extensions...), entrySum(l, l.Extensions))
	}
	err := s.w.once(WriteLog, func() error {
		if err := s.bolt.StoreLogs(to); err != nil {
			return err
		}
		s.mark.set(logs[len(logs)-1]) // inside: a frozen disk may hang here first
		return nil
	})
	if err != nil {
		return inRaftDB(err)
	}
	s.sealedFrom.Store(min(s.sealedFrom.Load(), logs[0].Index)) // raft has one writer at a time
	return nil
}

// cutEntries is how many entries are deleted in one transaction. A snapshot lets
// go of a hundred thousand: in one, raft's loop would wait for seconds to write,
// and a watchdog would take a healthy leader's disk for hung.
const cutEntries = 2048

// DeleteRange implements raft.LogStore. It gives space back, so it may use the
// reserve. It deletes from the end of the log that the range is at, so that a
// crash leaves no gap.
func (s *logStore) DeleteRange(first, last uint64) error {
	logFirst, err := s.FirstIndex()
	if err != nil {
		return err
	}
	logLast, err := s.LastIndex()
	if err != nil {
		return err
	}
	if s.mark.cuts(logFirst, first, last) {
		if err := s.w.must(WriteCut, s.mark.takeBack); err != nil {
			return inRaftDB(err)
		}
	}
	first, last = max(first, logFirst), min(last, logLast)
	for err == nil && logFirst > 0 && first <= last { // an empty log begins and ends at 0
		from, to := first, last
		if first == logFirst {
			to = min(last, first+cutEntries-1)
		} else if last-first >= cutEntries {
			from = last - cutEntries + 1
		}
		err = s.w.must(WriteCut, func() error {
			s.w.at("log/delete")
			return s.bolt.DeleteRange(from, to)
		})
		switch { // raft leaves a gap where it installed a snapshot: go on behind that
		case err != nil:
			err = inRaftDB(err)
		case first == logFirst:
			logFirst, err = s.FirstIndex()
			first = logFirst
		case last == logLast:
			logLast, err = s.LastIndex()
			last = logLast
		default: // raft deletes nothing from the middle
			last = from - 1
		}
	}
	return err
}

// entrySum is the CRC-32C over all of an entry; ext is what else stands in
// Extensions. The time is taken as seconds and nanoseconds: its location does
// not survive.
func entrySum(l *raft.Log, ext []byte) uint32 {
	var b [37]byte
	binary.BigEndian.PutUint64(b[0:], l.Index)
	binary.BigEndian.PutUint64(b[8:], l.Term)
	b[16] = byte(l.Type)
	if !l.AppendedAt.IsZero() {
		binary.BigEndian.PutUint64(b[17:], uint64(l.AppendedAt.Unix()))
		binary.BigEndian.PutUint32(b[25:], uint32(l.AppendedAt.Nanosecond()))
	}
	binary.BigEndian.PutUint64(b[29:], uint64(len(ext)))
	sum := crc32.Update(0, castagnoli, b[:])
	return crc32.Update(crc32.Update(sum, castagnoli, ext), castagnoli, l.Data)
}

// inRaftDB adds the file's name to an error.
func inRaftDB(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fileRaft, err)
}
