package store

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// hands is a clock that a test turns.
type hands struct {
	mu sync.Mutex
	at time.Time
}

func newHands() *hands { return &hands{at: time.Unix(1_000_000, 0)} }

func (h *hands) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hands) turn(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

func TestWatchKnowsTheOldestWriteOfRaftsLoop(t *testing.T) {
	clock := newHands()
	w := NewWatch(clock.now, nil)
	if id, age := w.Stalled(); id != 0 || age != 0 {
		t.Fatalf("nothing is written: %d, %s", id, age)
	}
	slow := w.Begin(WriteSnapshot) // beside the loop: takes its time
	flush := w.Begin(WriteHistory)
	cut := w.Begin(WriteCut) // may be in the loop, and takes longer than an entry
	clock.turn(patience - 1)
	if id, _ := w.Stalled(); id != 0 {
		t.Errorf("a snapshot, the history or a cut stalls nobody: write %d", id)
	}
	cut(nil)
	slow(nil)
	flush(nil)
	first := w.Begin(WriteLog)
	clock.turn(time.Second)
	second := w.Begin(WriteStable)
	clock.turn(time.Second)
	before, age := w.Stalled()
	if age != 2*time.Second {
		t.Errorf("the oldest is %s old, want 2s", age)
	}
	first(nil)
	after, age := w.Stalled()
	if after == before || age != time.Second {
		t.Errorf("write %d after %d, %s old, want another one and 1s", after, before, age)
	}
	second(nil)
	whole := w.Begin(WriteLoop)
	clock.turn(time.Second)
	inner := w.Begin(WriteLog)
	inner(nil)
	clock.turn(time.Second) // something else is written that has no name
	if _, age := w.Stalled(); age != 2*time.Second {
		t.Errorf("the call is %s old, want 2s", age)
	}
	whole(nil)
	if id, _ := w.Stalled(); id != 0 {
		t.Errorf("all have ended: write %d", id)
	}
}

// TestWatchLosesPatience: what is written beside raft's loop has its time, but
// not for ever.
func TestWatchLosesPatience(t *testing.T) {
	for what, limit := range map[string]time.Duration{WriteHistory: patience, WriteSnapshot: patience, WriteCut: patience,
		SyncSnapshot: patienceSync, SyncHistory: patienceSync} {
		clock := newHands()
		w := NewWatch(clock.now, nil)
		done := w.Begin(what)
		clock.turn(limit - 1)
		if id, age := w.Stalled(); id != 0 || age != 0 {
			t.Errorf("%s: write %d counts after %s", what, id, age)
		}
		clock.turn(1)
		hung, age := w.Stalled()
		if hung == 0 || age != limit {
			t.Errorf("%s: write %d after %s, want one after %s", what, hung, age, limit)
		}
		short := w.Begin(WriteLog) // those that come and go beside it change nothing
		if id, _ := w.Stalled(); id != hung {
			t.Errorf("%s: write %d, want %d", what, id, hung)
		}
		short(nil)
		done(nil)
		if id, _ := w.Stalled(); id != 0 {
			t.Errorf("%s: it has ended: write %d", what, id)
		}
	}
}

func TestWatchPace(t *testing.T) {
	clock := newHands()
	w := NewWatch(clock.now, nil)
	one := func(what string, took time.Duration, err error) {
		done := w.Begin(what)
		clock.turn(took)
		done(err)
	}
	if m, n := w.Pace(time.Hour); m != 0 || n != 0 {
		t.Errorf("nothing written: %s of %d", m, n)
	}
	one(WriteLog, 10*time.Millisecond, nil)
	one(WriteLog, 10*time.Millisecond, nil)
	one(WriteLog, time.Minute, nil) // one hiccup
	one(WriteStable, time.Hour, nil)
	one(WriteLog, time.Microsecond, errors.New("no space"))
	one(WriteSnapshot, time.Second, nil)
	if m, n := w.Pace(2 * time.Hour); m != 10*time.Millisecond || n != 3 {
		t.Errorf("median %s of %d, want 10ms of 3", m, n)
	}
	if m, n := w.Pace(time.Second); m != 0 || n != 0 {
		t.Errorf("all are too old: %s of %d", m, n)
	}
	for range 2 * watchRing {
		one(WriteLog, 700*time.Millisecond, nil)
	}
	if m, n := w.Pace(time.Hour); m != 700*time.Millisecond || n != watchRing {
		t.Errorf("median %s of %d, want 700ms of %d", m, n, watchRing)
	}
	if m, n := w.Pace(7 * time.Second); m != 700*time.Millisecond || n != 11 {
		t.Errorf("median %s of %d, want 700ms of 11: the window counts both ends", m, n)
	}
}

func TestWatchTellsOutcomes(t *testing.T) {
	var seen []error
	var w *Watch
	w = NewWatch(time.Now, func(err error) {
		w.Stalled() // no lock is held
		seen = append(seen, err)
	})
	full := errors.New("full")
	w.Begin(WriteLog)(nil)
	w.Begin(WriteHistory)(full)
	if len(seen) != 2 || seen[0] != nil || seen[1] != full {
		t.Errorf("saw %v", seen)
	}
}

func TestWatchCostsNoAllocation(t *testing.T) {
	w := NewWatch(time.Now, nil)
	w.Begin(WriteLog)(nil)
	if n := testing.AllocsPerRun(100, func() { w.Begin(WriteLog)(nil) }); n != 0 {
		t.Errorf("%v allocations a write", n)
	}
}

func TestWatchIsSafeForConcurrentUse(t *testing.T) {
	w := NewWatch(time.Now, func(error) {})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				done := w.Begin(WriteLog)
				w.Stalled()
				w.Pace(time.Second)
				done(nil)
			}
		})
	}
	all.Wait()
	if id, _ := w.Stalled(); id != 0 {
		t.Errorf("write %d never ended", id)
	}
	if _, n := w.Pace(time.Hour); n != watchRing {
		t.Errorf("%d samples, want %d", n, watchRing)
	}
}
