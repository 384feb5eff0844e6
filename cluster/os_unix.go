//go:build unix

package cluster

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// How files of a cluster's directory are opened that might have been planted
// there: not through a link, not waiting for the other end of a pipe.
const (
	noFollow = syscall.O_NOFOLLOW
	noWait   = syscall.O_NONBLOCK
)

// owner returns the uid that a file belongs to.
func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

var errLocked = errors.New("locked by another process")

// tryLock takes the lock or returns errLocked.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// ownGroup puts a server into a process group of its own, so that Ctrl-C
// reaches us first and we stop the servers in good order. One that must
// outlive us gets a session of its own.
func ownGroup(detach bool) *syscall.SysProcAttr {
	if detach {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}

func terminate(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) }
func kill(pid int) error      { return syscall.Kill(pid, syscall.SIGKILL) }

// exists tells whether there is a process pid that we may signal.
func exists(pid int) bool { return syscall.Kill(pid, 0) == nil }
