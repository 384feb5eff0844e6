package node

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// smallTmpfs mounts a tmpfs of so many MiB for the test; it needs root.
func smallTmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		if !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
		t.Skipf("this user may not mount (CI runs this as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fillUp lets a file take whatever room there is, and tells whether all is gone.
func fillUp(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<16); ; {
		n, err := f.Write(block)
		if errors.Is(err, unix.ENOSPC) {
			return n == 0
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func emptyOut(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
