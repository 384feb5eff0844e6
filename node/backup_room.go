package node

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/edgecoder/edgecoder/store"
)

// A scheduled backup is the least of what a disk is for. On the file system of
// the data directory it leaves alone what the node takes writes by, and it makes
// way by its own old files.

// What the status says of a backup that failed. Any viewer reads it, so paths and
// the system's words stay in the log.
var (
	errBackupRoom  = errors.New("there is no room for another backup: make some, or lower --backup-keep")
	errBackupOwner = errors.New("the backup directory belongs to another user than the server's")
	errBackupMode  = errors.New("others may write into the backup directory: take that right away with `chmod go-w`")
	errBackupOther = errors.New("it was not written, or does not verify: the log of this server says why")
)

// backupFault is the text for the status, "" without an error.
func backupFault(err error) string {
	if err == nil {
		return ""
	}
	for _, known := range []error{errBackupRoom, errBackupOwner, errBackupMode} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if store.NoSpace(err) {
		return errBackupRoom.Error()
	}
	return errBackupOther.Error()
}

// roomForBackup refuses a backup for which there is no room, before anything is
// written. Old ones go first, so that one that is kept anyway stands in their place.
func (n *Node) roomForBackup() error {
	err := n.backupFits()
	if !errors.Is(err, errBackupRoom) {
		return err
	}
	if err := n.dropOldBackups(n.cfg.BackupKeep - 1); err != nil {
		return err
	}
	return n.backupFits()
}

// backupFits holds what is free against the size of the last backup; nobody
// knows the next one's before it is written.
func (n *Node) backupFits() error {
	if err := n.backupMayGoOn(); err != nil {
		return err
	}
	files, err := n.backupFiles()
	if err != nil {
		return err
	}
	need := int64(0)
	if len(files) > 0 {
		need = files[len(files)-1].size
	}
	shared, err := n.backupSharesDisk()
	if err != nil {
		return err
	}
	if shared {
		need += n.disk.space.Room().Enough
	}
	free, err := n.disk.space.Free(n.cfg.BackupDir)
	if err == nil && free < need {
		err = fmt.Errorf("%w (%d bytes are free, %d are needed)", errBackupRoom, free, need)
	}
	return err
}

// backupMayGoOn asks again while a backup is written: the first one, and one that
// is much larger than the last, meet the mark of the disk on their way.
func (n *Node) backupMayGoOn() error {
	shared, err := n.backupSharesDisk()
	if err == nil && shared && n.disk.space.Room().Low {
		err = fmt.Errorf("%w (the disk of the data directory is full)", errBackupRoom)
	}
	return err
}

// backupSharesDisk tells whether backups take the room that the node lives by.
func (n *Node) backupSharesDisk() (bool, error) {
	a, err := os.Stat(n.cfg.BackupDir)
	if err != nil {
		return false, err
	}
	b, err := os.Stat(n.cfg.DataDir)
	if err != nil {
		return false, err
	}
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return !ok1 || !ok2 || x.Dev == y.Dev, nil // not known: the careful answer
}

// backupSync is how much of a backup is written between two syncs. One sync of
// gigabytes at the end would hold up raft's own for longer than Timing.Stall on a
// disk that both share; this much takes a tenth of a second at 160 MB/s.
const backupSync = 16 << 20

// backupWriter brings a backup to the disk piece by piece.
type backupWriter struct {
	f interface {
		Write([]byte) (int, error)
		Sync() error
	}
	look  func() error // asked before each piece
	dirty int
}

// Write implements io.Writer.
func (w *backupWriter) Write(b []byte) (n int, err error) {
	n, err = w.f.Write(b)
	if w.dirty += n; err != nil || w.dirty < backupSync {
		return n, err
	}
	w.dirty = 0
	return n, errors.Join(w.f.Sync(), w.look())
}
