package node

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

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
		err = errBackupOwner
	case info.Mode().Perm()&0o022 != 0:
		err = errBackupMode
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// backupFile is a file of a scheduled backup of this node.
type backupFile struct {
	name         string
	epoch, index uint64
	at           time.Time // when it was written
	size         int64
}

// scheduledName is how the schedule calls a backup. What an operator saves has
// another name, and other nodes have other ids: retention must never touch either.
func scheduledName(clusterID string, epoch, index uint64, nodeID string) string {
	return strings.TrimSuffix(backupName(clusterID, epoch, index), backupSuffix) + scheduledMark + nodeID + backupSuffix
}

const scheduledMark = "-scheduled-"

var scheduledPattern = regexp.MustCompile(`^edgecoder-(.+)-([1-9][0-9]*)-([1-9][0-9]*)` + scheduledMark + `(.+)\` + backupSuffix + `$`)

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
		m := scheduledPattern.FindStringSubmatch(e.Name())
		if m == nil || m[1] != n.id.ClusterID || m[4] != n.id.NodeID || !e.Type().IsRegular() {
			continue
		}
		epoch, bad1 := strconv.ParseUint(m[2], 10, 64)
		index, bad2 := strconv.ParseUint(m[3], 10, 64)
		info, ok := n.isBackup(dir, e.Name(), epoch, index)
		if ok && errors.Join(bad1, bad2) == nil {
			out = append(out, backupFile{e.Name(), epoch, index, info.ModTime(), info.Size()})
		}
	}
	slices.SortFunc(out, func(a, b backupFile) int {
		return cmpPair(a.epoch, a.index, b.epoch, b.index)
	})
	return out, nil
}

// isBackup tells whether a file is of this user and begins as its name says.
func (n *Node) isBackup(dir *os.Root, name string, epoch, index uint64) (info fs.FileInfo, ok bool) {
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() || !ours(info) {
		return nil, false
	}
	c, e, i, err := fsm.ReadSnapshotHeader(f)
	return info, err == nil && c == n.id.ClusterID && e == epoch && i == index
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

// dropOldBackups keeps the newest ones, one at least, and removes what this node
// began to write and never finished.
func (n *Node) dropOldBackups(keep int) error {
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
	for _, f := range files[:max(0, len(files)-max(1, keep))] {
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
