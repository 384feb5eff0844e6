package chaos

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCleanRemovesOnlyItsOwn holds that a name which is another's now is left
// alone, that a run which goes on is not cleaned, and that the list goes last.
func TestCleanRemovesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	m := newMade(dir, filepath.Join(dir, "cluster"))
	if err := m.add(func(m *made) {
		m.Namespaces = append(m.Namespaces, namespace{"no-such-namespace", 1})
		m.Loops = append(m.Loops, loop{"/dev/loop-none", "/no/image"})
		m.Mounts = append(m.Mounts, mount{"/dev/loop-none", "/"}) // something else is mounted there
	}); err != nil {
		t.Fatal(err)
	}
	if err := Clean(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "still goes on") {
		t.Fatalf("the list of this very process was cleaned: %v", err)
	}
	if err := m.add(func(m *made) { m.Harness.Started = "0" }); err != nil { // another process had this pid
		t.Fatal(err)
	}
	if err := Clean(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, MadeFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the list is still there: %v", err)
	}
	if err := Clean(t.Context(), dir); err != nil {
		t.Errorf("nothing to clean: %v", err)
	}
}

func TestMountsAreUnescaped(t *testing.T) {
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("read %q", got)
	}
	if mountedAt("/proc") == "" {
		t.Skip("no /proc")
	}
}

// TestScript holds that paths with anything in them reach the server as they are.
func TestScript(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a $HOME 'b' \"c\" `d`")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "the server")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	st := &stage{dir: dir, clock: &clockFiles{dir: filepath.Join(dir, "clocks")}}
	if err := st.writeScript(binary); err != nil {
		t.Fatal(err)
	}
	data := "--data-dir=" + filepath.Join(dir, "data")
	out, err := exec.Command(st.binary, "server", "--name=node1", data).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{"server", "--name=node1", data, "--clock-offset-file=" + filepath.Join(dir, "clocks", "node1")}
	if got := strings.Split(strings.TrimSpace(string(out)), "\n"); !slices.Equal(got, want) {
		t.Errorf("the server got %q, want %q", got, want)
	}
}

// TestNamespacesOfTwoRuns holds that two runs at once do not share a name, and
// that each takes away its own.
func TestNamespacesOfTwoRuns(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and the program ip")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("needs /dev/net/tun")
	}
	nodes := []string{"node1", "node2"}
	var lists []*made
	for range 2 {
		m := newMade(t.TempDir(), "")
		n, err := newNetns(nodes, m)
		if err != nil {
			t.Skipf("this machine makes no namespaces: %v", err)
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
