package keyfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// entries lists a directory, to see what was left behind.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

func TestWriteAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	for _, data := range []string{"first", "second, longer", ""} {
		if err := WriteAtomic(path, []byte(data)); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPrivate(path)
		if err != nil || string(got) != data {
			t.Errorf("read %q, %v", got, err)
		}
		info, err := os.Lstat(path)
		if err != nil || (runtime.GOOS != "windows" && info.Mode() != 0o600) {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if names := entries(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// A file that was readable by others is private after it was replaced.
func TestWriteAtomicTightens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteAtomic(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPrivate(path); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWriteAtomicRefused(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("Windows lets only privileged users make links: ", err)
		}
		t.Fatal(err)
	}
	before := len(entries(t, dir))
	for name, path := range map[string]string{"link": link, "directory": dir, "no directory": filepath.Join(dir, "no", "file"), "under a file": filepath.Join(target, "x")} {
		if err := WriteAtomic(path, []byte("new")); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "old" {
		t.Errorf("written through the link: %q, %v", got, err)
	}
	if names := entries(t, dir); len(names) != before {
		t.Errorf("left behind: %v", names)
	}
}

func TestReadPrivateRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.key")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o666, 0o610, 0o602} {
		if runtime.GOOS == "windows" {
			break
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPrivate(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := ReadPrivate(dir); err == nil {
		t.Error("read a directory")
	}
	if _, err := ReadPrivate(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, MaxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivate(large); err == nil {
		t.Error("read a large file")
	}
	if err := os.Truncate(large, MaxFileBytes); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPrivate(large); err != nil || len(got) != MaxFileBytes {
		t.Errorf("at the limit: %v", err)
	}
}

// TestReadPrivateTakesCredentials: systemd's access list shows as rights of the group.
func TestReadPrivateTakesCredentials(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no mode bits")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "api.key")
	if err := os.WriteFile(path, []byte("secret"), 0o440); err != nil {
		t.Fatal(err)
	}
	t.Setenv(credentialsDir, filepath.Dir(dir))
	if _, err := ReadPrivate(path); !errors.Is(err, ErrShared) {
		t.Errorf("beside the directory of credentials: %v", err)
	}
	t.Setenv(credentialsDir, dir)
	if text, err := ReadPrivate(path); err != nil || string(text) != "secret" {
		t.Errorf("a credential: %q, %v", text, err)
	}
}
