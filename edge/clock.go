package edge

import (
	"sync/atomic"
	"time"
)

// Clock is what an edge knows of time. Wall may be set by anybody at any moment; Mono only runs, also while the machine sleeps.
type Clock interface {
	Wall() time.Time
	Mono() time.Duration // since some moment of this run
}

// machineClock is that of the operating system. Go's monotonic clock stands still while the machine sleeps; for how long it did is added.
type machineClock struct {
	start   time.Time
	asleep  func() time.Duration // since the machine was started; never more than is true
	before  time.Duration        // of it, before start
	slept   atomic.Int64         // nanoseconds since start
	askedAt atomic.Int64         // nanoseconds since start, not counting sleep
}

// sleepEvery is how often it is asked whether the machine slept: a check of an agent takes less time than the question.
const sleepEvery = 50 * time.Millisecond

// NewClock returns the clock of this machine.
func NewClock() Clock { return newMachineClock(asleep) }

func newMachineClock(asleep func() time.Duration) *machineClock {
	return &machineClock{start: time.Now(), asleep: asleep, before: asleep()}
}

func (c *machineClock) Wall() time.Time { return time.Now() }

func (c *machineClock) Mono() time.Duration {
	awake := time.Since(c.start)
	if at := c.askedAt.Load(); int64(awake)-at >= int64(sleepEvery) && c.askedAt.CompareAndSwap(at, int64(awake)) {
		c.slept.Store(max(c.slept.Load(), int64(c.asleep()-c.before)))
	}
	return awake + time.Duration(c.slept.Load())
}
