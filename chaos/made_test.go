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
	if err := st.writeScript(binary, ""); err != nil {
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
