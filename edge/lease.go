package edge

import (
	"sync/atomic"
	"time"
)

// DefaultLease is for how long a verified list may be acted on after a majority last vouched for it. Coordinators do so every third
// of it, so two rounds may be lost.
const DefaultLease = 30 * time.Second

// Lease counts how old the word of a majority is. A list is fresh until the length of the lease after the majority-th newest timestamp of the
// cosignatures on it, by the monotonic clock: setting the wall clock neither ends nor prolongs it.
//
// The age of a timestamp at its arrival is judged by the latest time that is known to have come: what the wall clock said when this
// run heard its first timestamp, and every timestamp since, each carried forward. So who holds checkpoints back, or sends old ones
// again, gains nothing once a newer one was here; before that the wall clock of this machine alone can tell. Where it runs ahead
// of the coordinators', leases are shorter by that.
//
// Renew is called by the syncer alone, everything else by anybody.
type Lease struct {
	clock  Clock
	length time.Duration
	state  atomic.Pointer[leaseState] // nil until the first renewal of this run
}

// leaseState is never changed. Both offsets are what to add to Mono for a time in Unix milliseconds.
type leaseState struct {
	vouchedMs int64         // newest majority timestamp, Unix milliseconds
	ends      time.Duration // by Mono
	passedMs  int64         // gives a time that a majority has certainly reached
	latestMs  int64         // gives the latest time that is known to have come, by this machine's clock at the first renewal too
}

// NewLease returns a lease that has run out.
func NewLease(clock Clock, length time.Duration) *Lease {
	return &Lease{clock: clock, length: length}
}

// Renew counts from a majority timestamp on; one that is no newer than the last is passed over. It tells how old the timestamp was.
func (l *Lease) Renew(vouchedMs int64) (age time.Duration, newer bool) {
	mono, old := l.clock.Mono(), l.state.Load()
	next := leaseState{vouchedMs: vouchedMs, passedMs: vouchedMs - mono.Milliseconds()}
	if old == nil {
		next.latestMs = l.clock.Wall().UnixMilli() - mono.Milliseconds()
	} else {
		if vouchedMs <= old.vouchedMs {
			return 0, false
		}
		next.passedMs, next.latestMs = max(next.passedMs, old.passedMs), old.latestMs
	}
	next.latestMs = max(next.latestMs, next.passedMs)
	age = time.Duration(next.latestMs+mono.Milliseconds()-vouchedMs) * time.Millisecond
	next.ends = mono + l.length - age
	l.state.Store(&next)
	return age, true
}

// Left returns how long the list is still fresh; zero or less: it is not.
func (l *Lease) Left() time.Duration {
	s := l.state.Load()
	if s == nil {
		return 0
	}
	return s.ends - l.clock.Mono()
}

// VouchedMs returns the newest majority timestamp of this run, Unix milliseconds; 0: none yet.
func (l *Lease) VouchedMs() int64 {
	if s := l.state.Load(); s != nil {
		return s.vouchedMs
	}
	return 0
}

// NowMs returns the time that expiries are held against, Unix milliseconds: majority timestamps carried forward. A majority has certainly come
// that far, so no ban ends early; it ends late by at most the way of a timestamp. Before the first one there is only the
// wall clock.
func (l *Lease) NowMs() int64 {
	if s := l.state.Load(); s != nil {
		return s.passedMs + l.clock.Mono().Milliseconds()
	}
	return l.clock.Wall().UnixMilli()
}

// Age returns how long ago a majority vouched for the list, by the latest time that is known to have come; zero before the first renewal.
func (l *Lease) Age() time.Duration {
	if s := l.state.Load(); s != nil {
		return l.length - (s.ends - l.clock.Mono())
	}
	return 0
}
