package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needNamespaces skips where nobody may make a network namespace: an ordinary
// user, or a root without that capability, as in most containers. Whoever may
// must have the rest (.ci/run installs it), or the test fails.
func needNamespaces(t *testing.T) {
	t.Helper()
	if err := allowed(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
		t.Skipf("this user may not make network namespaces (CI runs this as root): %v", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatalf("install iproute2: %v", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Fatalf("make the device, mknod /dev/net/tun c 10 200: %v", err)
	}
}

// allowed tries something on a thread that ends with it.
func allowed(try func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		done <- try()
	}()
	return <-done
}

// TestProcIsMounted: whatever else is asked of the table of mounts, it can be read.
func TestProcIsMounted(t *testing.T) {
	if mountedAt("/proc") == "" {
		t.Error("/proc is not in the table of mounts")
	}
}

// TestStrikeWaitsForUmount holds that data which something keeps mounted stay.
func TestStrikeWaitsForUmount(t *testing.T) {
	st := stageIn(t, false)
	fake := t.TempDir() // an umount that fails
	if err := os.WriteFile(filepath.Join(fake, "umount"), []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", fake)
	st.made.Mounts = []mount{{mountedAt("/proc"), "/proc"}}
	if err := st.strike(false); err == nil {
		t.Error("nothing was said")
	}
	if !exists(filepath.Join(st.dir, "cluster/node1/data/raft.db")) || !exists(filepath.Join(st.dir, MadeFile)) {
		t.Error("data or list were removed under a mount")
	}
	if st.made.Mounts = nil; mountedBelow("/pro") != "" || mountedBelow("/proc") == "" {
		t.Error("mounts are looked for in the wrong place")
	}
}

// TestNamespacesOfTwoRuns holds that two runs at once do not share a name, and
// that each takes away its own.
func TestNamespacesOfTwoRuns(t *testing.T) {
	needNamespaces(t)
	nodes := []string{"node1", "node2"}
	var lists []*made
	for range 2 {
		m := newMade(t.TempDir(), "")
		n, err := newNetns(nodes, m)
		if err != nil {
			t.Fatal(err)
		}
		defer n.close()
		lists = append(lists, m)
	}
	if lists[0].Namespaces[0] == lists[1].Namespaces[0] || len(lists[0].Namespaces) != len(nodes) {
		t.Errorf("made %v and %v", lists[0].Namespaces, lists[1].Namespaces)
	}
	lists[0].Namespaces = append(lists[0].Namespaces, namespace{lists[1].Namespaces[0].Name, 1}) // a name that is another's now
	for i, m := range lists {
		if err := m.remove(); err != nil {
			t.Fatal(err)
		}
		_, err := inodeOf(lists[1].Namespaces[0].Name)
		if gone := err != nil; gone != (i == 1) {
			t.Errorf("after list %d the namespace of the other is gone: %t", i+1, gone)
		}
	}
}

// TestTUNIsNew holds that a device which is there already is not taken. It works
// in a namespace without a name, which ends with its thread.
func TestTUNIsNew(t *testing.T) {
	needNamespaces(t)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		defer close(second)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			first <- err
			return
		}
		f, err := openTUN("ectest0")
		if err == nil {
			err = unix.IoctlSetInt(int(f.Fd()), unix.TUNSETPERSIST, 1) // it outlives its file
			f.Close()
		}
		if first <- err; err != nil {
			return
		}
		_, err = openTUN("ectest0")
		second <- err
	}()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := <-second; err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a device that was there: %v", err)
	}
}
