package node

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Who leads next. Every hand-over asks here, so that all of them want the same: a
// leader that leaves over its clock must not choose a full disk, whose leader would
// choose the wrong clock again, for ever. A judged leader moves only to a fitter
// node, and one target is not tried again soon, for the two may see it differently.

// fitness orders voters by how well they could lead. A clock weighs more than room:
// who must not stamp serves nobody, who is full still reads and ticks.
type fitness int

const (
	hasRoom  fitness = 1
	hasClock fitness = 2 // a majority of voters supports it
)

const (
	// cameBack is for how long a target rests that leadership was handed to: it
	// costs a moment without a leader, like slowPause.
	cameBack = 30 * time.Second
	// failedLately is for how long one rests that did not take it: others have
	// their turn before it.
	failedLately = 5 * time.Second
)

// successor is a voter that could lead.
type successor struct {
	id     string
	fit    fitness
	rest   bool // it was tried lately
	failed bool // and did not take it: who must leave tries others first
	health
}

// candidates returns the other voters that work and stay, the best first. It does
// not touch the state, which a dying leader's Apply may hold.
func (n *Node) candidates(order func(a, b health) int) []successor {
	ids := voters(n.servers())
	offsets := n.offsets(ids)
	var all []successor
	for _, id := range ids {
		h, ok := n.health.get(id)
		if id == n.id.NodeID || !ok || h.leaving || !n.works(id) {
			continue
		}
		rest, failed := n.resting.is(id)
		all = append(all, successor{id, fitnessOf(id, h.full, len(ids), offsets), rest, failed, h})
	}
	slices.SortFunc(all, func(a, b successor) int {
		return cmp.Or(compareBool(a.failed, b.failed), cmp.Compare(b.fit, a.fit), compareBool(a.rest, b.rest), order(a.health, b.health), cmp.Compare(a.id, b.id))
	})
	return all
}

// successors are the candidates that are members and hold the cluster's state.
func (n *Node) successors(order func(a, b health) int) []successor {
	return slices.DeleteFunc(n.candidates(order), func(s successor) bool { return n.isRemoved(s.id) || n.isDiverged(s.id) })
}

// fitter returns the best successor that has what this leader lacks, is fitter all
// in all, and was not tried lately; "" if there is none, and then it stays.
func (n *Node) fitter(lacks fitness) string {
	own := n.fitness()
	return foremost(n.successors(mostApplied), func(s successor) bool { return s.fit&lacks != 0 && s.fit > own && !s.rest })
}

// asFit returns the best successor that would not hand leadership straight back;
// "" if there is none.
func (n *Node) asFit() string {
	own := n.fitness()
	return foremost(n.successors(mostApplied), func(s successor) bool { return s.fit >= own })
}

// anyFit returns the best successor there is, for a leader that cannot stay.
func (n *Node) anyFit() string {
	return foremost(n.successors(mostApplied), func(successor) bool { return true })
}

// foremost returns the first successor that may lead, "" if none may.
func foremost(all []successor, may func(successor) bool) string {
	if i := slices.IndexFunc(all, may); i >= 0 {
		return all[i].id
	}
	return ""
}

// fitness is this node's own.
func (n *Node) fitness() fitness {
	ids := voters(n.servers())
	return fitnessOf(n.id.NodeID, n.disk.space.Room().Low, len(ids), n.offsets(ids))
}

func fitnessOf(id string, full bool, voters int, offsets map[string]int64) (f fitness) {
	if o, known := offsets[id]; known && supporters(offsets, o) > voters/2 {
		f += hasClock
	}
	if !full {
		f += hasRoom
	}
	return f
}

// mostApplied and quickest order voters, the best first.
func mostApplied(a, b health) int { return cmp.Compare(b.applied, a.applied) }

func quickest(a, b health) int {
	return cmp.Or(compareBool(a.write == 0, b.write == 0), cmp.Compare(a.write, b.write))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// resting are the voters that leadership was handed to lately; no more than there
// were voters in cameBack.
type resting struct {
	mu    sync.Mutex
	until map[string]rest
}

type rest struct {
	until  time.Time // monotonic
	failed bool      // it did not take the leadership
}

func (r *resting) set(id string, d time.Duration, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	next := map[string]rest{id: {now.Add(d), failed}}
	for other, rest := range r.until {
		if other != id && now.Before(rest.until) {
			next[other] = rest
		}
	}
	r.until = next
}

// is tells whether a voter rests, and whether because it failed.
func (r *resting) is(id string) (rests, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := r.until[id]
	rests = time.Now().Before(rest.until)
	return rests, rests && rest.failed
}
