package audit

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Events that differ in nothing but time, request id and log index are written
// once, and then counted: a line at the end of the window tells how many more
// there were. What finds no row, or has no bytes left (bounds.go), is counted by
// type and code under its actor's name, of a proved one by action too, and then under
// that of all others of its class. The counts of all lines add up to the events, exactly.

const (
	// repeatWindow is how long repeats are counted before a line tells of them,
	// and so what a crash may forget to count.
	repeatWindow = 30 * time.Second
	// sumWindow is the same of what found no row of its own: those lines are paid
	// from no purse, so they come seldom.
	sumWindow = 30 * time.Minute
	// sweepEvery is how often rows are looked through for those that are over.
	sweepEvery = time.Second
	// kindOthers is the actor of what found no row under its own name.
	kindOthers = "others"
)

// rest tells how much of an event its row keeps.
type rest int

const (
	whole    rest = iota // all
	byAction             // actor, type, level, code and action
	byActor              // actor, type, level and code
	byClass              // type, level and code
)

type repeatKey struct {
	rest                       rest
	class                      class
	typ, level, kind, id, code string
	what                       uint64 // hash of action and details; of the action byAction, else 0 but for whole
}

func (k *repeatKey) actor() actorKey { return actorKey{k.class, k.kind, k.id} }

// repeat is what is counted under a key; n, firstMs and lastMs are of those that no
// line told yet.
type repeat struct {
	event           Event // the latest
	n               uint64
	firstMs, lastMs int64
	began           time.Time
}

type actorKey struct {
	class    class
	kind, id string
}

// spender is an actor with rows, or with a purse that is not full again.
type spender struct {
	rows    int // of whole events
	actions int // of sums by action
	purse   *rate.Limiter
}

type repeats struct {
	seed   maphash.Seed
	rows   map[repeatKey]*repeat
	count  [classes][byClass + 1]int // rows of each class and kind
	purses [classes]*rate.Limiter
	actors map[actorKey]*spender
	known  [classes]int // actors of each class
	swept  time.Time
}

func newRepeats() repeats {
	r := repeats{seed: maphash.MakeSeed(), rows: map[repeatKey]*repeat{}, actors: map[actorKey]*spender{}}
	for c := range classes {
		r.purses[c] = newPurse(bounds[c].day)
	}
	return r
}

// note counts an event and tells whether it is the first of its window, which
// is to be written as it then is.
func (r *repeats) note(e *Event, now time.Time) (first bool) {
	k := repeatKey{class: classOf(e.Actor), typ: e.Type, level: e.Level, kind: e.Actor.Kind, id: e.Actor.ID, code: e.Code, what: r.what(e)}
	if row := r.rows[k]; row != nil {
		row.again(e, now)
		return false
	}
	if r.place(&k, e, now) {
		return r.begin(k, e, now)
	}
	e.RequestID, e.Index, e.Details = "", 0, nil
	k.rest, k.what = byAction, r.what(e)
	if r.rows[k] == nil && !r.placeAction(&k) {
		e.Action = ""
		k.rest, k.what = byActor, 0
		if r.rows[k] == nil && r.count[k.class][byActor] >= bounds[k.class].sums {
			e.Actor = Actor{Kind: kindOthers, Proved: e.Actor.Proved}
			k.rest, k.kind, k.id = byClass, kindOthers, ""
		}
	}
	if row := r.rows[k]; row != nil {
		row.again(e, now)
		return false
	}
	return r.begin(k, e, now)
}

// what is a hash of what was done, in no order of the details.
func (r *repeats) what(e *Event) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(e.Action)
	sum := h.Sum64()
	for name, value := range e.Details {
		h.Reset()
		_, _ = h.WriteString(name)
		_ = h.WriteByte(0)
		_, _ = h.WriteString(value)
		sum += h.Sum64()
	}
	return sum
}

func (row *repeat) again(e *Event, now time.Time) {
	if row.n == 0 {
		row.firstMs = now.UnixMilli()
	}
	row.n++
	row.lastMs, row.event = now.UnixMilli(), *e
}

func (r *repeats) begin(k repeatKey, e *Event, now time.Time) bool {
	r.rows[k] = &repeat{event: *e, began: now}
	r.count[k.class][k.rest]++
	return true
}

// place takes a row of its own for an event, and the bytes of its two lines.
func (r *repeats) place(k *repeatKey, e *Event, now time.Time) bool {
	b := &bounds[k.class]
	s := r.actors[k.actor()]
	switch {
	case r.count[k.class][whole] >= b.rows, s == nil && r.known[k.class] >= b.actors, s != nil && s.rows >= b.ofOne:
		return false
	case s == nil:
		s = &spender{purse: newPurse(b.oneDay)}
	}
	if !e.pay(now, r.purses[k.class], s.purse) {
		return false
	}
	r.remember(k, s)
	s.rows++
	return true
}

// placeAction takes a row for what an actor does of one kind, which keeps what it
// tried from going under in what it did before. It costs no bytes.
func (r *repeats) placeAction(k *repeatKey) bool {
	b := &bounds[k.class]
	s := r.actors[k.actor()]
	switch {
	case r.count[k.class][byAction] >= b.actions, s == nil && r.known[k.class] >= b.actors, s != nil && s.actions >= b.ofOne:
		return false
	case s == nil:
		s = &spender{purse: newPurse(b.oneDay)}
	}
	r.remember(k, s)
	s.actions++
	return true
}

func (r *repeats) remember(k *repeatKey, s *spender) {
	if r.actors[k.actor()] == nil {
		r.actors[k.actor()] = s
		r.known[k.class]++
	}
}

// over tells whether a window has passed; a clock that went back ends it too.
func over(began, now time.Time, window time.Duration) bool {
	age := now.Sub(began)
	return age < 0 || age >= window
}

// due takes out the rows whose window is over, or all, and returns those that
// have something to tell, the oldest first.
func (r *repeats) due(now time.Time, all bool) []*repeat {
	if !all && !over(r.swept, now, sweepEvery) {
		return nil
	}
	r.swept = now
	var out []*repeat
	for k, row := range r.rows {
		window := sumWindow
		if k.rest == whole {
			window = repeatWindow
		}
		if !all && !over(row.began, now, window) {
			continue
		}
		delete(r.rows, k)
		r.count[k.class][k.rest]--
		switch k.rest {
		case whole:
			r.actors[k.actor()].rows--
		case byAction:
			r.actors[k.actor()].actions--
		}
		if row.n > 0 {
			out = append(out, row)
		}
	}
	r.forget(now)
	slices.SortFunc(out, func(a, b *repeat) int {
		ka, kb := &a.event, &b.event
		return cmp.Or(cmp.Compare(a.firstMs, b.firstMs), cmp.Compare(ka.Type, kb.Type), cmp.Compare(ka.Code, kb.Code),
			cmp.Compare(ka.Actor.Kind, kb.Actor.Kind), cmp.Compare(ka.Actor.ID, kb.Actor.ID), cmp.Compare(ka.Action, kb.Action))
	})
	return out
}

// forget lets go of actors without a row whose purse is as full as a new one.
func (r *repeats) forget(now time.Time) {
	for k, s := range r.actors {
		if s.rows == 0 && s.actions == 0 && (s.purse == nil || s.purse.TokensAt(now) >= float64(s.purse.Burst())) {
			delete(r.actors, k)
			r.known[k.class]--
		}
	}
}
