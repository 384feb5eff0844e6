package ledger

import (
	"cmp"
	"slices"
)

// Windows are the epochs that were closed, as ranges of their beginnings in order.
// They are kept whatever becomes of the clock: one that was set back must not bring
// an epoch of the same name again.
type Windows []WindowRange

// WindowRange is the beginnings of epochs from one to another, both closed.
type WindowRange struct {
	_    struct{} `cbor:",toarray"`
	From int64
	To   int64
}

const (
	// MaxWindowRanges bounds the ranges. Of more the two oldest become one: if every
	// other hour is idle that is three weeks ago, and what a clock that was set back as
	// far confirms counts in the first hour behind them.
	MaxWindowRanges = 256
)

// With returns the windows and one more.
func (w Windows) With(window int64) Windows {
	all := append(slices.Clone(w), WindowRange{From: window, To: window})
	slices.SortFunc(all, func(a, b WindowRange) int { return cmp.Compare(a.From, b.From) })
	out := all[:1]
	for _, r := range all[1:] {
		if last := &out[len(out)-1]; r.From-last.To <= EpochMs {
			last.To = max(last.To, r.To)
		} else {
			out = append(out, r)
		}
	}
	if len(out) > MaxWindowRanges {
		out[1].From = out[0].From
		out = out[1:]
	}
	return out
}

func (w Windows) equal(other Windows) bool { return slices.Equal(w, other) }

// Next returns the first window from one on that was not closed.
func (w Windows) Next(window int64) int64 {
	for _, r := range w {
		if r.From <= window && window <= r.To {
			window = r.To + EpochMs
		}
	}
	return window
}

// Fault tells whether no ledger makes these windows.
func (w Windows) Fault() bool {
	if len(w) > MaxWindowRanges {
		return true
	}
	last := int64(-1)
	for _, r := range w {
		if r.From <= last || r.To < r.From || r.From%EpochMs != 0 || r.To%EpochMs != 0 || r.To > MaxMicro {
			return true
		}
		last = r.To
	}
	return false
}

// Moved returns the new names of the open epochs that lie ahead of a window, which a
// recovery brought the clock back to: else what was confirmed in them would wait for
// the world to come to their time. The oldest gets the first name that is free.
func (w Windows) Moved(open []int64, window int64) map[int64]int64 {
	slices.Sort(open)
	taken, moved := map[int64]bool{}, map[int64]int64{}
	for _, o := range open {
		if o <= window {
			taken[o] = true
			continue
		}
		name := w.Next(window)
		for taken[name] {
			name = w.Next(name + EpochMs)
		}
		taken[name], moved[o] = true, name
	}
	return moved
}
