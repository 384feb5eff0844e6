package cmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// fakeAPI answers the routes it is given and remembers what it was asked.
type fakeAPI struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

type call struct {
	method, path, body string
	header             http.Header
	query              url.Values
}

// reply is what a route answers: a *client.Error as a problem, else JSON.
type reply func(c call) any

func newFakeAPI(t *testing.T, routes map[string]reply) *fakeAPI {
	t.Helper()
	f := &fakeAPI{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked := call{r.Method, r.URL.Path, string(body), r.Header, r.URL.Query()}
		f.mu.Lock()
		f.calls = append(f.calls, asked)
		f.mu.Unlock()
		answer := any(&client.Error{Code: client.CodeNotFound, Detail: "no such route in this test"})
		if route := routes[r.Method+" "+r.URL.Path]; route != nil {
			answer = route(asked)
		}
		if e, ok := answer.(*client.Error); ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(client.StatusOf(e.Code))
			answer = e.Problem()
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(f.Close)
	return f
}

// asked returns the calls of a route.
func (f *fakeAPI) asked(route string) []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []call
	for _, c := range f.calls {
		if c.method+" "+c.path == route {
			out = append(out, c)
		}
	}
	return out
}

// count is how many calls there were so far.
func (f *fakeAPI) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func always(v any) reply { return func(call) any { return v } }

const (
	testNowMs     = 1_767_225_600_000 // the clock of the vectors
	testClusterID = "0123456789abcdef0123456789abcdef"
)

func testToken(t *testing.T, role string) string {
	t.Helper()
	token, err := crypto.NewTokenText(rand.Reader, testClusterID, role, "")
	if err != nil {
		t.Fatal(err)
	}
	return token.String()
}

// ran is how a command line ended.
type ran struct {
	status   int
	out, err string
}

// runArgs runs a command line with a clean environment.
func runArgs(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, errOut bytes.Buffer
	p := &program{in: strings.NewReader(stdin), out: &out, err: &errOut, now: func() time.Time { return time.UnixMilli(testNowMs) }, rand: rand.Reader, self: programName}
	status := p.run(context.Background(), args)
	return ran{status, out.String(), errOut.String()}
}

// cleanEnv takes the caller's own variables out of the way.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "EDGECODER_") {
			t.Setenv(name, "") // registers the restoration
			os.Unsetenv(name)
		}
	}
}

// pointAt sets the variables that a cluster's env file would.
func pointAt(t *testing.T, f *fakeAPI) {
	t.Helper()
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", f.URL)
	t.Setenv("EDGECODER_TOKEN", testToken(t, "admin"))
}

func writeTemp(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantStatus(t *testing.T, r ran, status int) {
	t.Helper()
	if r.status != status {
		t.Fatalf("exit status %d, want %d\nstdout: %s\nstderr: %s", r.status, status, r.out, r.err)
	}
}
