package edgecoder

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/edgecoder/edgecoder/"

// rooms is the table of DESIGN.md "Rooms": which rooms of the house a room may
// import. A room that is not listed does not exist.
var rooms = map[string][]string{
	"crypto":            {},
	"crypto/dcbor":      {},
	"crypto/checkpoint": {"crypto"},
	"crypto/dsse":       {"crypto"},
	"crypto/envelope":   {"crypto"},
	"crypto/golden":     {},
	"crypto/httpsig":    {"crypto"},
	"crypto/keyfile":    {"crypto", "durable"},
	"crypto/manifest":   {"crypto"},
	"durable":           {},
	"limit":             {},
	"terminal":          {},
	"ledger":            {"crypto", "crypto/dcbor"},
	"ledger/walk":       {"ledger"},
	"fsm":               {"crypto", "crypto/checkpoint", "crypto/dcbor", "crypto/manifest", "ledger"},
	"gossip":            {"crypto", "limit"},
	"gossip/gossiptest": {"crypto", "gossip"},
	"audit":             {"crypto", "durable"},
	"client":            {"crypto", "crypto/httpsig", "ledger"},
	"api":               {"client", "crypto", "crypto/checkpoint", "crypto/dsse", "crypto/httpsig", "crypto/manifest", "fsm", "ledger", "ledger/walk", "limit"},
	"store":             {"crypto", "durable", "fsm"},
	"node":              {"api", "audit", "client", "cosign", "crypto", "crypto/checkpoint", "crypto/envelope", "crypto/keyfile", "durable", "edge", "fsm", "gossip", "ledger", "limit", "store"},
	"edge":              {"client", "crypto", "crypto/checkpoint"},
	"edge/edgetest":     {"crypto", "crypto/checkpoint", "edge"},
	"cosign":            {"crypto", "crypto/checkpoint", "crypto/keyfile", "fsm"},
	"cluster":           {"client"},
	"cmd":               {"audit", "chaos", "client", "cluster", "crypto", "crypto/checkpoint", "crypto/dsse", "crypto/envelope", "crypto/httpsig", "crypto/keyfile", "crypto/manifest", "ledger", "ledger/walk", "node", "terminal"},
	"cmd/edgecoder":     {"cmd"},
	"chaos":             {"chaos/judge", "client", "cluster", "crypto", "terminal"},
	"chaos/judge":       {"client", "crypto"},
}

// barred lists libraries that only some rooms may know.
var barred = map[string][]string{
	"github.com/hashicorp/raft":       {"fsm", "node", "store"},
	"github.com/hashicorp/memberlist": {"gossip", "gossip/gossiptest"},
	"github.com/cloudflare/circl":     {}, // tests only
	"filippo.io/age":                  {}, // tests only
	"github.com/transparency-dev":     {}, // tests only
	"github.com/urfave/cli/v2":        {"cmd"},
	"github.com/prometheus":           {"api", "edge", "node"},
	"net/http":                        {"api", "client", "cluster", "cmd", "edge", "node", "chaos"},
}

// pure rooms have no clock, randomness, files, sockets or goroutines.
var (
	pureRooms     = []string{"crypto", "crypto/checkpoint", "crypto/dcbor", "crypto/dsse", "crypto/envelope", "crypto/httpsig", "crypto/manifest", "fsm", "ledger", "terminal"}
	impureImports = []string{"os", "net", "time", "math/rand", "math/rand/v2", "crypto/rand", "syscall", "os/exec", "log", "log/slog", "context"}
)

type source struct {
	room, path string
	imports    []string
	goes       bool // has a go statement
}

// plantedTag begins the files of bugs that are planted to test the judges; no
// other build has them (docs/chaos.md).
const plantedTag = "//go:build planted\n"

// sources parses every non-test Go file of the house.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != ".") {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || bytes.HasPrefix(text, []byte(plantedTag)) {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		if err != nil {
			return err
		}
		s := source{room: filepath.ToSlash(filepath.Dir(path)), path: path, goes: hasGo(file)}
		for _, i := range file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		out = append(out, s)
		return nil
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("read the sources: %v, %d files", err, len(out))
	}
	return out
}

func TestLayers(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := rooms[s.room]
		if !known && s.room != "." {
			t.Errorf("%s: room %q is not in the table", s.path, s.room)
		}
		for _, i := range s.imports {
			if own, ok := strings.CutPrefix(i, module); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s: room %s may not import %s", s.path, s.room, own)
			}
			for lib, who := range barred {
				if (i == lib || strings.HasPrefix(i, lib+"/")) && !slices.Contains(who, s.room) {
					t.Errorf("%s: room %s may not know %s", s.path, s.room, i)
				}
			}
		}
	}
}

func TestLayersPurity(t *testing.T) {
	for _, s := range sources(t) {
		if !slices.Contains(pureRooms, s.room) {
			continue
		}
		if s.goes {
			t.Errorf("%s: a pure room starts a goroutine", s.path)
		}
		for _, i := range s.imports {
			if slices.Contains(impureImports, i) {
				t.Errorf("%s: a pure room imports %s", s.path, i)
			}
		}
	}
}

// TestLayersRaftStaysInOneFile: machine.go is the one file of fsm that knows raft.
func TestLayersRaftStaysInOneFile(t *testing.T) {
	for _, s := range sources(t) {
		if s.room == "fsm" && slices.Contains(s.imports, "github.com/hashicorp/raft") && filepath.Base(s.path) != "machine.go" {
			t.Errorf("%s: only fsm/machine.go knows raft's types", s.path)
		}
	}
}

func hasGo(file *ast.File) (yes bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		if _, ok := n.(*ast.GoStmt); ok {
			yes = true
		}
		return !yes
	})
	return yes
}
