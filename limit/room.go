package limit

import (
	"container/list"
	"sync"
)

// Room bounds what waits for bytes of a peer. It turns nobody away at the door:
// when it is full, the holder that has most loses what waited longest. Who sends at
// once is gone before that comes to be the oldest, so slow peers cost only
// themselves, at the same address too.
type Room[K comparable] struct {
	most int

	mu      sync.Mutex
	used    int
	entered uint64
	evicted uint64
	by      map[K]*waiters // has only holders with something in the room
}

// waiters are the places of one holder, the oldest first.
type waiters struct {
	size   int
	places list.List
}

// Place is one that waits. Its fields are guarded by the room's mutex.
type Place[K comparable] struct {
	room   *Room[K]
	holder K
	size   int
	number uint64        // in the order of coming
	at     *list.Element // nil once it left or was evicted
	evict  func()
}

// NewRoom returns a room for places of so much size in all.
func NewRoom[K comparable](most int) *Room[K] {
	return &Room[K]{most: most, by: map[K]*waiters{}}
}

// Enter takes a place. evict ends the waiting when the room needs the place for
// others: it is called with the room locked, so it neither blocks nor leaves, and
// it may be called before Enter returns.
func (r *Room[K]) Enter(holder K, size int, evict func()) *Place[K] {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.by[holder]
	if w == nil {
		w = &waiters{}
		r.by[holder] = w
	}
	r.entered++
	p := &Place[K]{room: r, holder: holder, size: size, number: r.entered, evict: evict}
	p.at = w.places.PushBack(p)
	w.size += size
	r.used += size
	r.makeRoom()
	return p
}

// makeRoom sends away what is too much.
func (r *Room[K]) makeRoom() {
	for r.used > r.most {
		oldest := r.next()
		r.remove(oldest)
		r.evicted++
		oldest.evict()
	}
}

// next returns who has to go: of the holder with most, the oldest.
func (r *Room[K]) next() *Place[K] {
	var next *Place[K]
	most := 0
	for _, w := range r.by {
		oldest := w.places.Front().Value.(*Place[K])
		if w.size > most || w.size == most && oldest.number < next.number {
			next, most = oldest, w.size
		}
	}
	return next
}

func (r *Room[K]) remove(p *Place[K]) {
	w := r.by[p.holder]
	w.places.Remove(p.at)
	p.at = nil
	r.used -= p.size
	if w.size -= p.size; w.places.Len() == 0 {
		delete(r.by, p.holder)
	}
}

// Grow has a place weigh more, which may be what sends it away.
func (p *Place[K]) Grow(by int) {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.at == nil {
		return
	}
	p.size += by
	r.by[p.holder].size += by
	r.used += by
	r.makeRoom()
}

// Leave gives the place back. It tells whether it was still there: false means
// that evict was called. Leaving twice is leaving once.
func (p *Place[K]) Leave() (stayed bool) {
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	if p.at == nil {
		return false
	}
	p.room.remove(p)
	return true
}

// Used returns the size of all that wait.
func (r *Room[K]) Used() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}

// Most returns the size that the room has.
func (r *Room[K]) Most() int { return r.most }

// Evicted returns how many were sent away so far.
func (r *Room[K]) Evicted() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evicted
}
