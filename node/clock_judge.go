package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// clockVerdict is what a leader's wall clock was judged to be.
type clockVerdict struct {
	refusal *client.Error // why this leader must not stamp; nil: a majority of voters agrees with it
}

// refuses returns the reason for one caller, who may add to it; nil: it may stamp.
func (v *clockVerdict) refuses() *client.Error {
	if v.refusal == nil {
		return nil
	}
	own := *v.refusal
	return &own
}

// judgeClock decides whether this leader may stamp, and hands over when it may
// not but another voter could.
func (n *Node) judgeClock(ctx context.Context, l *leadership) {
	ids := voters(n.servers())
	drift := n.drift()
	offsets := n.offsets(ids)
	var v clockVerdict
	to := ""
	if supporters(offsets, 0) <= len(ids)/2 {
		if to = n.fitter(hasClock); to != "" {
			v.refusal = errClockMoves()
		} else {
			v.refusal = errClock(n.skews(ids, offsets))
		}
	}
	if was := l.clock.Swap(&v); was != nil && was.refusal == nil && v.refusal != nil {
		n.log.Warn("wall clock agrees with no majority of voters: not stamping", "measured", n.skews(ids, offsets))
	}
	l.drift.Store(int64(drift)) // last: until then a jump counts against the old judgement
	if to != "" {
		n.log.Warn("handing leadership to a voter whose clock agrees with a majority", "to", to, "measured", n.skews(ids, offsets))
		n.handOver(ctx, to)
	}
}

// clocksWithout refuses to take a voter's clock away if those left, which agree
// with a majority now, would not: nobody could stamp, nor record the removal.
func (n *Node) clocksWithout(id string) error {
	ids := voters(n.servers())
	left := slices.DeleteFunc(slices.Clone(ids), func(v string) bool { return v == id })
	if !n.anyTrue(ids) || n.anyTrue(left) {
		return nil
	}
	return &client.Error{Code: client.CodeConflict, Field: "id", Detail: "without it no voter's clock would agree with a majority of them: set the clocks of the others first; measured against the median: " + n.skews(left, n.offsets(left))}
}

// anyTrue tells whether a majority of voters supports the clock of one of them.
func (n *Node) anyTrue(ids []string) bool {
	offsets := n.offsets(ids)
	for _, o := range offsets {
		if supporters(offsets, o) > len(ids)/2 {
			return true
		}
	}
	return false
}

// clockRefuses returns why this leader must not stamp now: its wall clock was not
// judged good, or has jumped since. nil: it may.
func (n *Node) clockRefuses(l *leadership) *client.Error {
	v := l.clock.Load()
	if v == nil {
		return errClockMoves()
	}
	if e := v.refuses(); e != nil {
		return e
	}
	if moved := n.drift() - time.Duration(l.drift.Load()); moved >= maxDrift || moved <= -maxDrift {
		return errClockMoves()
	}
	return nil
}

// errClockMoves is for the moment until the clock is judged, or leadership has
// moved to a node with a true one: worth asking again at once.
func errClockMoves() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonNotLeader, RetryAfter: time.Second,
		Detail: "the leader's wall clock is not known to be true: it is being judged, or leadership moves"}
}

// errClock is for when no voter's clock is supported by a majority.
func errClock(measured string) *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonClock, RetryAfter: time.Second,
		Detail: "no coordinator's wall clock agrees with a majority of them: check the clocks (time synchronisation); measured against the median: " + measured}
}

// maxSkewsTold bounds the clocks that a message names; those furthest off come first.
const maxSkewsTold = 7

// skews tells how far the voters' wall clocks are off their median.
func (n *Node) skews(ids []string, offsets map[string]int64) string {
	median := medianOffset(offsets)
	off := func(id string) int64 {
		if o, known := offsets[id]; known {
			return max(o-median, median-o)
		}
		return -1
	}
	ids = slices.SortedFunc(slices.Values(ids), func(a, b string) int { return cmp.Or(cmp.Compare(off(b), off(a)), cmp.Compare(a, b)) })
	var told []string
	for _, id := range ids[:min(len(ids), maxSkewsTold)] {
		if o, known := offsets[id]; known {
			told = append(told, fmt.Sprintf("%s %+d ms", n.nameOf(id), o-median))
		} else {
			told = append(told, n.nameOf(id)+" not heard lately")
		}
	}
	return strings.Join(told, ", ")
}

// supporters counts the offsets close enough to one to support its stamps.
func supporters(offsets map[string]int64, of int64) int {
	count := 0
	for _, o := range offsets {
		if d := o - of; d >= -fsm.MaxClockSpreadMs && d <= fsm.MaxClockSpreadMs {
			count++
		}
	}
	return count
}

// medianOffset returns the median of the voters' clocks relative to ours.
func medianOffset(offsets map[string]int64) int64 {
	if len(offsets) == 0 {
		return 0
	}
	all := slices.Sorted(maps.Values(offsets))
	return all[len(all)/2]
}
