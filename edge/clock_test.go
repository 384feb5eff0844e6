package edge

import (
	"testing"
	"testing/synctest"
	"time"
)

// The machine sleeps for an hour: a lease ends in it.
func TestClockCountsSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slept := 5 * time.Hour // before this run
		clock := newMachineClock(func() time.Duration { return slept })
		l := NewLease(clock, 30*time.Second)
		l.Renew(time.Now().UnixMilli())
		time.Sleep(10 * time.Second)
		if l.Left() != 20*time.Second {
			t.Errorf("left %s", l.Left())
		}
		slept += time.Hour
		time.Sleep(sleepEvery)
		if left := l.Left(); left != 20*time.Second-time.Hour-sleepEvery {
			t.Errorf("an hour of sleep later: left %s", left)
		}
		slept -= time.Minute // a reading that came late between the two clocks
		time.Sleep(sleepEvery)
		if left := l.Left(); left != 20*time.Second-time.Hour-2*sleepEvery {
			t.Errorf("time ran back: left %s", left)
		}
	})
}

// What the kernel says does not run back further than a pause between two readings, and is not more than there was.
func TestAsleepOfThisMachine(t *testing.T) {
	if first, then := asleep(), asleep(); first < 0 || then > first+time.Minute {
		t.Errorf("%s, then %s", first, then)
	}
}
