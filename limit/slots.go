package limit

import "sync"

// Slots bound work under way. A holder may have as many as remain free (dynamic
// thresholds, Choudhury and Hahne 1998): alone half of all. As their work ends, n
// greedy holders come to have 1/(n+1) each, and as much stays free for others. They
// never queue.
type Slots[K comparable] struct {
	most int

	mu   sync.Mutex
	used int
	held map[K]int // has only holders with something under way, so most bounds it
}

// NewSlots returns so many slots.
func NewSlots[K comparable](most int) *Slots[K] {
	return &Slots[K]{most: most, held: map[K]int{}}
}

// Take takes a slot, or tells that the holder has its share.
func (s *Slots[K]) Take(holder K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[holder] >= s.most-s.used {
		return false
	}
	s.held[holder]++
	s.used++
	return true
}

// Leave gives a slot back.
func (s *Slots[K]) Leave(holder K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if s.held[holder]--; s.held[holder] <= 0 {
		delete(s.held, holder)
	}
}

// Used returns how many slots are taken.
func (s *Slots[K]) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Most returns how many slots there are.
func (s *Slots[K]) Most() int {
	return s.most
}
