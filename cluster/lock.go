package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// lockWait is how long a command waits for another one on the same cluster to
// finish; starting and stopping take less.
const lockWait = 2 * time.Minute

// lock is held while a command changes a cluster, so that two never start the
// same server twice or overwrite each other's record.
type lock struct{ f *os.File }

func acquire(ctx context.Context, dir string, note func(string, ...any)) (*lock, error) {
	var f *os.File
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	told := false
	err := poll(ctx, 50*time.Millisecond, func() (done bool, err error) {
		if err := checkDir(dir); err != nil {
			return false, err
		}
		f, err = lockFile(filepath.Join(dir, lockName))
		if errors.Is(err, errLocked) {
			if !told {
				note("waiting for another command on %s", dir)
				told = true
			}
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w in %s any more: it was removed just now", errNoCluster, dir)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("lock %s (is another edgecoder command at work there?): %w", dir, err)
	case err != nil:
		return nil, err
	}
	return &lock{f}, nil
}

// lockFile opens and locks a file, or returns errLocked. Purge removes the file
// that it holds: whoever locked that one afterwards holds nothing.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	if err = tryLock(f); err == nil && !liesAt(f, path) {
		err = errLocked
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// liesAt tells whether f is the file that path names now.
func liesAt(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(held, named)
}

// release lets go; closing the file is what the kernel unlocks by.
func (l *lock) release() { l.f.Close() }

// poll asks every interval until done, an error, or the end of ctx.
func poll(ctx context.Context, interval time.Duration, ask func() (bool, error)) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
