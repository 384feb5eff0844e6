package cmd

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// TestKeysCA: what is printed and what is written is the bundle, and a link stays
// one.
func TestKeysCA(t *testing.T) {
	cas := client.CAs{CAs: []client.CA{{ID: "aa", State: "active", PEM: "first\n"}, {ID: "bb", State: "retiring", EndsMs: 1, PEM: "second\n"}}}
	pointAt(t, newFakeAPI(t, map[string]reply{"GET /v1/ca": always(cas)}))
	if r := runArgs(t, "", "keys", "ca"); r.status != exitDone || r.out != "first\nsecond\n" {
		t.Errorf("exit status %d: %q %s", r.status, r.out, r.err)
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real.pem"), filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		if runtime.GOOS != "windows" {
			t.Fatal(err)
		}
		t.Skip("Windows lets only privileged users make links (CI runs this on Linux): ", err)
	}
	for _, path := range []string{link, filepath.Join(dir, "fresh.pem")} {
		r := runArgs(t, "", "keys", "ca", "--out", path)
		if text, err := os.ReadFile(path); r.status != exitDone || err != nil || string(text) != "first\nsecond\n" || !strings.Contains(r.out, "retiring") {
			t.Errorf("%s: exit status %d, %q, %v: %s%s", path, r.status, text, err, r.out, r.err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() {
		t.Errorf("the link was replaced: %v", err)
	}
	if r := runArgs(t, "", "keys", "ca", "--out", filepath.Join(dir, "none", "ca.pem")); r.status == exitDone {
		t.Error("a file in a directory that does not exist was written")
	}
}
