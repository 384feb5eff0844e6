package chaos

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
)

func newInjector(t *testing.T, w *fakeWorld) *injector {
	t.Helper()
	rec, err := newRecorder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.close() })
	return &injector{rec: rec, arena: *newArena(w), note: t.Logf, holds: newHolds()}
}

// TestInjectorTellsWhatBit holds that the timeline, on disk, tells a fault that
// bit from one that came too late, was busy, or was skipped.
func TestInjectorTellsWhatBit(t *testing.T) {
	w := &fakeWorld{dir: t.TempDir()}
	in := newInjector(t, w)
	in.arena.Disk = nil
	healings := 0
	in.healed = func() { healings++ }
	const ms = Duration(time.Millisecond)
	late := step(0, 1, "stop", map[string]any{"target": "n3"}) // over before it began
	for i, s := range []Step{
		step(0, 200*ms, "kill", map[string]any{"target": "n1"}), late, step(0, 10*ms, "disk_full", nil),
	} {
		in.step(t.Context(), t.Context(), i, s)
	}
	in.holds.held[heldPart{theServer, "n2"}] = true
	in.step(t.Context(), t.Context(), 3, step(0, 10*ms, "pause", map[string]any{"target": "leader"}))
	run, err := judge.Load(saveRun(t, in.rec.dir))
	if err != nil {
		t.Fatal(err)
	}
	e := run.Timeline
	if len(e) != 4 || e[0].Error != "" || e[0].InjectedNS < e[0].AtNS || e[0].EndNS < int64(200*time.Millisecond) {
		t.Fatalf("a kill: %+v", e)
	}
	if !strings.HasPrefix(e[1].Error, "too late") || e[1].Busy {
		t.Errorf("a stop of a nanosecond: %+v", e[1])
	}
	if !strings.HasPrefix(e[2].Error, "skipped") || e[2].Busy {
		t.Errorf("without a disk: %+v", e[2])
	}
	if !e[3].Busy || !strings.HasPrefix(e[3].Error, "busy") {
		t.Errorf("of a node in another's hands: %+v", e[3])
	}
	if healings != 2 || len(in.holds.held) != 1 {
		t.Errorf("%d healings, still held: %v", healings, in.holds.held)
	}
}

func saveRun(t *testing.T, dir string) string {
	t.Helper()
	if err := saveAbout(dir, judge.About{Scenario: "test"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestInterruptionHealsNothing holds that Ctrl-C need not wait for a cluster to
// be well: it is taken down anyway.
func TestInterruptionHealsNothing(t *testing.T) {
	w := &fakeWorld{}
	in := newInjector(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	in.step(ctx, ctx, 0, step(0, seconds*60, "kill", map[string]any{"target": "n1"}))
	if got := strings.Join(w.log, ", "); got != "SIGKILL n1, kill n1" {
		t.Errorf("did %s", got)
	}
}

// TestKilledHarness holds that what a killed harness left can be judged: no
// verdict, but everything it saw up to a second before.
func TestKilledHarness(t *testing.T) {
	rec, err := newRecorder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	saveRun(t, rec.dir)
	rec.event(judge.Event{What: "kill", Fault: true})
	ask := func() {
		rec.ask(judge.Op{Kind: judge.KindChainRead, Node: "n1", ChainRead: &judge.ChainRead{}}, func(*judge.Op) error { return nil })
	}
	ask()
	ask()
	history := filepath.Join(rec.dir, judge.HistoryFile)
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if info, err := os.Stat(history); err != nil || info.Size() > 0 {
			break
		}
		if time.Since(begin) > 10*flushEvery {
			t.Fatal("the history is not flushed")
		}
	}
	text, err := os.ReadFile(history)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(history, text[:len(text)-5], 0o600); err != nil { // torn
		t.Fatal(err)
	}
	run, err := judge.Load(rec.dir)
	if err != nil || len(run.Ops) != 1 || len(run.Timeline) != 1 {
		t.Fatalf("%+v, %v", run, err)
	}
	if res, err := Report(t.Context(), rec.dir); err != nil || res.Verdict.Result != judge.Undecided {
		t.Errorf("judged %s, %v", res.Verdict.Result, err)
	}
	_ = rec.close()
}

// TestRandomStepsCanBite holds that no drawn fault is over before it can bite.
func TestRandomStepsCanBite(t *testing.T) {
	s := exploreAll()
	for seed := range uint64(100) {
		for _, st := range s.Random.draw(seed, 2*time.Minute, 3) {
			if time.Duration(st.For) < least(st.Fault.Name) {
				t.Errorf("seed %d: %s for %s", seed, st.Fault.Name, time.Duration(st.For))
			}
		}
	}
}
