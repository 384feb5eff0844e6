package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/durable"
)

// logMark remembers in raft.mark the newest entry that the log acknowledged. A
// page of bbolt carries no date: one damaged bit in a branch can bring back an
// older copy of the log's last page, sound in itself, and entries that others
// count on would be gone unseen. So would they if an old raft.db were put back.
//
// The mark is written without a sync after the entry is durable, so it may be
// behind after a power loss, but never ahead. It is one small piece of one
// sector. Before the end of the log is cut off it is taken back, durable.
type logMark struct {
	f     *os.File
	index atomic.Uint64 // 0: it says nothing. Entries are stored and compacted at the same time
}

const markSize = 8 + 4 + sealSize

func markBytes(index uint64, sum uint32) []byte {
	b := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, index), sum)
	return appendSeal(b, crc32.Checksum(b, castagnoli))
}

// readMark returns the newest entry that was acknowledged, as far as is known.
func readMark(dir string) (index uint64, sum uint32, err error) {
	b, err := os.ReadFile(filepath.Join(dir, fileMark))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil // an older version ran here, or nobody
	}
	if err != nil {
		return 0, 0, damaged(fileMark, err)
	}
	body, seal, ok := cutSeal(b)
	if !ok || len(b) != markSize || seal != crc32.Checksum(body, castagnoli) {
		return 0, 0, damaged(fileMark, errSum)
	}
	return binary.BigEndian.Uint64(body), binary.BigEndian.Uint32(body[8:]), nil
}

// checkMark holds the log against the mark. One before the log's first entry is
// old: entries were compacted since.
func checkMark(dir string, log *logStore, found raftFile) error {
	index, sum, err := readMark(dir)
	if err != nil || index == 0 {
		return err
	}
	if last := found.last(); last < index {
		return damagef(fileRaft, "it ends at entry %d, but entry %d was acknowledged", last, index)
	}
	for _, r := range found.runs {
		if index < r.first || index > r.last {
			continue
		}
		var l raft.Log
		if _, err := log.read(index, &l); err != nil {
			return damaged(fileRaft, err)
		}
		if entrySum(&l, l.Extensions) != sum {
			return damagef(fileRaft, "entry %d is not the one that was acknowledged", index)
		}
	}
	return nil
}

// openMark opens the mark and lets it say what the log holds now.
func openMark(dir string, log *logStore, found raftFile) (*logMark, error) {
	name := filepath.Join(dir, fileMark)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) { // it gets its name when it is whole
		if err := writeFile(name+suffixNew, string(markBytes(0, 0))); err != nil {
			return nil, err
		}
		if err := errors.Join(os.Rename(name+suffixNew, name), durable.SyncDir(dir)); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	m := &logMark{f: f}
	if last := found.last(); last > 0 {
		var l raft.Log
		if _, err := log.read(last, &l); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		m.set(&l)
	}
	return m, nil
}

// set notes the newest entry. If it cannot be written the mark stays behind,
// which is allowed.
func (m *logMark) set(l *raft.Log) {
	if m == nil {
		return
	}
	if _, err := m.f.WriteAt(markBytes(l.Index, entrySum(l, l.Extensions)), 0); err == nil {
		m.index.Store(l.Index)
	}
}

// takeBack makes the mark say nothing, durably.
func (m *logMark) takeBack() error {
	if m == nil || m.index.Load() == 0 {
		return nil
	}
	if _, err := m.f.WriteAt(markBytes(0, 0), 0); err != nil {
		return err
	}
	if err := durable.Sync(m.f); err != nil {
		return err
	}
	m.index.Store(0)
	return nil
}

// cuts tells whether deleting entries takes more than the beginning of the log.
func (m *logMark) cuts(logFirst, first, last uint64) bool {
	return m != nil && (last >= m.index.Load() || first > logFirst)
}

func (m *logMark) close() error {
	if m == nil {
		return nil
	}
	return m.f.Close()
}
