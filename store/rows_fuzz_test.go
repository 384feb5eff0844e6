package store

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// FuzzHistoryRow seals what it is given, since random bytes never carry their
// own checksum: a row that is accepted has no second spelling.
func FuzzHistoryRow(f *testing.F) {
	f.Add(row{Record: fsm.Record{Stream: 1, Seq: 2, Index: 3, Data: []byte("x")}, sum: 4}.encode(), byte(1), uint64(2))
	f.Add([]byte{0, 0, 0, 0}, byte(0), uint64(0))
	f.Fuzz(func(t *testing.T, value []byte, stream byte, seq uint64) {
		s := fsm.Stream(stream)
		if len(value) >= 4 {
			binary.BigEndian.PutUint32(value, rowSum(s, seq, value))
		}
		r, err := decodeRow(s, seq, value)
		if err == nil && !bytes.Equal(r.encode(), value) {
			t.Errorf("%x became %x", value, r.encode())
		}
		if err == nil {
			if _, err := decodeRow(s, seq+1, value); err == nil {
				t.Error("the row of one record passes for the next one's")
			}
		}
	})
}

// FuzzHistoryHead does the same for the head, but streams may stand in any order.
func FuzzHistoryHead(f *testing.F) {
	f.Add(head{epoch: 1, base: 1, tails: map[fsm.Stream]tail{1: {2, 3}, 2: {1, 9}}}.encode())
	f.Add(newHead().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
		}
		h, err := decodeHead(b)
		if err != nil {
			return
		}
		again, err := decodeHead(h.encode())
		if err != nil || !bytes.Equal(again.encode(), h.encode()) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

// FuzzSnapshotMeta: the description of a snapshot and the name of its directory
// are refused or agree with each other.
func FuzzSnapshotMeta(f *testing.F) {
	f.Add([]byte(`{"ID":"2-9-1","Index":9,"Term":2}`), "2-9-1")
	f.Add([]byte(`null`), "..-1-1")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		at, ok := parseID(name)
		if !ok {
			return
		}
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return
		}
		if err := os.WriteFile(filepath.Join(dir, name, fileMeta), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := &snapshotStore{dir: dir}
		if err := s.seal(name); err != nil {
			t.Fatal(err)
		}
		meta, err := s.readMeta(name)
		if err == nil && (meta.ID != name || meta.Index != at.index || meta.Term != at.term) {
			t.Errorf("%q passes for %q", text, name)
		}
	})
}
