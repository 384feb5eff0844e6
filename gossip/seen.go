package gossip

import (
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

// seen remembers ids in two generations: what was seen lately is known, what is old is forgotten all at once, without a timer per id.
// Owned by the loop.
type seen struct {
	young, old map[crypto.Hash]struct{}
	since      time.Time
	limit      int
	keep       time.Duration
}

func newSeen(limit int, keep time.Duration, now time.Time) *seen {
	return &seen{young: map[crypto.Hash]struct{}{}, old: map[crypto.Hash]struct{}{}, since: now, limit: limit, keep: keep}
}

// add remembers the id and says whether it was new.
func (s *seen) add(id crypto.Hash, now time.Time) bool {
	if age := now.Sub(s.since); age >= 2*s.keep {
		s.young, s.old, s.since = map[crypto.Hash]struct{}{}, map[crypto.Hash]struct{}{}, now
	} else if age >= s.keep || age < 0 || len(s.young) >= s.limit {
		s.young, s.old, s.since = map[crypto.Hash]struct{}{}, s.young, now
	}
	if _, ok := s.young[id]; ok {
		return false
	}
	if _, ok := s.old[id]; ok {
		return false
	}
	s.young[id] = struct{}{}
	return true
}
