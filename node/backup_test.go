package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// save has node i write a backup to a file.
func (c *trio) save(i int) string {
	c.t.Helper()
	f, err := os.CreateTemp(c.t.TempDir(), "backup-*.snapshot")
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := c.client(i, c.admin).Snapshot(c.t.Context(), f, client.Strong()); err != nil {
		c.t.Fatalf("save at node %d: %v", i, err)
	}
	return f.Name()
}

// open returns a backup to send.
func (c *trio) open(path string) client.Backup {
	c.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		c.t.Fatal(err)
	}
	return client.Backup{ReaderAt: f, Size: info.Size()}
}

// TestBackupUnderTraffic: what is saved while everybody writes is one state, at
// every node, and verifies; a flipped byte anywhere does not.
func TestBackupUnderTraffic(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(0, "busy")
	verifier := c.token("verifier", -1)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range c.nodes {
		all.Go(func() {
			cl := c.client(i, verifier)
			for k := 0; ctx.Err() == nil; k++ {
				_, _ = cl.Admit(ctx, a.request(t, fmt.Sprint(i, "-", k))) // most are over the agent's limit: they still travel
				if k%3 == 0 {
					c.ban(i, fmt.Sprint("bad-", i, "-", k))
				}
			}
		})
	}
	var files []string
	for i := range c.nodes {
		c.eventually("more bans", func() (more bool) {
			c.nodes[i].machine.Read(func(s *fsm.State) { _, size := s.Chain(); more = size > uint64(3*i) })
			return more
		})
		files = append(files, c.save(i))
	}
	stop()
	all.Wait()
	for i, file := range files {
		last := uint64(0)
		report, err := VerifyBackup(file, func(events, _ uint64) { last = events })
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
		if report.Events == 0 || report.Events != report.ChainSize || report.ClusterID != c.nodes[0].id.ClusterID || report.Epoch != 1 || last > report.Events {
			t.Errorf("node %d: %+v", i, report)
		}
		if info, err := os.Stat(file); err != nil || info.Size() != report.Bytes || report.HistoryBytes == 0 {
			t.Errorf("node %d: %d bytes, %d of history", i, report.Bytes, report.HistoryBytes)
		}
	}
	data, err := os.ReadFile(files[2])
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 1 + len(data)/97 {
		flipped := bytes.Clone(data)
		flipped[at] ^= 0x10
		if _, err := loadBackup(bytes.NewReader(flipped), &chainWalk{}, nil); !errors.Is(err, ErrBackup) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
		if _, err := loadBackup(bytes.NewReader(data[:at]), &chainWalk{}, nil); !errors.Is(err, ErrBackup) {
			t.Fatalf("cut at byte %d: %v", at, err)
		}
	}
}

// TestBackupOfAReplacedHistory: a state does not go out with the history that
// took the place of its own, however early that was.
func TestBackupOfAReplacedHistory(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	c.ban(0, "bad")
	b, err := c.nodes[0].Backup()
	if err != nil {
		t.Fatal(err)
	}
	h := c.nodes[0].store.History
	_, totals := h.Totals()
	err = h.Import(9, totals, func(yield func(fsm.Record, error) bool) {
		for _, s := range fsm.Streams() {
			for seq := uint64(1); seq <= totals[s]; seq++ {
				if !yield(fsm.Record{Stream: s, Seq: seq, Index: 1, Data: fmt.Append(nil, "other ", seq)}, nil) {
					return
				}
			}
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(io.Discard); err == nil {
		t.Error("a backup of two epochs was written to its end")
	}
}

// forged is a backup whose checksums are right and whose contents are not.
func (c *trio) forged(path string, change func(fsm.Record) fsm.Record) []byte {
	c.t.Helper()
	in, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer in.Close()
	s, h, err := fsm.ReadSnapshot(in)
	if err != nil {
		c.t.Fatal(err)
	}
	var out bytes.Buffer
	err = s.Freeze().Write(&out)
	if err == nil {
		err = fsm.WriteHistory(&out, h.Totals(), func(yield func(fsm.Record, error) bool) {
			for r, err := range h.Records() {
				if err == nil {
					r = change(r)
				}
				if !yield(r, err) {
					return
				}
			}
		})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return out.Bytes()
}

// TestVerifyNamesTheBadEvent: a backup that was rewritten with good checksums
// fails at the signed chain.
func TestVerifyNamesTheBadEvent(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	c.ban(0, "first")
	second := c.ban(0, "second")
	c.ban(0, "third")
	path := c.save(0)
	data := c.forged(path, func(r fsm.Record) fsm.Record {
		if r.Stream == fsm.StreamBlacklist && r.Seq == 2 {
			r.Data = bytes.Replace(r.Data, []byte(`"agentId":"second"`), []byte(`"agentId":"sacred"`), 1)
		}
		return r
	})
	_, err := loadBackup(bytes.NewReader(data), &chainWalk{}, nil)
	var fault *crypto.ChainError
	if !errors.Is(err, ErrBackup) || !errors.As(err, &fault) || fault.Seq != 1 || fault.EventID != second.EventID || fault.Code != crypto.ChainHashMismatch {
		t.Errorf("%v", err)
	}
	if _, err := loadBackup(bytes.NewReader(data), nil, nil); err != nil {
		t.Errorf("without the walk the checksums are right: %v", err)
	}
	same := c.forged(path, func(r fsm.Record) fsm.Record { return r })
	if _, err := loadBackup(bytes.NewReader(same), &chainWalk{}, nil); err != nil {
		t.Errorf("rewritten as it was: %v", err)
	}
}

// A node's own snapshot ends after the live part; it is no backup.
func TestLiveSnapshotIsNoBackup(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	var live bytes.Buffer
	if err := c.nodes[0].machine.Freeze().Write(&live); err != nil {
		t.Fatal(err)
	}
	if _, err := loadBackup(&live, nil, nil); !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "history is missing") {
		t.Errorf("%v", err)
	}
	if _, err := InspectBackup(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := loadBackup(strings.NewReader("something else entirely"), nil, nil); !errors.Is(err, ErrBackup) {
		t.Errorf("no snapshot: %v", err)
	}
}

// TestScheduledBackups: written, verified, counted in the status; the oldest go,
// and nothing else in the directory does.
func TestScheduledBackups(t *testing.T) {
	heavy(t)
	t.Parallel()
	dir := t.TempDir()
	c := &trio{t: t, adjust: func(_ int, cfg *Config) {
		cfg.BackupDir, cfg.BackupEvery, cfg.BackupKeep = dir, 50*time.Millisecond, 3
	}}
	t.Cleanup(c.stopAll)
	others := []string{"edgecoder-0123456789abcdef0123456789abcdef-1-7.snapshot", "edgecoder-notes.snapshot", "mine.txt"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.grow(1)
	n := c.nodes[0]
	seen := map[string]bool{}
	c.eventually("more backups than are kept", func() bool {
		files, err := n.backupFiles()
		if err != nil || len(files) > 4 { // one more for the moment between the two
			t.Fatalf("%d files: %v", len(files), err)
		}
		for _, f := range files {
			seen[f.name] = true
		}
		c.ban(0, fmt.Sprint("ban-", len(seen), time.Now().UnixNano()))
		return len(seen) > 5
	})
	c.eventually("the status tells", func() bool {
		b := n.Status().Backup
		return b != nil && b.LastIndex > 0 && b.LastMs > 0 && b.Error == ""
	})
	c.stopAll()
	files, err := n.backupFiles()
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		if _, err := VerifyBackup(filepath.Join(dir, f.name), nil); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		if info, err := os.Stat(filepath.Join(dir, f.name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", f.name, info.Mode())
		}
	}
	for _, name := range others {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a file of somebody else is gone: %v", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(others)+3 {
		t.Errorf("%d entries are left: %v", len(entries), err)
	}
}

// A directory that cannot be written shows in the status, and nothing stops.
func TestScheduledBackupFails(t *testing.T) {
	heavy(t)
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t, adjust: func(_ int, cfg *Config) {
		cfg.BackupDir, cfg.BackupEvery = filepath.Join(file, "sub"), 50*time.Millisecond
	}}
	t.Cleanup(c.stopAll)
	c.grow(1)
	c.eventually("the status tells", func() bool {
		b := c.nodes[0].Status().Backup
		return b != nil && b.Error != "" && b.LastIndex == 0
	})
	c.ban(0, "served")
}

// A history keeps its order, and new records go behind those of their stream.
func TestRecordsBehindAHistory(t *testing.T) {
	heavy(t)
	rec := func(s fsm.Stream, seq, index uint64) fsm.Record {
		return fsm.Record{Stream: s, Seq: seq, Index: index, Data: []byte(fmt.Sprint(s, seq))}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, old := range [][]fsm.Record{nil, {rec(1, 1, 5), rec(1, 2, 900), rec(2, 1, 4), rec(2, 2, 901)}, {rec(2, 1, 4)}, {rec(1, 1, 5)}} {
		for _, more := range [][]fsm.Record{nil, {rec(2, 3, 50)}, {rec(1, 3, 50), rec(2, 3, 50), rec(1, 4, 50)}} {
			if err := f.Truncate(0); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			s := newSpool(f, f)
			for _, r := range old {
				if err := s.add(r); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.done(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // as often as anybody wants
				n, before := 0, fsm.Record{}
				for r, err := range thenRecords(s.records(50), more) {
					if err != nil || r.Index > 50 || r.Stream < before.Stream || (r.Stream == before.Stream && (r.Seq <= before.Seq || r.Index < before.Index)) {
						t.Fatalf("%v after %v: %v", r, before, err)
					}
					n, before = n+1, r
				}
				if n != len(old)+len(more) {
					t.Errorf("%d records of %d and %d", n, len(old), len(more))
				}
			}
		}
	}
}
