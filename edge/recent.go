package edge

import (
	"sync"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

const (
	// maxRecent and maxRecentBytes bound the events that are kept for other members: what somebody missed who was away for a moment. Who was
	// away for longer asks a coordinator, which has all.
	maxRecent      = 8192
	maxRecentBytes = 8 << 20
)

// recent holds what other members may have missed: the last events of the chain, and of the cosigner sets. The syncer adds, anybody reads.
type recent struct {
	mu     sync.Mutex
	epoch  uint64
	first  uint64 // seq of events[0]
	events [][]byte
	bytes  int
	sets   []checkpoint.SignedSet // that this run took up, at most maxSets
}

func newRecent(at Head) *recent { return &recent{epoch: at.Epoch, first: at.Size + 1} }

// add appends the events behind which the chain now ends at a head.
func (r *recent) add(at Head, events [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Epoch != r.epoch || r.first+uint64(len(r.events))+uint64(len(events)) != at.Size+1 {
		r.epoch, r.events, r.bytes = at.Epoch, nil, 0
		r.first = at.Size + 1 - uint64(len(events))
	}
	for _, e := range events {
		r.bytes += len(e)
	}
	r.events = append(r.events, events...)
	drop := 0
	for n := len(r.events); drop < n && (n-drop > maxRecent || r.bytes > maxRecentBytes); drop++ {
		r.bytes -= len(r.events[drop])
	}
	if drop > 0 {
		r.events = append([][]byte(nil), r.events[drop:]...)
		r.first += uint64(drop)
	}
}

// page returns up to limit events from a seq on, none if the first is not here, and their epoch.
func (r *recent) page(from uint64, limit int) (epoch uint64, events [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from < r.first || from >= r.first+uint64(len(r.events)) {
		return r.epoch, nil
	}
	rest := r.events[from-r.first:]
	return r.epoch, append([][]byte(nil), rest[:min(len(rest), limit)]...)
}

func (r *recent) addSet(set checkpoint.SignedSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sets) == maxSets {
		r.sets = append([]checkpoint.SignedSet(nil), r.sets[1:]...)
	}
	r.sets = append(r.sets, set)
}

// setsFrom returns sets from a version on, none if that version is not here: a gap could not be followed.
func (r *recent) setsFrom(version uint64) (notes [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, set := range r.sets {
		if set.Version == version+uint64(len(notes)) {
			notes = append(notes, set.Encode())
		}
	}
	return notes
}
