//go:build linux

package chaos

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTUNIsNew holds that a device which is there already is not taken. It works
// in a namespace without a name, which ends with its thread.
func TestTUNIsNew(t *testing.T) {
	if _, err := os.Stat("/dev/net/tun"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and /dev/net/tun")
	}
	skip, second := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		defer close(second)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			skip <- err
			return
		}
		f, err := openTUN("ectest0")
		if err == nil {
			err = unix.IoctlSetInt(int(f.Fd()), unix.TUNSETPERSIST, 1) // it outlives its file
			f.Close()
		}
		if skip <- err; err != nil {
			return
		}
		_, err = openTUN("ectest0")
		second <- err
	}()
	if err := <-skip; err != nil {
		t.Skipf("this machine makes no TUN devices: %v", err)
	}
	if err := <-second; err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a device that was there: %v", err)
	}
}
