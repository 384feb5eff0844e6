package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/durable"
	"github.com/edgecoder/edgecoder/fsm"
)

// snapshotStore is raft.SnapshotStore on raft's own file store. It reads back
// what was written, protects meta.json with a checksum, drops old snapshots in
// one step each, and adds the history to a snapshot that travels.
//
// A directory snapshots/ID has meta.json and state.bin (raft's) and meta.sum,
// the SHA-256 of meta.json. One without meta.sum was written by an older
// version, or a crash came before its sink was closed.
type snapshotStore struct {
	dir     string // of the snapshots
	keep    int
	files   *raft.FileSnapshotStore
	history *History // may be nil while the directory is checked
	w       *writer
	log     *slog.Logger
	statfs  func(dir string) (free, size int64, err error)

	mu        sync.Mutex
	infos     map[string]fsm.SnapshotInfo // of scanned snapshots; their files never change
	unsettled string                      // the installed snapshot that is not known to be restored, see Settle
}

func openSnapshots(dir string, keep int, w *writer, log *slog.Logger, raftLog hclog.Logger) (*snapshotStore, error) {
	if keep < 1 {
		return nil, fmt.Errorf("store: %d snapshots to keep, at least 1", keep)
	}
	// It is to keep all: its own way to drop a snapshot leaves half of one behind
	// in a crash, and comes before the new one was read back.
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, math.MaxInt, raftLog)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dirSnapshots, err)
	}
	return &snapshotStore{dir: filepath.Join(dir, dirSnapshots), keep: keep, files: files, w: w, log: log, infos: map[string]fsm.SnapshotInfo{}}, nil
}

// List implements raft.SnapshotStore: the newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.files.List()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dirSnapshots, err)
	}
	return all[:min(len(all), 2*s.keep)], nil // two of each at most, see spare
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	var inner raft.SnapshotSink
	err := s.w.once(WriteSnapshot, func() (err error) {
		inner, err = s.files.Create(version, index, term, conf, confIndex, trans)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dirSnapshots, err)
	}
	s.w.at("snapshot/created")
	return &snapshotSink{store: s, inner: inner}, nil
}

// info scans a snapshot once and remembers what it found.
func (s *snapshotStore) info(id string) (fsm.SnapshotInfo, error) {
	s.mu.Lock()
	info, ok := s.infos[id]
	s.mu.Unlock()
	if ok {
		return info, nil
	}
	_, info, err := s.look(id)
	if err != nil {
		return info, err
	}
	s.mu.Lock()
	s.infos[id] = info
	s.mu.Unlock()
	return info, nil
}

// look reads a snapshot to its end and checks all that can be.
func (s *snapshotStore) look(id string) (meta raft.SnapshotMeta, info fsm.SnapshotInfo, err error) {
	stored, err := s.readMeta(id)
	if err != nil {
		return meta, info, err
	}
	file := path.Join(dirSnapshots, id, fileState)
	in, err := os.Open(filepath.Join(s.dir, id, fileState))
	if err != nil {
		return meta, info, damaged(file, err)
	}
	defer in.Close()
	sum := crc64.New(crcOfState)
	all := io.TeeReader(in, sum)
	if info, err = fsm.ScanSnapshot(all); errors.Is(err, fsm.ErrLevel) {
		return meta, info, newerSnapshot(file, all, sum, stored.CRC, err)
	}
	if err != nil {
		return meta, info, damaged(file, err)
	}
	if size := info.LiveBytes + info.HistoryBytes; size != stored.Size || info.Index > stored.Index {
		return meta, info, damagef(file, "%d bytes of index %d, meta.json says %d of %d", size, info.Index, stored.Size, stored.Index)
	}
	if !bytes.Equal(sum.Sum(nil), stored.CRC) {
		return meta, info, damaged(file, errSum)
	}
	return stored.SnapshotMeta, info, nil
}

// newerSnapshot tells a snapshot of a newer binary, which is sound as far as its
// checksum goes, from one that a flipped bit makes look like it.
func newerSnapshot(file string, rest io.Reader, sum hash.Hash, want []byte, newer error) error {
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return damaged(file, err)
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return damaged(file, errSum)
	}
	return fmt.Errorf("%s: %w", file, newer)
}

// storedMeta is meta.json as raft's file store writes it.
type storedMeta struct {
	raft.SnapshotMeta
	CRC []byte
}

var crcOfState = crc64.MakeTable(crc64.ECMA)

// readMeta reads meta.json and holds it against its checksum and the name of
// its directory.
func (s *snapshotStore) readMeta(id string) (meta storedMeta, err error) {
	file, sumFile := path.Join(dirSnapshots, id, fileMeta), path.Join(dirSnapshots, id, fileSum)
	text, err := os.ReadFile(filepath.Join(s.dir, id, fileMeta))
	if err != nil {
		return meta, damaged(file, err)
	}
	sum, err := os.ReadFile(filepath.Join(s.dir, id, fileSum))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return meta, damaged(sumFile, err)
	default:
		want, err := crypto.ParseHash(strings.TrimSuffix(string(sum), "\n"))
		if err != nil || string(sum) != want.String()+"\n" {
			return meta, damagef(sumFile, "it is no checksum")
		}
		if crypto.Sum(text) != want {
			return meta, damaged(file, errSum)
		}
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return meta, damaged(file, err)
	}
	if at, ok := parseID(id); !ok || meta.ID != id || meta.Term != at.term || meta.Index != at.index {
		return meta, damagef(file, "it is of snapshot %q, term %d, index %d", meta.ID, meta.Term, meta.Index)
	}
	return meta, nil
}

// seal writes meta.sum.
func (s *snapshotStore) seal(id string) error {
	text, err := os.ReadFile(filepath.Join(s.dir, id, fileMeta))
	if err != nil {
		return err
	}
	name := filepath.Join(s.dir, id, fileSum)
	if err := writeFile(name+suffixNew, crypto.Sum(text).String()+"\n"); err != nil {
		return err
	}
	if err := os.Rename(name+suffixNew, name); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(name))
}

func writeFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, durable.Sync(f), f.Close())
}

// snapshotID is what the name of a snapshot's directory says.
type snapshotID struct {
	id                string
	term, index, time uint64
}

func parseID(name string) (snapshotID, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return snapshotID{}, false
	}
	var n [3]uint64
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return snapshotID{}, false
		}
		n[i] = v
	}
	return snapshotID{name, n[0], n[1], n[2]}, true
}

// names lists the snapshots by their names, the newest first as raft orders
// them, and what was left behind half made or half dropped.
func (s *snapshotStore) names() (ids []snapshotID, left []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if strings.HasSuffix(e.Name(), suffixTmp) {
			left = append(left, e.Name())
		} else if id, ok := parseID(e.Name()); ok { // others are none of ours
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b snapshotID) int {
		if a.term != b.term {
			return cmpDown(a.term, b.term)
		}
		if a.index != b.index {
			return cmpDown(a.index, b.index)
		}
		return strings.Compare(b.id, a.id)
	})
	return ids, left, nil
}

func cmpDown(a, b uint64) int {
	if a > b {
		return -1
	}
	return 1
}

// clean removes leftovers, and snapshots beyond those to keep: an older version
// may have dropped one of them by half.
func (s *snapshotStore) clean() error {
	ids, left, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	for _, id := range spare(ids, s.keep) {
		if err := s.drop(id.id); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a snapshot: first its name, in one step, then its files.
func (s *snapshotStore) drop(id string) error {
	from := filepath.Join(s.dir, id)
	to := from + ".old" + suffixTmp // not the name of one that is being written
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.infos, id)
	s.mu.Unlock()
	if err := durable.SyncDir(s.dir); err != nil {
		return err
	}
	s.w.at("snapshot/dropping")
	return os.RemoveAll(to)
}

// check verifies every snapshot and returns what is known of the newest.
func (s *snapshotStore) check() (newest fsm.SnapshotInfo, index uint64, err error) {
	ids, _, err := s.names()
	if err != nil {
		return newest, 0, err
	}
	for i, id := range ids {
		info, err := s.info(id.id)
		if err != nil {
			return newest, 0, err
		}
		if _, err := os.Stat(filepath.Join(s.dir, id.id, fileSum)); errors.Is(err, fs.ErrNotExist) {
			if err := s.seal(id.id); err != nil {
				return newest, 0, err
			}
		}
		if i == 0 {
			newest, index = info, id.index
		}
	}
	return newest, index, nil
}
