package fsm

import (
	"cmp"
	"slices"
)

// TimeRange is a closed range of signed timestamps, Unix milliseconds.
type TimeRange struct {
	_      struct{} `cbor:",toarray"`
	FromMs int64
	ToMs   int64
}

// without returns what is left of the range, in order.
func (r TimeRange) without(gaps []TimeRange) []TimeRange {
	left := []TimeRange{r}
	for _, g := range gaps {
		var next []TimeRange
		for _, r := range left {
			if g.ToMs < r.FromMs || g.FromMs > r.ToMs {
				next = append(next, r)
				continue
			}
			if r.FromMs < g.FromMs {
				next = append(next, TimeRange{FromMs: r.FromMs, ToMs: g.FromMs - 1})
			}
			if g.ToMs < r.ToMs {
				next = append(next, TimeRange{FromMs: g.ToMs + 1, ToMs: r.ToMs})
			}
		}
		left = next
	}
	return left
}

// maxSkipped bounds the jumps of the clock that are remembered; of more than
// that a clock recovery closes the time between, too.
const maxSkipped = 4

// rememberJump notes which timestamps no admitted claim and no id of the ledger has when the clock jumps
// ahead: those after the last nonce kept, and before what could be admitted
// after the jump under any policy. If the jump was wrong and is taken back, they
// need not stay closed.
func (s *State) rememberJump(toMs int64) {
	if s.meta.v.Level < LevelRecovery {
		return
	}
	var open []TimeRange
	for _, g := range s.meta.v.Skipped {
		if g.ToMs > s.meta.v.NonceFloorMs { // else time went on: it was no mistake
			open = append(open, g)
		}
	}
	s.meta.v.Skipped = open
	used := max(s.meta.v.NonceFloorMs, s.nonces.top(), s.ledger.book.v.IDFloorMs, s.ledger.ids.top())
	r := TimeRange{FromMs: used + 1, ToMs: toMs - MaxSkewMs - 1}
	if r.FromMs <= r.ToMs && len(open) < maxSkipped {
		s.meta.v.Skipped = append(open, r)
	}
}

// maxClosed bounds the ranges that clock recoveries closed; past it the last
// two become one that covers both.
const maxClosed = 16

// closeRange adds a range. The list stays in order and without overlaps. What
// the floor covers needs no range: when the floor falls, that is closed.
func (s *State) closeRange(r TimeRange) {
	s.meta.v.Closed = withRange(s.meta.v.Closed, r, s.meta.v.NonceFloorMs)
}

// withRange returns a new list with a range added, for what has a floor of its own.
func withRange(list []TimeRange, r TimeRange, floorMs int64) []TimeRange {
	var closed []TimeRange
	for _, have := range list {
		if have.FromMs <= r.ToMs+1 && r.FromMs <= have.ToMs+1 {
			r.FromMs, r.ToMs = min(r.FromMs, have.FromMs), max(r.ToMs, have.ToMs)
		} else if have.ToMs > floorMs {
			closed = append(closed, have)
		}
	}
	if r.ToMs > floorMs {
		closed = append(closed, r)
	}
	slices.SortFunc(closed, func(a, b TimeRange) int { return cmp.Compare(a.FromMs, b.FromMs) })
	if n := len(closed); n > maxClosed {
		closed[n-2].ToMs = closed[n-1].ToMs
		closed = closed[:n-1]
	}
	return closed
}

func (s *State) closedAt(timestampMs int64) bool { return inRanges(s.meta.v.Closed, timestampMs) }

func inRanges(list []TimeRange, timestampMs int64) bool {
	for _, r := range list {
		if timestampMs >= r.FromMs && timestampMs <= r.ToMs {
			return true
		}
	}
	return false
}

// maxClosedByBackupMs bounds what a restore may close of the time to come: a year
// is more than any wrong clock was followed for, and no backup ends admissions.
const maxClosedByBackupMs = 365 * 24 * 3_600_000

// closesMore is how much more of the time to come is closed than in another state, to
// requests or to ids of the ledger, whichever is more.
func (s *State) closesMore(than *State) int64 {
	return max(s.aheadMs(s.meta.v.Closed)-than.aheadMs(than.meta.v.Closed),
		s.aheadMs(s.ledger.book.v.Closed)-than.aheadMs(than.ledger.book.v.Closed))
}

func (s *State) aheadMs(closed []TimeRange) (sum int64) {
	for _, r := range closed {
		sum += max(0, r.ToMs-max(r.FromMs-1, s.meta.v.ClockMs))
	}
	return sum
}

// closeFar closes, for ever, the time around the nonces that lie further ahead
// than any policy admits, and forgets them: a clock that was wrong left them
// there, they would fill the window until the world comes to their time. Nonces
// of one wrong clock lie within two of the widest windows.
func (s *State) closeFar() {
	s.closeFarOf(s.nonces, s.closeRange)
	s.closeFarOf(s.ledger.ids, s.ledger.closeRange)
}

// bucketed is what lies in buckets by time.
type bucketed interface {
	label() string
	numbers() []int64 // of the buckets, ascending
	dropAfter(last int64)
}

func (s *State) closeFarOf(w bucketed, closeRange func(TimeRange)) {
	last := bucketOf(later(s.meta.v.ClockMs, MaxSkewMs))
	var r TimeRange
	for _, number := range w.numbers() {
		if number <= last {
			continue
		}
		from, to := number*NonceBucketMs, number*NonceBucketMs+NonceBucketMs-1
		if r.ToMs == 0 || from-r.ToMs > 2*MaxSkewMs {
			if r.ToMs > 0 {
				closeRange(r)
			}
			r.FromMs = from
		}
		r.ToMs = to
	}
	if r.ToMs > 0 {
		closeRange(r)
		w.dropAfter(last)
	}
}
