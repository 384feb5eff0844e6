package crypto

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPure holds the promise of the package: nothing here can read a clock, a file, a socket or randomness of its
// own. (Imports of our own dependencies are theirs: voi reaches for crypto/rand only when handed none.)
func TestPure(t *testing.T) {
	impure := []string{"os", "os/exec", "io/ioutil", "time", "math/rand", "math/rand/v2", "crypto/rand",
		"net", "net/http", "sync", "runtime", "syscall", "unsafe", "log", "log/slog", "path/filepath"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(impure, path) || strings.HasPrefix(path, "github.com/edgecoder/") {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
