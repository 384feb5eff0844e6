package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A cluster's directory says which processes to signal, which files to remove
// and which program to run. So nobody but its owner may have written it: a
// directory that a stranger left in /tmp is refused, whoever runs us there.

// maxRecordBytes bounds cluster.json.
const maxRecordBytes = 1 << 20

// resolve returns the real path of a cluster's directory, so that every command
// gives its servers the same names, by whatever link it came. A link must be
// ours: another user's could lead to a cluster that was not meant.
func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dir, nil // whoever needs it will say so
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink != 0:
		if err := checkOwner(dir, info); err != nil {
			return "", err
		}
	}
	return filepath.EvalSymlinks(dir)
}

// checkDir refuses a directory that others could have filled.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory: choose another with --data", dir)
	}
	return checkOurs(dir, info)
}

// checkOurs refuses what others own or may write, and says what to do about it.
func checkOurs(path string, info fs.FileInfo) error {
	if err := checkOwner(path, info); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("others may write %s (mode %04o), so it is not trusted: `chmod go-w %s` if all in it is yours, or choose another directory with --data", path, mode, quote(path))
	}
	return nil
}

func checkOwner(path string, info fs.FileInfo) error {
	if me := os.Geteuid(); owner(info) != me {
		return fmt.Errorf("%s belongs to uid %d, not to you (uid %d), so it is not trusted: choose another directory with --data, or `chown -h %d %s` if you know all that is in it",
			path, owner(info), me, me, quote(path))
	}
	return nil
}

// readOurs reads a small file that nobody else can have written.
func readOurs(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow|noWait, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxRecordBytes:
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxRecordBytes)
	}
	if err := checkOurs(path, info); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxRecordBytes))
}

// binary returns what a start runs: the binary that a restart moves to, or that
// Up was given in this process, or what the record says if only we or root can
// have written it, or this very program.
func (c *Cluster) binary() (string, error) {
	if c.next != "" {
		return c.next, nil
	}
	recorded := c.Record().Binary
	if recorded != "" && recorded == c.given {
		return recorded, nil
	}
	real, why := checkBinary(recorded)
	if why == nil {
		return real, nil
	}
	self, err := os.Executable()
	if self != recorded {
		c.note("starting %s instead of what the record says: %v", self, why)
	}
	return self, err
}

// checkBinary returns the real path of a program, and refuses one that others
// could have put there or changed.
func checkBinary(path string) (real string, err error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is no absolute path", path)
	}
	link, err := os.Lstat(path)
	if err == nil {
		real, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no file", path)
	case !oursOrRoots(link):
		return "", fmt.Errorf("%s belongs to uid %d", path, owner(link))
	case !oursOrRoots(info):
		return "", fmt.Errorf("%s belongs to uid %d", real, owner(info))
	case info.Mode().Perm()&0o022 != 0:
		return "", fmt.Errorf("others may write %s (mode %04o)", real, info.Mode().Perm())
	}
	return real, errors.Join(checkWay(filepath.Dir(path)), checkWay(filepath.Dir(real)))
}

// checkWay refuses a directory, or one above it, in which others can put a file
// of theirs in the place of ours. In a sticky one, as /tmp is, they cannot.
func checkWay(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case err != nil:
			return err
		case !oursOrRoots(info):
			return fmt.Errorf("the directory %s belongs to uid %d: move the program to another", dir, owner(info))
		case info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0:
			return fmt.Errorf("others may write into the directory %s (mode %04o): `chmod go-w` it, or move the program to another", dir, info.Mode().Perm())
		}
		above := filepath.Dir(dir)
		if above == dir {
			return nil
		}
		dir = above
	}
}

func oursOrRoots(info fs.FileInfo) bool { return owner(info) == os.Geteuid() || owner(info) == 0 }
