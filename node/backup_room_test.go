package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// roomyTrio is a backupTrio whose file system has as much free space as the test
// says.
func roomyTrio(t *testing.T) (c *trio, free *atomic.Int64) {
	t.Helper()
	free = new(atomic.Int64)
	free.Store(1 << 39)
	dir := t.TempDir()
	c = &trio{t: t, adjust: func(_ int, cfg *Config) {
		cfg.BackupDir, cfg.BackupKeep = dir, 2
		cfg.disk.statfs = func(string) (int64, int64, error) { return free.Load(), 1 << 40, nil }
	}}
	t.Cleanup(c.stopAll)
	c.grow(1)
	return c, free
}

// backedUp writes a backup of a new state.
func (c *trio) backedUp(ban string) string {
	c.t.Helper()
	n := c.nodes[0]
	c.ban(0, ban)
	n.scheduledBackup()
	files, err := n.backupFiles()
	if b := n.lastBackup(); err != nil || b.Error != "" || len(files) == 0 || files[len(files)-1].index != b.LastIndex {
		c.t.Fatalf("%+v %v %v", b, files, err)
	}
	return files[len(files)-1].name
}

// TestScheduledBackupLeavesRoom: none is written into the last of the disk; an old
// one makes way, and never the newest.
func TestScheduledBackupLeavesRoom(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, free := roomyTrio(t)
	n := c.nodes[0]
	c.backedUp("a")
	newest := c.backedUp("b")
	enough := n.disk.space.Room().Enough
	for name, left := range map[string]int64{"below the low mark": enough / 4, "no room for one more beside the high mark": enough + 100} {
		free.Store(left)
		if _, err := n.disk.space.Check(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			n.scheduledBackup()
			files, err := n.backupFiles()
			if b := n.lastBackup(); err != nil || b.Error != errBackupRoom.Error() || len(files) != 1 || files[0].name != newest {
				t.Errorf("%s: %+v %v %v", name, b, files, err)
			}
		}
		if entries, err := os.ReadDir(n.cfg.BackupDir); err != nil || len(entries) != 1 {
			t.Errorf("%s: left behind: %v %v", name, entries, err)
		}
	}
	free.Store(1 << 39)
	if _, err := n.disk.space.Check(); err != nil {
		t.Fatal(err)
	}
	c.backedUp("c")
}

// TestRetentionKnowsItsOwn: what an operator saved into the same directory, or
// another node wrote there, neither counts nor goes.
func TestRetentionKnowsItsOwn(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, dir := backupTrio(t)
	n := c.nodes[0]
	data, err := os.ReadFile(c.save(0))
	if err != nil {
		t.Fatal(err)
	}
	r, err := VerifyBackup(c.write(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	others := []string{r.FileName(), scheduledName(r.ClusterID, r.Epoch, r.Index, "another-node")}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		c.backedUp(fmt.Sprint("ban-", i))
	}
	for _, name := range others {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if files, err := n.backupFiles(); err != nil || len(files) != 2 {
		t.Errorf("%v %v", files, err)
	}
}

// slowFile counts what a writer asks of it.
type slowFile struct{ written, synced, most int }

func (f *slowFile) Write(b []byte) (int, error) {
	f.written += len(b)
	f.most = max(f.most, f.written-f.synced)
	return len(b), nil
}

func (f *slowFile) Sync() error {
	f.synced = f.written
	return nil
}

// TestBackupIsSyncedPieceByPiece, and stops where the room ends.
func TestBackupIsSyncedPieceByPiece(t *testing.T) {
	f := &slowFile{}
	asked := 0
	w := &backupWriter{f: f, look: func() error {
		if asked++; asked == 3 {
			return errBackupRoom
		}
		return nil
	}}
	piece := make([]byte, 1<<20)
	var err error
	for err == nil {
		_, err = w.Write(piece)
	}
	if !errors.Is(err, errBackupRoom) || f.written != 3*backupSync || f.most > backupSync {
		t.Errorf("%v: %+v", err, f)
	}
}

// TestCallersHearNoPaths: what a disk does shows in answers by fixed words.
func TestCallersHearNoPaths(t *testing.T) {
	t.Parallel()
	const secret = "/var/lib/secret"
	for _, err := range []error{
		&os.PathError{Op: "write", Path: secret, Err: syscall.EIO},
		fmt.Errorf("what room is left in %s: %w", secret, syscall.ENOSPC),
		fmt.Errorf("%w: %s", raft.ErrLeadershipLost, secret),
	} {
		if got := raftError(err).Detail; strings.Contains(got, secret) || got == "" {
			t.Error(got)
		}
		if got := backupFault(err); strings.Contains(got, secret) || got == "" {
			t.Error(got)
		}
	}
	if got := backupFault(fmt.Errorf("%s: %w", secret, syscall.ENOSPC)); got != errBackupRoom.Error() {
		t.Error(got)
	}
	n := &Node{disk: &disk{dir: secret}}
	n.cfg.Timing.Stall = 1
	n.disk.stalledFor.Store(2)
	if e := n.readyDisk(); e == nil || e.Reason != reasonDisk || strings.Contains(e.Detail, secret) {
		t.Errorf("%+v", e)
	}
}

// TestBackupWithAPathForAClusterID: the id becomes part of a file's name.
func TestBackupWithAPathForAClusterID(t *testing.T) {
	t.Parallel()
	for id, safe := range map[string]bool{"x/../../../../outside/evil": false, ".": false, "..": false, ".hidden": false, "a/b": false,
		"a\\b": false, "a b": false, "ü": false, "00112233445566778899aabbccddeeff": true, "Prod_1.eu-west": true} {
		l := newLoneCluster(t, id)
		var file bytes.Buffer
		f := l.machine.Freeze()
		if err := errors.Join(f.Write(&file), fsm.WriteHistory(&file, f.Totals(), l.machine.History().(*fsm.MemoryHistory).UpTo(f.Totals()))); err != nil {
			t.Fatal(err)
		}
		_, err := loadBackup(&file, nil, nil)
		if safe != (err == nil) || !safe && (!errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "no cluster id")) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
