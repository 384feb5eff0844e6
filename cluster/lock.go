package cluster

import (
	"context"
	"errors"
	"fmt"
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
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the cluster's lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	told := false
	err = poll(ctx, 50*time.Millisecond, func() (bool, error) {
		err := tryLock(f)
		if errors.Is(err, errLocked) {
			if !told {
				note("waiting for another command on %s", dir)
				told = true
			}
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s (is another edgecoder command at work there?): %w", dir, err)
	}
	return &lock{f}, nil
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
