package edge

import "time"

// Clock is what an edge knows of time. Wall may be set by anybody at any moment; Mono only runs.
type Clock interface {
	Wall() time.Time
	Mono() time.Duration // since some moment of this run
}

// machineClock is that of the operating system.
type machineClock struct{ start time.Time }

// NewClock returns the clock of this machine.
func NewClock() Clock { return machineClock{start: time.Now()} }

func (machineClock) Wall() time.Time       { return time.Now() }
func (c machineClock) Mono() time.Duration { return time.Since(c.start) }
