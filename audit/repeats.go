package audit

import (
	"slices"
	"time"
)

// Events that repeat (same type, actor and code) are written once, and then
// counted: a line at the end of the window tells how many more there were. The
// counts of all lines add up to the events, exactly.

const (
	// repeatWindow is how long repeats are counted before a line tells of them,
	// and so what a crash may forget to count.
	repeatWindow = 30 * time.Second
	// maxRepeats bounds the actors that are told apart in a window. What comes
	// beyond is counted by type and code alone, as actor kind "others". So a
	// flood of made-up names writes at most 2 x 512 lines in 30 s, about 1 MB a
	// minute.
	maxRepeats = 512
	// kindOthers is the actor of what found no row of its own.
	kindOthers = "others"
)

type repeatKey struct {
	typ, kind, id, code string
}

// repeat is what is counted under a key; n, firstMs and lastMs are of those that no
// line told yet.
type repeat struct {
	event           Event // the latest
	n               uint64
	firstMs, lastMs int64
	began           time.Time
}

type repeats struct {
	rows   map[repeatKey]*repeat
	actors int // rows that are of one actor
}

func newRepeats() repeats { return repeats{rows: map[repeatKey]*repeat{}} }

// note counts an event and tells whether it is the first of its window, which
// is to be written as it is.
func (r *repeats) note(e *Event, now time.Time) (first bool) {
	k := repeatKey{e.Type, e.Actor.Kind, e.Actor.ID, e.Code}
	row := r.rows[k]
	if row == nil && r.actors >= maxRepeats && k.kind != kindOthers {
		e.Actor = Actor{Kind: kindOthers}
		e.RequestID, e.Details = "", nil
		k.kind, k.id = kindOthers, ""
		row = r.rows[k]
	}
	if row == nil {
		r.rows[k] = &repeat{event: *e, began: now}
		if k.kind != kindOthers {
			r.actors++
		}
		return true
	}
	if row.n == 0 {
		row.firstMs = now.UnixMilli()
	}
	row.n++
	row.lastMs, row.event = now.UnixMilli(), *e
	return false
}

// due takes out the rows whose window is over, or all, and returns those that
// have something to tell, the oldest first.
func (r *repeats) due(now time.Time, all bool) []*repeat {
	var out []*repeat
	for k, row := range r.rows {
		if age := now.Sub(row.began); !all && age >= 0 && age < repeatWindow {
			continue
		}
		delete(r.rows, k)
		if k.kind != kindOthers {
			r.actors--
		}
		if row.n > 0 {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b *repeat) int {
		if a.firstMs != b.firstMs {
			return int(a.firstMs - b.firstMs)
		}
		ka, kb := a.event, b.event
		return slices.Compare([]string{ka.Type, ka.Code, ka.Actor.Kind, ka.Actor.ID}, []string{kb.Type, kb.Code, kb.Actor.Kind, kb.Actor.ID})
	})
	return out
}
