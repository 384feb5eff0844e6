package edgecoder

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// platforms are those that `make dist` builds for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// listed is what `go list -json` says of a package, as far as a type checker needs it.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string
	Standard   bool
	Module     *struct{ Main bool }
}

// TestTypesOnEveryPlatform checks the types of everything, tests included, for
// every platform, without compiling: what `make dist` takes minutes for shows
// here in seconds, but for assembly and linking.
func TestTypesOnEveryPlatform(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("types for other platforms: run without -short, as make test and CI do")
	}
	for _, platform := range platforms {
		if platform == runtime.GOOS+"/"+runtime.GOARCH {
			continue // whoever runs this has compiled it
		}
		t.Run(platform, func(t *testing.T) { checkTypes(t, platform) })
	}
}

func checkTypes(t *testing.T, platform string) {
	t.Helper()
	goos, goarch, _ := strings.Cut(platform, "/")
	list := exec.Command("go", "list", "-deps", "-test", "-json=ImportPath,Name,Dir,GoFiles,ImportMap,Standard,Module", "./...")
	list.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.StdoutPipe()
	if err == nil {
		err = list.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*types.Package{"unsafe": types.Unsafe}
	for each := json.NewDecoder(out); ; {
		var p listed
		if err := each.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") { // the main of a test is made by its build
			continue
		}
		if known[p.ImportPath], err = p.check(known, goarch); err != nil {
			t.Errorf("%s: %v", p.ImportPath, err)
		}
	}
	if err := list.Wait(); err != nil {
		t.Fatal(err)
	}
}

// importer finds packages among those that were listed before.
type importer struct {
	known  map[string]*types.Package
	listed listed
}

// Import implements types.Importer.
func (i importer) Import(path string) (*types.Package, error) {
	if mapped, ok := i.listed.ImportMap[path]; ok {
		path = mapped
	}
	if p := i.known[path]; p != nil {
		return p, nil
	}
	return nil, errors.New("not listed before it is imported: " + path)
}

// check returns the types of a package. Of what is not ours the bodies of
// functions are passed over: they are for those who wrote them.
func (p listed) check(known map[string]*types.Package, goarch string) (*types.Package, error) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	ours := p.Module != nil && p.Module.Main
	conf := types.Config{Importer: importer{known, p}, IgnoreFuncBodies: !ours, FakeImportC: true, Sizes: types.SizesFor("gc", goarch)}
	if !ours {
		conf.Error = func(error) {} // unused imports, since bodies are passed over
	}
	checked, err := conf.Check(p.ImportPath, fset, files, nil)
	if !ours {
		err = nil
	}
	return checked, err
}
