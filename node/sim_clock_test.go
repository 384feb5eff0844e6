package node

import (
	"math/rand/v2"
	"sync"
	"time"
)

// simClock is a wall clock: off from the start, drifting, and moved by faults.
type simClock struct {
	mu    sync.Mutex // guards what follows
	from  time.Time  // when it was set
	off   time.Duration
	drift float64       // share of the time that passes
	moved time.Duration // by a fault
}

const (
	simClockOff   = 200 * time.Millisecond // most that a sound clock is off from the start: the judge counts on it
	simClockDrift = 10e-6                  // most that it drifts: 36 ms an hour
)

// newSimClock draws a sound clock.
func newSimClock(rng *rand.Rand) *simClock {
	return &simClock{from: time.Now(), off: time.Duration((2*rng.Float64() - 1) * float64(simClockOff)), drift: (2*rng.Float64() - 1) * simClockDrift}
}

func (c *simClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	drifted := time.Duration(float64(now.Sub(c.from)) * c.drift)
	return now.Add(c.off + c.moved + drifted).Round(0) // without the monotonic reading, which is not this clock's
}

// move has the clock jump to where it would be by itself, and so much further.
func (c *simClock) move(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = offset
}

// set brings a sound clock back to what it was off in the beginning, as NTP does for machines that run for years.
func (c *simClock) set() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from, c.moved = time.Now(), 0
}

// spoil has the clock drift from now on.
func (c *simClock) spoil(drift float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.off += time.Duration(float64(now.Sub(c.from)) * c.drift)
	c.from, c.drift = now, drift
}
