package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// TestScheduledBackupAmongPlantedFiles: links and pipes under the names that a
// backup takes are neither followed nor waited for, and what only looks like a
// backup pushes none out.
func TestScheduledBackupAmongPlantedFiles(t *testing.T) {
	t.Parallel()
	c, dir := backupTrio(t)
	n := c.nodes[0]
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	planted := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	index, _ := n.machine.Index()
	for i := range uint64(100) {
		name := scheduledName(n.id.ClusterID, 1, index+i, n.id.NodeID)
		part := filepath.Join(dir, "."+name+"."+n.id.NodeID+backupPart)
		if i%2 == 0 {
			planted(os.Symlink(victim, part))
		} else {
			planted(syscall.Mkfifo(part, 0o644))
		}
		planted(os.Symlink(victim, filepath.Join(dir, name)))
	}
	for i := range uint64(3) { // newer than all, empty, a pipe, or another state under its name
		planted(os.WriteFile(filepath.Join(dir, scheduledName(n.id.ClusterID, 999, i+1, n.id.NodeID)), nil, 0o600))
		planted(syscall.Mkfifo(filepath.Join(dir, scheduledName(n.id.ClusterID, 998, i+1, n.id.NodeID)), 0o600))
	}
	last := ""
	for i := range 3 {
		c.ban(0, "ban-"+string(rune('a'+i)))
		n.scheduledBackup()
		b := n.lastBackup()
		if b.Error != "" || b.LastIndex == 0 {
			t.Fatalf("%+v", b)
		}
		last = scheduledName(n.id.ClusterID, 1, b.LastIndex, n.id.NodeID)
		if i == 0 {
			data, err := os.ReadFile(filepath.Join(dir, last))
			planted(err)
			planted(os.WriteFile(filepath.Join(dir, scheduledName(n.id.ClusterID, 997, 1, n.id.NodeID)), data, 0o600))
		}
	}
	files, err := n.backupFiles()
	if err != nil || len(files) != 2 || files[1].name != last {
		t.Errorf("%v: %+v", err, files)
	}
	if _, err := VerifyBackup(filepath.Join(dir, last), nil); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(filepath.Join(dir, last)); err != nil || info.Mode() != 0o600 {
		t.Error(info, err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the file behind the links: %q %v", text, err)
	}
	for i := range uint64(3) {
		if _, err := os.Lstat(filepath.Join(dir, scheduledName(n.id.ClusterID, 999, i+1, n.id.NodeID))); err != nil {
			t.Error("a file of somebody else is gone:", err)
		}
	}
	if os.Geteuid() == 0 { // one of another user neither counts nor goes
		planted(os.Chown(filepath.Join(dir, last), 12345, -1))
		if files, err := n.backupFiles(); err != nil || len(files) != 1 {
			t.Errorf("%v: %+v", err, files)
		}
	}
}

// TestBackupDirIsOurs: a directory that others may write, or own, takes no backup.
func TestBackupDirIsOurs(t *testing.T) {
	t.Parallel()
	c, dir := backupTrio(t)
	n := c.nodes[0]
	for _, k := range []struct {
		spoil func() error
		want  string
	}{
		{func() error { return os.Chmod(dir, 0o757) }, "others may write"},
		{func() error { return os.Chmod(dir, 0o770) }, "others may write"},
		{func() error { return errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 12345, -1)) }, "belongs to another user"},
	} {
		if err := k.spoil(); err != nil {
			t.Logf("%s: %v", k.want, err) // only root gives directories away
			continue
		}
		n.scheduledBackup()
		b := n.lastBackup()
		if !strings.Contains(b.Error, k.want) || b.LastIndex != 0 || !n.backupDue() {
			t.Errorf("%s: %+v", k.want, b)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: %v %v", k.want, entries, err)
		}
	}
}

// backupTrio is a cluster of one that writes its backups when it is told to.
func backupTrio(t *testing.T) (c *trio, dir string) {
	dir = t.TempDir()
	c = &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.BackupDir, cfg.BackupKeep = dir, 2 }}
	t.Cleanup(c.stopAll)
	c.grow(1)
	return c, dir
}

func (n *Node) lastBackup() client.BackupStatus {
	n.backups.mu.Lock()
	defer n.backups.mu.Unlock()
	return n.backups.last
}
