package audit

import (
	"encoding/json"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// class is how far an actor is to be believed. Events take rows and bytes from
// those of their own class alone: what an outsider sends never takes the place
// of what a member did, nor a made-up name that of an address.
type class int

const (
	ofNode    class = iota // this node itself
	ofProved               // by a credential or a signature
	ofAddress              // where a connection came from: a name that costs something
	ofClaim                // any other name that nobody proved: it costs nothing
	classes
)

// kindAddress is the kind of an actor of whom nothing but the address is known.
const kindAddress = "address"

func classOf(a Actor) class {
	switch {
	case a.Proved && a.Kind == kindNode:
		return ofNode
	case a.Proved:
		return ofProved
	case a.Kind == kindAddress:
		return ofAddress
	}
	return ofClaim
}

// bound is what one class may have of the log.
type bound struct {
	rows  int // events told apart in a window
	ofOne int // of them of one actor, and as many of its actions
	// actions are rows of what found none, by actor, type, code and action. Outsiders
	// have none: each of them could take as many as there are routes.
	actions int
	sums    int // rows of what found none of those either, by actor, type and code
	actors  int // that are remembered with what they spent
	day     int // bytes of lines a day; 0: no bound
	oneDay  int // of one actor
}

// The bounds keep a log of 256 MiB for two weeks whatever outsiders do: their two
// classes together write at most 16 MiB a day, sums included. What goes beyond
// is counted, exactly. Two proved actors do not crowd each other out either,
// unless there are hundreds of them.
var bounds = [classes]bound{
	// What a node says of itself has the house's own few types and codes.
	ofNode:    {rows: 512, ofOne: 512, sums: math.MaxInt, actors: 1},
	ofProved:  {rows: 4096, ofOne: 64, actions: 512, sums: 512, actors: 8192, day: 64 << 20, oneDay: 1 << 20},
	ofAddress: {rows: 512, ofOne: 16, sums: 64, actors: 8192, day: 4 << 20, oneDay: 256 << 10},
	ofClaim:   {rows: 512, ofOne: 8, actors: 512, day: 4 << 20},
}

// burstShare is the part of a day's bytes that may come at once. A restart gives
// it again: what was spent before is not kept.
const burstShare = 8

// leastPurse is what a purse must hold for anybody to ask what a line costs: in a
// flood that is asked a few times a minute, not for each event.
const leastPurse = 4 << 10

// newPurse holds what may still be spent of a day's bytes; nil for no bound.
func newPurse(day int) *rate.Limiter {
	if day == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(float64(day)/(24*time.Hour).Seconds()), day/burstShare)
}

// holds tells whether a purse has so many bytes left; one without a bound has.
func holds(p *rate.Limiter, now time.Time, bytes int) bool {
	return p == nil || p.TokensAt(now) >= float64(bytes)
}

// pay takes the bytes of an event's two lines from both purses, or from neither.
func (e *Event) pay(now time.Time, class, own *rate.Limiter) bool {
	if !holds(class, now, leastPurse) || !holds(own, now, leastPurse) {
		return false
	}
	bytes := 2 * e.lineBytes()
	if !holds(class, now, bytes) || !holds(own, now, bytes) {
		return false
	}
	for _, p := range []*rate.Limiter{class, own} {
		if p != nil {
			p.AllowN(now, bytes)
		}
	}
	return true
}

// frameBytes is what a line has beside its event: seq, prev, times, node, count,
// hash and the names of the members.
const frameBytes = 480

// lineBytes is what a line of the event takes at most.
func (e *Event) lineBytes() int {
	text, err := json.Marshal(e)
	if err != nil {
		return maxLine // texts and numbers always encode
	}
	return len(text) + frameBytes
}
