package api

import "sync"

// shares counts what each holder has in flight, so that one of many cannot
// take it all. Only holders with something in flight are remembered, so what
// bounds that bounds the memory.
type shares[K comparable] struct {
	mu   sync.Mutex
	held map[K]int
}

func newShares[K comparable]() *shares[K] { return &shares[K]{held: map[K]int{}} }

// hold takes one place of a holder that may have up to most; leave gives it back.
func (s *shares[K]) hold(holder K, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[holder] >= most {
		return false
	}
	s.held[holder]++
	return true
}

func (s *shares[K]) leave(holder K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[holder]--; s.held[holder] <= 0 {
		delete(s.held, holder)
	}
}
