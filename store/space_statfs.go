package store

import (
	"errors"

	"golang.org/x/sys/unix"
)

// statfs returns the bytes of dir's file system that are free to this process,
// and all of them. What only root may use is not free.
func statfs(dir string) (free, size int64, err error) {
	var s unix.Statfs_t
	err = unix.Statfs(dir, &s)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(dir, &s)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), err
}
