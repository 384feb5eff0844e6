package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

// makeDir makes a run's directory and returns its real path, as the kernel calls
// what is mounted there. One that exists must be empty and nobody else's: what a
// stranger put there beforehand, or may put there later, would be run as us.
// The directories above are whoever's the user chose.
func makeDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	if parent, err = filepath.EvalSymlinks(parent); err != nil {
		return "", err
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
		return dir, err
	}
	return dir, checkDir(dir)
}

// checkDir refuses a directory that is not empty, not ours, or open to others.
func checkDir(dir string) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%s is a link or a file, not a directory: choose another", dir)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to somebody else: choose another directory", dir)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("others may write %s (mode %04o): choose another directory, or `chmod go-w` it", dir, mode)
	}
	if names, _ := f.Readdirnames(1); len(names) > 0 { // an error shows when the first file is made
		return fmt.Errorf("%s is not empty, it may hold an earlier run: choose another directory", dir)
	}
	return nil
}

// createFile makes a file that was not there.
func createFile(path string, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, mode)
}

// writeNew writes a file that was not there.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := createFile(path, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// replaceFile writes a file in one step, see judge.ReplaceFile.
func replaceFile(path string, data []byte) error { return judge.ReplaceFile(path, data) }

// openRegular opens a regular file to change it.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
