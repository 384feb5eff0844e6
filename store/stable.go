package store

import (
	"encoding/binary"
	"errors"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// stableStore keeps raft's term and vote in raft.db, each value with a seal.
// They must be written even on a full disk: a vote that is not on disk is not
// cast, and a cluster without votes stands still.
type stableStore struct {
	bolt *raftboltdb.BoltStore
	w    *writer
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, value []byte) error {
	sealed := appendSeal(append(make([]byte, 0, len(value)+sealSize), value...), pairSum(key, value))
	return inRaftDB(s.w.must(WriteStable, func() error { return s.bolt.Set(key, sealed) }))
}

// Get implements raft.StableStore. A value that does not match its seal is an
// error that names the file.
func (s *stableStore) Get(key []byte) (value []byte, err error) {
	err = safely(func() (err error) { value, err = s.bolt.Get(key); return err })
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, raftboltdb.ErrKeyNotFound // raft compares its text
	}
	if err == nil {
		value, err = openPair(key, value)
	}
	if err != nil {
		return nil, damagef(fileRaft, "value %q: %w", key, err)
	}
	return value, nil
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, damagef(fileRaft, "value %q: %d bytes, a number has 8", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
