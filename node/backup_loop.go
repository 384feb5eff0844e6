package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
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
	if err == nil {
		err = n.dropOldBackups()
	}
	n.backups.mu.Lock()
	defer n.backups.mu.Unlock()
	n.backups.last.Error = ""
	if err != nil {
		n.backups.last.Error = err.Error()
		n.log.Error("the scheduled backup failed", "dir", n.cfg.BackupDir, "error", err)
	}
	if info.Index > 0 {
		n.backups.last.LastMs, n.backups.last.LastIndex = time.Now().UnixMilli(), info.Index
		n.log.Info("backup written", "dir", n.cfg.BackupDir, "index", info.Index, "epoch", info.Epoch, "bytes", info.Bytes)
	}
}

// writeScheduled writes one backup and returns what it is; zero when there is none.
func (n *Node) writeScheduled() (BackupInfo, error) {
	b, err := n.Backup()
	if err != nil {
		return BackupInfo{}, err
	}
	if err := os.MkdirAll(n.cfg.BackupDir, 0o700); err != nil {
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
	if err := errors.Join(b.Write(f), f.Sync()); err != nil {
		return BackupInfo{}, fmt.Errorf("write %s: %w", filepath.Join(n.cfg.BackupDir, part), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return BackupInfo{}, err
	}
	r, err := loadBackup(f, &chainWalk{}, nil)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("the backup of index %d does not verify: %w", b.Index, err)
	}
	if err := dir.Rename(part, b.Name); err != nil {
		return BackupInfo{}, err
	}
	return r.BackupInfo, syncDir(n.cfg.BackupDir)
}

const backupPart = ".partial"

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// backupRoot opens the directory of the backups, which only this user may
// write: who puts a file or a link there chooses what the node writes over, and
// what somebody restores one day.
func (n *Node) backupRoot() (*os.Root, error) {
	dir, err := os.OpenRoot(n.cfg.BackupDir)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat(".")
	switch {
	case err != nil:
	case !ours(info):
		err = fmt.Errorf("the backup directory %s belongs to another user than the server's", n.cfg.BackupDir)
	case info.Mode().Perm()&0o022 != 0:
		err = fmt.Errorf("others may write into the backup directory %s (mode %v): take that right away with `chmod go-w`", n.cfg.BackupDir, info.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// backupFile is a file of a scheduled backup of this cluster.
type backupFile struct {
	name         string
	epoch, index uint64
	at           time.Time // when it was written
}

var backupPattern = regexp.MustCompile(`^edgecoder-(.+)-([1-9][0-9]*)-([1-9][0-9]*)\` + backupSuffix + `$`)

// backupFiles lists them, the oldest state first. Whatever else lies in the
// directory is nobody's business here.
func (n *Node) backupFiles() ([]backupFile, error) {
	dir, err := n.backupRoot()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return n.backupFilesIn(dir)
}

func (n *Node) backupFilesIn(dir *os.Root) ([]backupFile, error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	var out []backupFile
	for _, e := range entries {
		m := backupPattern.FindStringSubmatch(e.Name())
		if m == nil || m[1] != n.id.ClusterID || !e.Type().IsRegular() {
			continue
		}
		epoch, bad1 := strconv.ParseUint(m[2], 10, 64)
		index, bad2 := strconv.ParseUint(m[3], 10, 64)
		at, ok := n.isBackup(dir, e.Name(), epoch, index)
		if ok && errors.Join(bad1, bad2) == nil {
			out = append(out, backupFile{e.Name(), epoch, index, at})
		}
	}
	slices.SortFunc(out, func(a, b backupFile) int {
		return cmpPair(a.epoch, a.index, b.epoch, b.index)
	})
	return out, nil
}

// isBackup tells whether a file is of this user and begins as its name says,
// and when it was written.
func (n *Node) isBackup(dir *os.Root, name string, epoch, index uint64) (at time.Time, ok bool) {
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return at, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !ours(info) {
		return at, false
	}
	c, e, i, err := fsm.ReadSnapshotHeader(f)
	return info.ModTime(), err == nil && c == n.id.ClusterID && e == epoch && i == index
}

func cmpPair(a1, a2, b1, b2 uint64) int {
	switch {
	case a1 != b1 && a1 < b1, a1 == b1 && a2 < b2:
		return -1
	case a1 == b1 && a2 == b2:
		return 0
	}
	return 1
}

// dropOldBackups keeps the newest ones, and removes what this node began to
// write and never finished.
func (n *Node) dropOldBackups() error {
	dir, err := n.backupRoot()
	if err != nil {
		return err
	}
	defer dir.Close()
	files, err := n.backupFilesIn(dir)
	if err != nil {
		return err
	}
	var faults []error
	drop := func(name string) {
		if err := dir.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	for _, f := range files[:max(0, len(files)-n.cfg.BackupKeep)] {
		drop(f.name)
	}
	entries, err := fs.ReadDir(dir.FS(), ".")
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), ".edgecoder-"+n.id.ClusterID) && strings.HasSuffix(e.Name(), "."+n.id.NodeID+backupPart) {
			drop(e.Name())
		}
	}
	return errors.Join(append(faults, err)...)
}
