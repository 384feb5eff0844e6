package cmd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openNameless makes a file without a name in dir (O_TMPFILE): whatever ends the
// process, nothing of it stays. ok is false where there is no such thing.
func openNameless(dir string) (f *os.File, ok bool) {
	if _, err := os.Stat("/proc/self/fd"); err != nil { // linkNameless needs it
		return nil, false
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false
	}
	return os.NewFile(uintptr(fd), dir+"/(no name yet)"), true
}

// linkNameless gives such a file a name that nothing has.
func linkNameless(f *os.File, name string) error {
	from := fmt.Sprintf("/proc/self/fd/%d", f.Fd()) // open(2) shows this way; linking the descriptor itself takes a capability
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: f.Name(), New: name, Err: err}
	}
	return nil
}
