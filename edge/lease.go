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
// of the coordinators', leases are shorter by that. Where it is behind a timestamp by more than a lease it cannot tell either: then one counts only if it
// is newer than another that was here before, in an earlier run too.
//
// A timestamp that is further ahead of the time than a lease is one of clocks that ran ahead for a moment, or shows that the time was not known. It counts at once; but
// for one lease those that go on from before it count too, and if one comes, it is forgotten.
//
// Renew is called by the syncer alone, everything else by anybody.
type Lease struct {
	clock  Clock
	length time.Duration
	state  atomic.Pointer[leaseState] // nil until the first renewal of this run
	kept   int64                      // newest majority timestamp that earlier runs kept, Unix milliseconds; 0: none. Set by Restore
}

// leaseState is never changed. Both offsets are what to add to Mono for a time in Unix milliseconds.
type leaseState struct {
	vouchedMs int64         // newest majority timestamp, Unix milliseconds
	ends      time.Duration // by Mono
	passedMs  int64         // gives a time that a majority has certainly reached
	latestMs  int64         // gives the latest time that is known to have come, by this machine's clock at the first renewal too
	before    *leaseState   // before a timestamp that was ahead of the time, which the next may take back; nil: none was
	until     time.Duration // by Mono: then it is taken back no more
}

// NewLease returns a lease that has run out.
func NewLease(clock Clock, length time.Duration) *Lease {
	return &Lease{clock: clock, length: length}
}

// Restore tells of the newest majority timestamp that an earlier run kept, Unix milliseconds, before the first renewal.
func (l *Lease) Restore(vouchedMs int64) { l.kept = vouchedMs }

// Renew counts from a majority timestamp on; one that is no newer than the last is passed over. It tells how old the timestamp was.
func (l *Lease) Renew(vouchedMs int64) (age time.Duration, newer bool) {
	mono, old := l.clock.Mono(), l.state.Load()
	if old == nil {
		return l.begin(vouchedMs, l.kept), true
	}
	at := old.settled(mono, vouchedMs, l.length)
	if vouchedMs <= at.vouchedMs {
		return 0, false
	}
	next := leaseState{vouchedMs: vouchedMs, passedMs: max(vouchedMs-mono.Milliseconds(), at.passedMs), before: at.before, until: at.until}
	next.latestMs = max(at.latestMs, next.passedMs)
	if at.before == nil && next.latestMs-at.latestMs > l.length.Milliseconds() {
		next.before, next.until = &at, mono+l.length
	}
	age = next.age(mono)
	next.ends = mono + l.length - age
	l.state.Store(&next)
	return age, true
}

// Begin counts from the first majority timestamp of a new recovery epoch on. Nothing of an epoch before can be taken for it, and the clocks there may have run
// ahead.
func (l *Lease) Begin(vouchedMs int64) {
	if s := l.state.Load(); s != nil && vouchedMs > s.vouchedMs {
		l.Renew(vouchedMs)
		return
	}
	l.begin(vouchedMs, 0)
}

// begin has nothing to tell the age of a timestamp by but the wall clock, and one that was kept.
func (l *Lease) begin(vouchedMs, kept int64) time.Duration {
	mono, wallMs := l.clock.Mono(), l.clock.Wall().UnixMilli()
	next := leaseState{vouchedMs: vouchedMs, passedMs: vouchedMs - mono.Milliseconds()}
	next.latestMs = max(wallMs-mono.Milliseconds(), next.passedMs)
	age := next.age(mono)
	next.ends = mono + l.length - age
	if newest := max(vouchedMs, kept); l.behind(wallMs, newest) && (kept == 0 || vouchedMs <= kept) {
		next.vouchedMs, next.ends = newest, mono
	}
	l.state.Store(&next)
	return age
}

// behind tells whether a wall clock cannot tell how old a timestamp is.
func (l *Lease) behind(wallMs, vouchedMs int64) bool {
	return vouchedMs-wallMs > l.length.Milliseconds()
}

// Keep tells whether the next run needs to be told of the newest timestamp, by [Lease.Restore]: the wall clock is no help.
func (l *Lease) Keep() bool { return l.behind(l.clock.Wall().UnixMilli(), l.VouchedMs()) }

// settled returns what a timestamp goes on from: what was before the one that was ahead of the time, if this one takes that back.
func (s *leaseState) settled(mono time.Duration, vouchedMs int64, length time.Duration) leaseState {
	at := *s
	switch {
	case s.before == nil:
	case mono >= s.until:
		at.before = nil
	case vouchedMs < s.vouchedMs && vouchedMs > s.before.vouchedMs && vouchedMs <= s.before.latestMs+(mono+length).Milliseconds():
		at = *s.before
	}
	return at
}

// age returns how old the timestamp of a state is.
func (s *leaseState) age(mono time.Duration) time.Duration {
	return time.Duration(s.latestMs+mono.Milliseconds()-s.vouchedMs) * time.Millisecond
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
	s, mono := l.state.Load(), l.clock.Mono()
	switch {
	case s == nil:
		return l.clock.Wall().UnixMilli()
	case s.before != nil && mono < s.until:
		s = s.before // no ban ends by a time that may be taken back
	}
	return s.passedMs + mono.Milliseconds()
}

// Age returns how long ago a majority vouched for the list, by the latest time that is known to have come; zero before the first renewal.
func (l *Lease) Age() time.Duration {
	if s := l.state.Load(); s != nil {
		return l.length - (s.ends - l.clock.Mono())
	}
	return 0
}
