package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const testMs = 1_767_225_600_000

// clock is an injected clock that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.UnixMilli(testMs)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Node == "" {
		o.Node = "node-1"
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func commit(t testing.TB, l *Log, e Event) {
	t.Helper()
	if err := l.Commit(context.Background(), e); err != nil {
		t.Fatal(err)
	}
}

func numbered(i int) Event {
	return Event{Type: "token_create", Level: LevelInfo, Actor: Actor{Kind: "token", ID: "abc", Proved: true},
		Action: "POST /v1/tokens", RequestID: fmt.Sprintf("r-%d", i), Code: "ok", Index: uint64(i), Details: map[string]string{"subject": fmt.Sprint("t", i), "note": `"quoted" <tag> ü`}}
}

// write makes a log of n lines and closes it.
func write(t testing.TB, dir string, n int, more ...func(*Options)) Head {
	t.Helper()
	o := Options{Dir: dir, Node: "node-1", Now: newClock().now}
	for _, m := range more {
		m(&o)
	}
	l := mustOpen(t, o)
	for i := range n {
		commit(t, l, numbered(i))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Head()
}

func verify(t testing.TB, dir string, want ...Head) Report {
	t.Helper()
	r, err := Verify(dir, want...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantClean(t testing.TB, dir string) Report {
	t.Helper()
	r := verify(t, dir)
	if len(r.Faults) > 0 {
		t.Fatalf("the log does not verify: %v", r.Faults)
	}
	return r
}

// lines returns every line of the log.
func lines(t testing.TB, dir string) []Line {
	t.Helper()
	files, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []Line
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range splitLines(text) {
			l, err := ParseLine(row)
			if err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
			out = append(out, l)
		}
	}
	return out
}

func splitLines(text []byte) (out [][]byte) {
	for len(text) > 0 {
		end := len(text)
		for i, c := range text {
			if c == '\n' {
				end = i + 1
				break
			}
		}
		out, text = append(out, text[:end]), text[end:]
	}
	return out
}

// only returns the path and the text of the one file of a log.
func only(t testing.TB, dir string) (string, []byte) {
	t.Helper()
	files, err := listFiles(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	path := filepath.Join(dir, files[0].name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, text
}

func put(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
