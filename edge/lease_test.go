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

// A majority of clocks was an hour ahead for a moment: the lease goes on from before it, and no ban ends by that hour.
func TestLeaseTakesBackATimestampAheadOfTime(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	l.Renew(someTimeMs)
	for _, ahead := range []time.Duration{time.Hour + 10*time.Second, time.Hour + 20*time.Second} {
		clock.pass(10 * time.Second)
		if l.Renew(someTimeMs + ahead.Milliseconds()); l.Left() != 30*time.Second || l.NowMs() != clock.wall.UnixMilli() {
			t.Errorf("left %s, now %d", l.Left(), l.NowMs())
		}
	}
	if _, newer := l.Renew(someTimeMs + 3_605_000); newer {
		t.Error("an older one of the same clocks takes nothing back")
	}
	clock.pass(15 * time.Second)
	if age, newer := l.Renew(clock.wall.UnixMilli() - 5000); !newer || age != 5*time.Second || l.Left() != 25*time.Second {
		t.Errorf("newer %v, age %s, left %s", newer, age, l.Left())
	}
	if _, newer := l.Renew(someTimeMs + 20_000); newer {
		t.Error("older than the last")
	}
}

// For a lease only: who holds old timestamps back must not bring them later than that.
func TestLeaseKeepsATimestampThatStays(t *testing.T) {
	clock := newFakeClock()
	l := NewLease(clock, 30*time.Second)
	l.Renew(someTimeMs)
	l.Renew(someTimeMs + 3_600_000)
	clock.pass(30 * time.Second)
	if _, newer := l.Renew(someTimeMs + 20_000); newer || l.NowMs() != someTimeMs+3_630_000 {
		t.Errorf("an old timestamp counts: %v, now %d", newer, l.NowMs())
	}
	if age, newer := l.Renew(someTimeMs + 3_629_000); !newer || age != time.Second {
		t.Errorf("newer %v, age %s", newer, age)
	}
}

// The wall clock was never set: the same old timestamp gives no lease, at no start; a newer one does.
func TestLeaseWithoutAWallClock(t *testing.T) {
	clock := newFakeClock()
	clock.wall = time.Unix(100, 0)
	l := NewLease(clock, 30*time.Second)
	for range 3 {
		if l.Renew(someTimeMs); l.Left() > 0 || !l.Keep() {
			t.Errorf("left %s, keep %v", l.Left(), l.Keep())
		}
		clock.pass(time.Minute)
		l = NewLease(clock, 30*time.Second)
		l.Restore(someTimeMs)
	}
	l.Renew(someTimeMs - 10_000)
	if _, newer := l.Renew(someTimeMs - 5_000); newer || l.Left() > 0 {
		t.Error("what is older than an earlier run had counts")
	}
	if l.Renew(someTimeMs + 1000); l.Left() != 30*time.Second {
		t.Errorf("left %s", l.Left())
	}
	clock.wall = time.UnixMilli(someTimeMs)
	if l.Keep() {
		t.Error("the wall clock is set by now")
	}
}
