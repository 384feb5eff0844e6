package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/durable"
)

// Scheduled backups. Each node that is told to writes its own, from what its
// replica has; a file stands under its name only after it was verified.

// backupLook is how often the schedule is looked at; with a shorter period it
// is that. backupRetry is the pause after a failure.
const (
	backupLook  = time.Minute
	backupRetry = 5 * time.Minute
)

// backupLog is the last word on scheduled backups.
type backupLog struct {
	mu   sync.Mutex
	last client.BackupStatus
}

// backupStatus returns what the status shows, nil when no backups are scheduled.
func (n *Node) backupStatus() *client.BackupStatus {
	if !n.schedulesBackups() {
		return nil
	}
	n.backups.mu.Lock()
	defer n.backups.mu.Unlock()
	last := n.backups.last
	return &last
}

func (n *Node) schedulesBackups() bool { return n.cfg.BackupDir != "" && n.cfg.BackupEvery > 0 }

// backupLoop writes a backup whenever the newest one is old enough.
func (n *Node) backupLoop(ctx context.Context) {
	if !n.schedulesBackups() {
		return
	}
	for tried := (time.Time{}); ; {
		if n.Ready() == nil && n.backupDue() && time.Since(tried) >= min(backupRetry, n.cfg.BackupEvery) {
			tried = time.Now()
			n.scheduledBackup()
		}
		if !pause(ctx, min(backupLook, n.cfg.BackupEvery)) {
			return
		}
	}
}

// backupDue goes by the files, so that restarts neither skip nor repeat one.
func (n *Node) backupDue() bool {
	files, err := n.backupFiles()
	if err != nil || len(files) == 0 {
		return true
	}
	newest := files[len(files)-1]
	n.backups.mu.Lock()
	if n.backups.last.LastIndex == 0 {
		n.backups.last.LastMs, n.backups.last.LastIndex = newest.at.UnixMilli(), newest.index
	}
	n.backups.mu.Unlock()
	age := time.Since(newest.at)
	return age >= n.cfg.BackupEvery || age < -n.cfg.BackupEvery // the clock was set back
}

func (n *Node) scheduledBackup() {
	info, err := n.writeScheduled()
	switch {
	case err == nil:
		err = n.dropOldBackups(n.cfg.BackupKeep)
	case backupFault(err) == errBackupRoom.Error(): // it may have grown: the next try has the room of an old one
		err = errors.Join(err, n.dropOldBackups(n.cfg.BackupKeep-1))
	}
	n.backups.mu.Lock()
	defer n.backups.mu.Unlock()
	n.backups.last.Error = backupFault(err)
	if err != nil {
		n.log.Error("the scheduled backup failed", "dir", n.cfg.BackupDir, "error", err)
	}
	if info.Index > 0 {
		n.backups.last.LastMs, n.backups.last.LastIndex = time.Now().UnixMilli(), info.Index
		n.log.Info("backup written", "dir", n.cfg.BackupDir, "index", info.Index, "epoch", info.Epoch, "bytes", info.Bytes)
	}
}

// writeScheduled writes one backup and returns what it is; zero when there is none.
func (n *Node) writeScheduled() (BackupInfo, error) {
	if err := os.MkdirAll(n.cfg.BackupDir, 0o700); err != nil {
		return BackupInfo{}, err
	}
	if err := n.roomForBackup(); err != nil {
		return BackupInfo{}, err
	}
	b, err := n.Backup()
	if err != nil {
		return BackupInfo{}, err
	}
	dir, err := n.backupRoot()
	if err != nil {
		return BackupInfo{}, err
	}
	defer dir.Close()
	// The node's id: other nodes may write into the same directory.
	part := "." + b.Name + "." + rand.Text() + "." + n.id.NodeID + backupPart
	defer dir.Remove(part) // gone once it was renamed
	f, err := dir.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return BackupInfo{}, err
	}
	defer f.Close()
	if err := errors.Join(b.Write(&backupWriter{f: f, look: n.backupMayGoOn}), f.Sync()); err != nil {
		return BackupInfo{}, fmt.Errorf("write %s: %w", filepath.Join(n.cfg.BackupDir, part), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return BackupInfo{}, err
	}
	r, err := loadBackup(f, &chainWalk{}, nil)
	if err != nil {
		n.noteChain("the history of this node", err)
		return BackupInfo{}, fmt.Errorf("the backup of index %d does not verify: %w", b.Index, err)
	}
	if err := dir.Rename(part, scheduledName(r.ClusterID, r.Epoch, r.Index, n.id.NodeID)); err != nil {
		return BackupInfo{}, err
	}
	return r.BackupInfo, durable.SyncDir(n.cfg.BackupDir)
}

const backupPart = ".partial"
