package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir makes the data directory and takes it for this process alone.
func lockDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { // raft's own files rely on it
		return nil, err
	}
	return takeLock(dir, os.O_CREATE)
}

// lockFound takes the data directory of a stopped server for this process
// alone, and changes nothing: what somebody names by mistake, or what is put in
// the way of an operator who is root, stays as it is.
func lockFound(dir string) (unlock func() error, err error) {
	if err := checkFound(dir); err != nil {
		return nil, err
	}
	unlock, err = takeLock(dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no file %q, which every server makes in its data directory: make an empty one if this is a copy that lacks it", dir, fileLock)
	}
	return unlock, err
}

// checkFound tells whether dir is a server's data directory and belongs to the
// user who asks.
func checkFound(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link: give the data directory itself", dir)
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	}
	keys, err := os.Lstat(filepath.Join(dir, fileKeys))
	if err != nil || !keys.Mode().IsRegular() {
		return fmt.Errorf("%s is no server's data directory, which holds %s as a file: %w", dir, fileKeys, cmp.Or(err, errors.New("it is none")))
	}
	for name, info := range map[string]fs.FileInfo{dir: info, filepath.Join(dir, fileKeys): keys} {
		if !ours(info) {
			return fmt.Errorf("%s belongs to another user than this process: run this as the user that the server runs as", name)
		}
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write into %s (mode %v): somebody may have put files there; take that right away and look at what it holds", dir, info.Mode().Perm())
	}
	return nil
}

// ours tells whether a file belongs to the user of this process.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Uid) == int64(os.Geteuid())
}

var errInUse = errors.New("is in use by another server process")

// takeLock follows no link: the lock is a file of the directory.
func takeLock(dir string, flags int) (unlock func() error, err error) {
	path := filepath.Join(dir, fileLock)
	f, err := os.OpenFile(path, flags|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: a data directory holds a file of that name", path)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no file", path), err, f.Close())
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s %w", dir, errInUse)
	}
	return f.Close, nil
}
