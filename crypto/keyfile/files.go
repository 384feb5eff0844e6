package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/edgecoder/edgecoder/durable"
)

// ErrShared says that a file of secrets gives rights to others than its owner.
var ErrShared = errors.New("keyfile: others may read this file")

// WriteAtomic replaces path with data, readable by the owner alone. After a crash at any moment the path holds the
// old bytes or the new ones, never a part: a temporary file beside it is written, synced and renamed, then the
// directory is synced. A path that exists and is not a regular file (a link, a device) is refused.
func WriteAtomic(path string, data []byte) (err error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("keyfile: write %s: it exists and is not a regular file", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keyfile: write: %w", err)
	}
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keyfile: write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name()) // the first error is the one to tell
			err = fmt.Errorf("keyfile: write %s: %w", path, err)
		}
	}()
	if err = writeAndSync(temp, data); err != nil {
		return err
	}
	if err = os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// writeAndSync closes f in any case.
func writeAndSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(0o600) // an umask may have taken the owner's own bits
	}
	if err == nil {
		err = durable.Sync(f)
	}
	return errors.Join(err, f.Close())
}

// ReadPrivate reads a file of secrets. It refuses one that group or others may read (but for systemd's credentials,
// whose access list shows as rights of the group), with the command that mends it, one that is not a regular file, and one larger than 1 MiB. Links are followed; the mode of the target counts.
func ReadPrivate(path string) ([]byte, error) {
	// Asked before opening, because opening a pipe would wait for its other end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("keyfile: read: %w", err)
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keyfile: read: %w", err)
	}
	defer f.Close()
	// And again of what was opened, which may be another file by now.
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("keyfile: read: %w", err)
	}
	if err := checkPrivate(path, info); err != nil {
		return nil, err
	}
	return readBounded(f, path, MaxFileBytes)
}

func checkPrivate(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("keyfile: read %s: not a regular file", path)
	}
	if isShared(info) && !isCredential(path, surroundings{lookup: os.LookupEnv}) {
		return fmt.Errorf("%w: %s (mode %04o); mend it with: chmod 600 %s", ErrShared, path, info.Mode().Perm(), path)
	}
	return nil
}

// isShared reports whether group or others have any right. Windows has no such bits.
func isShared(info fs.FileInfo) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
}

// readBounded reads all of r, at most limit bytes, into one buffer: growing one would leave parts of a secret behind.
func readBounded(r io.Reader, name string, limit int) ([]byte, error) {
	data := make([]byte, limit+1)
	n, err := io.ReadFull(r, data)
	switch {
	case err == nil:
		clear(data)
		return nil, fmt.Errorf("keyfile: read %s: larger than %d bytes", name, limit)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		clear(data)
		return nil, fmt.Errorf("keyfile: read %s: %w", name, err)
	}
	return data[:n:n], nil
}
