package store

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// camera copies a directory at each step of a change: what a process that is
// killed there would leave.
type camera struct {
	t     *testing.T
	dir   string
	out   string
	shots []shot
	known promise
}

type shot struct {
	step, dir string
	known     promise
}

// promise is what must be found again.
type promise struct {
	records   []fsm.Record // flushed
	epoch     uint64
	snapshots int    // acknowledged: 0 none, else at least one is to be left
	entries   uint64 // acknowledged
}

func (c *camera) step(name string) {
	if c.dir == "" {
		return
	}
	to := filepath.Join(c.out, fmt.Sprintf("%03d", len(c.shots)))
	copyDir(c.t, c.dir, to)
	c.shots = append(c.shots, shot{name, to, c.known})
}

// judge opens what each crash left and restores it as raft would.
func (c *camera) judge() {
	c.t.Helper()
	seen := map[string]int{}
	for _, s := range c.shots {
		seen[s.step]++
		if err := judgeShot(c.t, s); err != nil {
			c.t.Errorf("crash at %q (%s): %v", s.step, filepath.Base(s.dir), err)
		}
	}
	c.t.Logf("crashes: %v", seen)
}

func judgeShot(t *testing.T, s shot) error {
	st, err := Open(s.dir, rigOptions())
	if err != nil {
		return err
	}
	defer st.Close()
	for _, dir := range []string{s.dir, under(s.dir, dirSnapshots)} {
		for _, suffix := range []string{suffixNew, suffixTmp} {
			if left, _ := filepath.Glob(under(dir, "*"+suffix)); len(left) > 0 {
				return fmt.Errorf("left behind: %v", left)
			}
		}
	}
	metas, err := st.Snapshots.List()
	if err != nil || s.known.snapshots > 0 && len(metas) == 0 {
		return fmt.Errorf("no snapshot is left, %v", err)
	}
	machine := fsm.NewMachine(st.History, nil)
	from := uint64(0)
	if len(metas) > 0 {
		_, in, err := st.Snapshots.Open(metas[0].ID)
		if err != nil {
			return err
		}
		if err := machine.Restore(in); err != nil {
			return err
		}
		from = metas[0].Index
	}
	last, err := st.Logs.LastIndex()
	if err != nil {
		return err
	}
	if max(last, from) < s.known.entries {
		return fmt.Errorf("the log ends at %d, %d was acknowledged", last, s.known.entries)
	}
	for i := from + 1; i <= last; i++ {
		var l raft.Log
		if err := st.Logs.GetLog(i, &l); err != nil {
			return err
		}
		machine.Apply(&l)
	}
	epoch, _ := st.History.Totals()
	if epoch != s.known.epoch { // replaced since: the new one is complete, Restore has seen to that
		return nil
	}
	for _, want := range s.known.records {
		got, err := st.History.Read(want.Stream, want.Seq, 1)
		if err != nil || len(got) != 1 || !sameRecord(got[0], want) {
			return fmt.Errorf("record %d of stream %d: %v, %v", want.Seq, want.Stream, got, err)
		}
	}
	return nil
}

// knows notes what is acknowledged by now.
func (c *camera) knows(r *rig, snapshots int) {
	c.t.Helper()
	r.flush()
	epoch, totals := r.s.History.Totals()
	p := promise{epoch: epoch, snapshots: snapshots, entries: r.index}
	for rec, err := range r.s.History.UpTo(totals) {
		if err != nil {
			c.t.Fatal(err)
		}
		p.records = append(p.records, rec)
	}
	c.known = p
}

func newCamera(t *testing.T) *camera { return &camera{t: t, out: t.TempDir()} }

// TestCrashAtEveryStep: flushes, snapshots, reaping and compaction.
func TestCrashAtEveryStep(t *testing.T) {
	c := newCamera(t)
	o := rigOptions()
	o.Keep, o.step = 2, c.step
	r := newRig(t, o)
	c.knows(r, 0)
	c.dir = r.dir
	for i := range 4 {
		r.tokens(3)
		c.knows(r, i)
		r.snapshot()
		c.knows(r, i+1)
		if r.index > 8 {
			if err := r.s.Logs.DeleteRange(1, r.index-8); err != nil {
				t.Fatal(err)
			}
		}
		c.step("compacted")
	}
	c.dir = ""
	c.judge()
}

// TestCrashWhileInstalling: a snapshot arrives, extends the history, and later
// one of another epoch replaces it.
func TestCrashWhileInstalling(t *testing.T) {
	source := newRig(t, rigOptions())
	source.tokens(20)
	c := newCamera(t)
	o := rigOptions()
	o.step = c.step
	to := &rig{t: t, dir: t.TempDir(), term: 1}
	to.open(o)
	c.dir = to.dir
	for i := range 3 {
		source.tokens(15)
		meta, in, err := source.s.Snapshots.Open(source.snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := install(to.s, meta.Index, meta.Term, meta.Size, in); err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
		c.known.snapshots = i + 1
		to.restore()
		to.index = meta.Index
		c.knows(to, i+1)
		c.known.entries = 0 // they are in the snapshot
	}
	c.dir = ""
	c.judge()
}

// TestCrashWhileReplacing: at each step the file holds the old history or the
// new one, whole.
func TestCrashWhileReplacing(t *testing.T) {
	c := newCamera(t)
	dir := t.TempDir()
	h := openTestHistory(t, dir, &writer{step: c.step}, nil)
	defer h.Close()
	old := []fsm.Record{recordOf(fsm.StreamAdmin, 1, 1, 50), recordOf(fsm.StreamBlacklist, 1, 2, 50)}
	if err := h.Append(1, old); err != nil {
		t.Fatal(err)
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	fresh := []fsm.Record{recordOf(fsm.StreamAdmin, 1, 1, 60), recordOf(fsm.StreamAdmin, 2, 4, 60)}
	c.dir = dir
	if err := h.Import(2, fsm.Totals{fsm.StreamAdmin: 2}, yields(fresh...), nil); err != nil {
		t.Fatal(err)
	}
	c.dir = ""
	found := map[uint64]int{}
	for _, s := range c.shots {
		again := openTestHistory(t, s.dir, &writer{}, nil)
		epoch, totals := again.Totals()
		var got []fsm.Record
		for r, err := range again.UpTo(totals) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		want := map[uint64][]fsm.Record{1: {old[1], old[0]}, 2: fresh}[epoch]
		if !slices.EqualFunc(got, want, sameRecord) {
			t.Errorf("crash at %q: epoch %d, %v", s.step, epoch, got)
		}
		found[epoch]++
		_ = again.Close()
	}
	if len(slices.Collect(maps.Keys(found))) != 2 {
		t.Errorf("seen: %v", found)
	}
}

// TestUnfinishedSinkLeavesNothing: a sink that is cancelled, or that takes what is
// no snapshot, leaves the store as it was.
func TestUnfinishedSinkLeavesNothing(t *testing.T) {
	r := newRig(t, rigOptions())
	r.tokens(3)
	good := r.snapshot()
	sink, err := createSink(r.s, r.index+1, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(sink, "half")
	if err := sink.Cancel(); err != nil {
		t.Error(err)
	}
	for range 4 {
		sink, err := createSink(r.s, r.index+2, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(sink, "this is no snapshot")
		for range 2 { // raft closes twice
			if err := sink.Close(); err == nil {
				t.Error("a bad snapshot was taken")
			}
		}
	}
	metas, err := r.s.Snapshots.List()
	if err != nil || len(metas) != 1 || metas[0].ID != good {
		t.Errorf("%v, %v", metas, err)
	}
	entries, err := os.ReadDir(under(r.dir, dirSnapshots))
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
