package judge

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHostileFiles holds that no file of a run leads elsewhere, keeps us
// waiting, or is read without end.
func TestHostileFiles(t *testing.T) {
	far := int64(maxTime) + 1
	for name, c := range map[string]struct {
		spoil func(dir string) error
		why   string
	}{
		"link": {func(dir string) error {
			path := filepath.Join(dir, FinalsFile)
			return errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path))
		}, "symbolic link"},
		"fifo": {func(dir string) error {
			path := filepath.Join(dir, TimelineFile)
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}, "no regular file"},
		"directory": {func(dir string) error {
			path := filepath.Join(dir, HistoryFile)
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, "no regular file"},
		"history": {func(dir string) error { return os.Truncate(filepath.Join(dir, HistoryFile), maxHistoryBytes+1) }, "1024 MiB"},
		"finals":  {func(dir string) error { return os.Truncate(filepath.Join(dir, FinalsFile), maxFinalsBytes+1) }, "256 MiB"},
		"about":   {func(dir string) error { return os.Truncate(filepath.Join(dir, RunFile), maxOtherBytes+1) }, "16 MiB"},
		"nodes": {func(dir string) error {
			return writeJSON(filepath.Join(dir, RunFile), About{Nodes: make([]string, maxNodes+1)})
		}, "nodes"},
		"traffic": {func(dir string) error { return writeJSON(filepath.Join(dir, RunFile), About{TrafficNS: far}) }, "traffic"},
		"event": {func(dir string) error {
			return ReplaceFile(filepath.Join(dir, TimelineFile), []byte(`{"at_ns":9223372036854775807,"what":"x"}`+"\n"))
		}, "time of x"},
		"past": {func(dir string) error {
			return ReplaceFile(filepath.Join(dir, TimelineFile), []byte(`{"at_ns":1,"end_ns":-1,"what":"x"}`+"\n"))
		}, "end of x"},
		"events": {func(dir string) error {
			return ReplaceFile(filepath.Join(dir, TimelineFile), []byte(strings.Repeat(`{"at_ns":1,"what":"x"}`+"\n", maxEvents+1)))
		}, "more than 20000 events"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := (&Run{}).Save(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("loading gave %v, want %q", err, c.why)
			}
		})
	}
	op := Op{ID: 1, Kind: KindStatus, Outcome: OK, Status: &Status{}, EndNS: far}
	if err := op.check(); err == nil {
		t.Error("an operation ends after three days")
	}
}

// TestBounded holds that a file which grows while it is read has a bound too,
// and that ctx ends the reading.
func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	b := &bounded{ctx: ctx, f: f, most: 60}
	part := make([]byte, 50)
	if n, err := b.Read(part); n != 50 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := b.Read(part); err == nil {
		t.Error("read beyond the bound")
	}
	cancel()
	if _, err := b.Read(part); !errors.Is(err, context.Canceled) {
		t.Errorf("read on: %v", err)
	}
}

// TestDecideContext holds that a judge which takes too long is not waited for,
// and that one which breaks takes nobody along.
func TestDecideContext(t *testing.T) {
	all := checkers
	defer func() { checkers = all }()
	use := func(check func(*court)) {
		checkers = slices.Clone(all[:1])
		checkers[0].check = check
	}
	hang, ended := make(chan struct{}), make(chan struct{})
	use(func(*court) { <-hang; close(ended) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := DecideContext(ctx, &Run{}, DefaultLimits()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow judge: %v", err)
	}
	close(hang)
	<-ended
	use(func(*court) { panic("no such thing") })
	if _, err := DecideContext(t.Context(), &Run{}, DefaultLimits()); err == nil || !strings.Contains(err.Error(), "the judge broke: no such thing") {
		t.Errorf("a judge that broke: %v", err)
	}
}
