package edge

import (
	"testing"
	"time"
)

// fakeClock is set by hand.
type fakeClock struct {
	wall time.Time
	mono time.Duration
}

func (c *fakeClock) Wall() time.Time     { return c.wall }
func (c *fakeClock) Mono() time.Duration { return c.mono }

func (c *fakeClock) pass(d time.Duration) { c.wall, c.mono = c.wall.Add(d), c.mono+d }

const someTimeMs = 1_800_000_000_000

func newFakeClock() *fakeClock { return &fakeClock{wall: time.UnixMilli(someTimeMs), mono: time.Hour} }

func TestLeaseRunsFromTheTimestamp(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	if l.Left() > 0 {
		t.Fatal("a lease that nobody gave")
	}
	if age, newer := l.Renew(someTimeMs - 4000); age != 4*time.Second || !newer || l.Left() != 26*time.Second {
		t.Fatalf("age %s, left %s", age, l.Left())
	}
	clock.pass(26 * time.Second)
	if l.Left() != 0 {
		t.Fatalf("left %s", l.Left())
	}
	clock.pass(time.Millisecond)
	if l.Left() >= 0 {
		t.Fatalf("left %s", l.Left())
	}
}

// Who holds timestamps back, or sends them again, gains nothing.
func TestLeaseIsNotProlongedByOldTimestamps(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	l.Renew(someTimeMs)
	clock.pass(20 * time.Second)
	if _, newer := l.Renew(someTimeMs); newer {
		t.Error("the same timestamp counts twice")
	}
	if age, newer := l.Renew(someTimeMs + 5000); !newer || age != 15*time.Second || l.Left() != 15*time.Second {
		t.Errorf("held back for 15 s: age %s, left %s", age, l.Left())
	}
	if _, newer := l.Renew(someTimeMs + 4000); newer {
		t.Error("an older one counts")
	}
}

func TestLeaseIgnoresTheWallClockOnceItRuns(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	l.Renew(someTimeMs)
	for _, step := range []time.Duration{-time.Hour, 2 * time.Hour} {
		clock.wall = clock.wall.Add(step)
		if l.Left() != 30*time.Second || l.NowMs() != someTimeMs {
			t.Errorf("after a step of %s: left %s, now %d", step, l.Left(), l.NowMs())
		}
	}
	clock.pass(10 * time.Second)
	if age, _ := l.Renew(someTimeMs + 10_000); age != 0 || l.Left() != 30*time.Second {
		t.Errorf("age %s, left %s", age, l.Left())
	}
}

// At its start an edge has only the wall clock to tell an old timestamp by.
func TestLeaseOldAtTheStart(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	if l.Renew(someTimeMs - 60_000); l.Left() > 0 {
		t.Errorf("left %s", l.Left())
	}
	if l.Renew(someTimeMs); l.Left() != 30*time.Second {
		t.Errorf("left %s", l.Left())
	}
}

// A wall clock that runs behind: the next timestamps tell the time.
func TestLeaseLearnsTheTime(t *testing.T) {
	clock := newFakeClock()
	clock.wall = clock.wall.Add(-time.Minute)
	l := NewLease(clock, 30*time.Second)
	l.Renew(someTimeMs)
	clock.pass(5 * time.Second)
	if age, _ := l.Renew(someTimeMs + 1000); age != 4*time.Second {
		t.Errorf("age %s", age)
	}
	if l.NowMs() != someTimeMs+5000 {
		t.Errorf("now %d", l.NowMs())
	}
}

func TestLeaseTimeForExpiries(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	if l.NowMs() != someTimeMs {
		t.Error("the wall clock is all there is")
	}
	clock.wall = clock.wall.Add(time.Minute) // runs ahead: no ban may end for that
	l.Renew(someTimeMs)
	clock.pass(3 * time.Second)
	if l.NowMs() != someTimeMs+3000 {
		t.Errorf("now %d", l.NowMs())
	}
	l.Renew(someTimeMs + 1000) // late on its way: time does not run back
	if l.NowMs() != someTimeMs+3000 {
		t.Errorf("now %d", l.NowMs())
	}
}
