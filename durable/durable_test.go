package durable

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestWatch: who watches a directory is told of each file and directory below it
// that was synced, of nothing else, and of nothing after it stopped.
func TestWatch(t *testing.T) {
	root := t.TempDir()
	dir, beside := filepath.Join(root, "a"), filepath.Join(root, "ab")
	for _, d := range []string{dir, beside} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	stop := Watch(dir+"/", func(path string) { told = append(told, path) })
	write := func(path string) {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Sync(f); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "x"))
	write(filepath.Join(beside, "x"))
	for _, d := range []string{dir, beside} {
		if err := SyncDir(d); err != nil {
			t.Fatal(err)
		}
	}
	Note(filepath.Join(dir, "y"))
	stop()
	write(filepath.Join(dir, "z"))
	if want := []string{filepath.Join(dir, "x"), dir, filepath.Join(dir, "y")}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}

// TestSyncFails: what cannot be synced is an error, and nobody is told.
func TestSyncFails(t *testing.T) {
	dir := t.TempDir()
	defer Watch(dir, func(path string) { t.Errorf("told of %s", path) })()
	f, err := os.Create(filepath.Join(dir, "x"))
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if Sync(f) == nil || SyncDir(filepath.Join(dir, "none")) == nil {
		t.Error("no error")
	}
}
