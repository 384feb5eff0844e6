package store

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// watcher is a Guard that counts, and frees a reserve once.
type watcher struct {
	mu      sync.Mutex
	begun   map[string]int
	failed  map[string]int
	open    int
	reserve func() bool
}

func (g *watcher) Begin(what string) func(error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun[what]++
	g.open++
	return func(err error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open--
		if err != nil {
			g.failed[what]++
		}
	}
}

func (g *watcher) NoSpace() bool { return g.reserve != nil && g.reserve() }

func (g *watcher) counts(what string) (begun, failed int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.begun[what], g.failed[what]
}

func newWatcher() *watcher { return &watcher{begun: map[string]int{}, failed: map[string]int{}} }

// TestGuardSeesEveryWrite: each kind of durable write begins and ends under it.
func TestGuardSeesEveryWrite(t *testing.T) {
	g := newWatcher()
	o := rigOptions()
	o.Guard = g
	r := newRig(t, o)
	r.tokens(3)
	r.flush()
	if err := r.s.Stable.SetUint64([]byte("CurrentTerm"), 3); err != nil {
		t.Fatal(err)
	}
	r.snapshot()
	if err := r.s.Logs.DeleteRange(1, 2); err != nil {
		t.Fatal(err)
	}
	for what, least := range map[string]int{WriteLog: 2, WriteCut: 1, WriteStable: 1, WriteHistory: 1, WriteSnapshot: 2, SyncSnapshot: 2} {
		if begun, failed := g.counts(what); begun < least || failed > 0 {
			t.Errorf("%s: begun %d times, failed %d", what, begun, failed)
		}
	}
	if g.open != 0 {
		t.Errorf("%d writes never ended", g.open)
	}
}

// fullDisk is a fault: writes find no space while it is on.
type fullDisk struct{ full atomic.Bool }

func (d *fullDisk) fault(what string) error {
	if d.full.Load() {
		return fmt.Errorf("write %s: %w", what, syscall.ENOSPC)
	}
	return nil
}

// TestFullDisk: what must be written gets the reserve, log entries do not.
func TestFullDisk(t *testing.T) {
	disk, g := &fullDisk{}, newWatcher()
	freed := 0
	g.reserve = func() bool { freed++; disk.full.Store(false); return true }
	o := rigOptions()
	o.Guard, o.fault = g, disk.fault
	r := newRig(t, o)
	r.tokens(3)
	r.flush()
	for name, c := range map[string]struct {
		write   func() error
		reserve bool
	}{
		"entries": {func() error { return r.s.Logs.StoreLog(&raft.Log{Index: r.index + 1, Term: 1}) }, false},
		"vote":    {func() error { return r.s.Stable.SetUint64([]byte("CurrentTerm"), 4) }, true},
		"compact": {func() error { return r.s.Logs.DeleteRange(1, 2) }, true},
		"history": {func() error {
			return errors.Join(r.s.History.Append(r.epoch(), []fsm.Record{recordOf(fsm.StreamBlacklist, 1, 1, 9)}), r.s.History.Flush())
		}, true},
		"snapshot": {func() error { _, err := r.trySnapshot(); return err }, false},
	} {
		disk.full.Store(true)
		freed = 0
		err := c.write()
		if c.reserve != (err == nil) || c.reserve != (freed == 1) {
			t.Errorf("%s: %v, the reserve was asked for %d times", name, err, freed)
		}
		if !c.reserve && !errors.Is(err, syscall.ENOSPC) && !noSpace(err) {
			t.Errorf("%s: the cause is lost: %v", name, err)
		}
		disk.full.Store(false)
	}
	if last, err := r.s.Logs.LastIndex(); last != r.index || err != nil {
		t.Errorf("the log ends at %d, %v", last, err)
	}
	if _, err := r.trySnapshot(); err != nil {
		t.Errorf("after the disk has space again: %v", err)
	}
}

func (r *rig) epoch() uint64 { e, _ := r.s.History.Totals(); return e }

// overfill appends more records than may wait while the disk is full, and
// returns when no more are taken.
func overfill(t *testing.T, h *History, stream fsm.Stream, extra uint64) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() {
		for i := range maxPending + extra {
			if err := h.Append(1, []fsm.Record{recordOf(stream, i+1, i+1, 3)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.count < maxPending || h.full == nil {
		h.changed.Wait()
	}
	if h.count > maxPending {
		t.Errorf("%d records wait, at most %d may", h.count, maxPending)
	}
	return done
}

// TestHistoryWaitsForSpace: memory stays bounded while the disk is full, nothing
// is lost when it has space again, and a node that goes down does not hang.
func TestHistoryWaitsForSpace(t *testing.T) {
	disk := &fullDisk{}
	disk.full.Store(true)
	dir := t.TempDir()
	h := openTestHistory(t, dir, &writer{fault: disk.fault}, func(err error) { t.Errorf("a full disk is no damage: %v", err) })
	const extra = 10
	done := overfill(t, h, fsm.StreamAdmin, extra)
	if got, err := h.Read(fsm.StreamAdmin, maxPending, 1); err != nil || len(got) != 1 {
		t.Errorf("reading what waits: %v, %v", got, err)
	}
	disk.full.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	done = overfill(t, h, fsm.StreamBlacklist, extra) // hangs until the node says that it is ending
	h.Ending()
	if err := <-done; err != nil {
		t.Errorf("append while going down: %v", err)
	}
	if err := h.Close(); !noSpace(err) {
		t.Errorf("close with a full disk: %v", err)
	}
	h = openTestHistory(t, dir, &writer{}, nil)
	defer h.Close()
	if _, totals := h.Totals(); totals[fsm.StreamAdmin] != maxPending+extra || totals[fsm.StreamBlacklist] != 0 {
		t.Errorf("on disk: %v", totals)
	}
}

// TestHistoryWriteErrorSticks: after an error other than a full disk nobody knows
// what the disk holds.
func TestHistoryWriteErrorSticks(t *testing.T) {
	broken := errors.New("the disk is gone")
	told := make(chan error, 9)
	h := openTestHistory(t, t.TempDir(), &writer{fault: func(string) error { return broken }}, func(err error) { told <- err })
	r := recordOf(fsm.StreamAdmin, 1, 1, 1)
	if err := h.Append(1, []fsm.Record{r}); err != nil {
		t.Fatal(err)
	}
	if err := h.Flush(); !errors.Is(err, broken) {
		t.Error("flush:", err)
	}
	if err := h.Append(1, []fsm.Record{r}); !errors.Is(err, broken) {
		t.Error("append:", err)
	}
	if err := h.Import(1, nil, yields(), nil); !errors.Is(err, broken) {
		t.Error("import:", err)
	}
	if err := <-told; !errors.Is(err, broken) {
		t.Error("told:", err)
	}
	_ = h.Close()
	if len(told) > 0 {
		t.Error("told twice")
	}
}

// TestSnapshotWriteErrors: whatever fails, the snapshots that stand still do.
func TestSnapshotWriteErrors(t *testing.T) {
	var fail atomic.Pointer[string]
	o := rigOptions()
	o.fault = func(what string) error {
		if f := fail.Load(); f != nil && *f == what {
			return io.ErrShortWrite
		}
		return nil
	}
	r := newRig(t, o)
	r.tokens(2)
	r.snapshot()
	for _, what := range []string{WriteSnapshot, SyncSnapshot} {
		fail.Store(&what)
		if _, err := r.trySnapshot(); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%s: %v", what, err)
		}
		fail.Store(nil)
		if metas, err := r.s.Snapshots.List(); err != nil || len(metas) != 1 {
			t.Errorf("%s: %v, %v", what, metas, err)
		}
	}
	r.tokens(1)
	r.snapshot()
	r.restart(rigOptions())
}
