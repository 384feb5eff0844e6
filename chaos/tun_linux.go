package chaos

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openTUN makes a TUN device in this process's namespace; one that is there
// already is another's. It may be moved to another namespace afterwards: its file
// stays with us.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("make the TUN device %s: %w", name, errno)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that Close ends a Read
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// inNamespace runs do on a thread that is in a network namespace: sockets made
// there live there, whoever uses them later.
func inNamespace(name string, do func() error) error {
	failed := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine instead of going
		// back into the pool in a foreign namespace.
		runtime.LockOSThread()
		ns, err := os.Open("/var/run/netns/" + name)
		if err != nil {
			failed <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("enter the namespace %s: %w", name, err)
			return
		}
		failed <- do()
	}()
	return <-failed
}
