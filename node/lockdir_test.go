package node

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRecoverAndRetireLeaveStrangersAlone: what is no data directory of this
// user is neither changed nor added to, whatever links lead there.
func TestRecoverAndRetireLeaveStrangersAlone(t *testing.T) {
	server := func(t *testing.T) string { // as lockFound sees one
		dir := filepath.Join(t.TempDir(), "data")
		for _, err := range []error{os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, fileKeys), nil, 0o600), os.WriteFile(filepath.Join(dir, fileLock), nil, 0o600)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	link := func(t *testing.T, to string) string {
		path := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		dir  func(t *testing.T) (given, watched string)
		want string
	}{
		"another directory": {func(t *testing.T) (string, string) { d := t.TempDir(); return d, d }, "no server's data directory"},
		"a link to one":     {func(t *testing.T) (string, string) { d := t.TempDir(); return link(t, d), d }, "symbolic link"},
		"a link to a server's": {func(t *testing.T) (string, string) {
			d := server(t)
			return link(t, d) + "/", d
		}, "symbolic link"},
		"keys that are a link": {func(t *testing.T) (string, string) {
			d := server(t)
			keys := filepath.Join(d, fileKeys)
			if err := os.Rename(keys, filepath.Join(t.TempDir(), "k")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/etc/passwd", keys); err != nil {
				t.Fatal(err)
			}
			return d, d
		}, "no server's data directory"},
		"a lock that is a link": {func(t *testing.T) (string, string) {
			d := server(t)
			lock := filepath.Join(d, fileLock)
			if err := os.Remove(lock); err != nil {
				t.Fatal(err)
			}
			target := t.TempDir()
			if err := os.Symlink(filepath.Join(target, "new"), lock); err != nil {
				t.Fatal(err)
			}
			return d, target
		}, "symbolic link"},
		"a lock that is a pipe": {func(t *testing.T) (string, string) {
			d := server(t)
			lock := filepath.Join(d, fileLock)
			if err := os.Remove(lock); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(lock, 0o600); err != nil {
				t.Fatal(err)
			}
			return d, d
		}, "is no file"},
		"no lock": {func(t *testing.T) (string, string) {
			d := server(t)
			if err := os.Remove(filepath.Join(d, fileLock)); err != nil {
				t.Fatal(err)
			}
			return d, d
		}, "make an empty one"},
		"others may write": {func(t *testing.T) (string, string) {
			d := server(t)
			if err := os.Chmod(d, 0o775); err != nil {
				t.Fatal(err)
			}
			return d, d
		}, "others may write"},
		"of another user": {func(t *testing.T) (string, string) {
			d := server(t)
			if err := os.Chown(d, 12345, -1); err != nil {
				if os.Geteuid() == 0 {
					t.Fatal(err)
				}
				t.Skip("only root can give a directory to another user (CI runs this as root)")
			}
			return d, d
		}, "another user"},
		"a file": {func(t *testing.T) (string, string) {
			d := server(t)
			return filepath.Join(d, fileKeys), d
		}, "no directory"},
	} {
		t.Run(name, func(t *testing.T) {
			given, watched := c.dir(t)
			before := looksOf(t, watched)
			for what, try := range map[string]func() error{
				"recover": func() error {
					r, err := OpenRecovery(t.Context(), RecoveryOptions{Dirs: []RecoveryDir{{DataDir: given, Passphrase: []byte("x")}}})
					if err == nil {
						_ = r.Close()
					}
					return err
				},
				"retire": func() error { return Retire(given, "test", time.Now()) },
			} {
				if err := try(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", what, err, c.want)
				}
				if after := looksOf(t, watched); after != before {
					t.Errorf("%s changed it from %s to %s", what, before, after)
				}
			}
		})
	}
	dir := server(t)
	if err := Retire(dir, "test", time.Now()); err != nil {
		t.Error("a server's own:", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Error("its mode is", info.Mode())
	}
}

// looksOf is the mode of a directory and what lies in it.
func looksOf(t *testing.T, dir string) string {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	looks := info.Mode().String()
	for _, e := range entries {
		looks += " " + e.Name()
	}
	return looks
}

// The server follows no link to its lock either.
func TestLockFollowsNoLink(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "new")
	if err := os.Symlink(target, filepath.Join(dir, fileLock)); err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Error(err)
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("the file behind the link was made")
	}
}
