package fsm

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"sync"
)

// History keeps the records that Apply hands out. It only grows; Apply never
// reads it.
type History interface {
	// Append takes the records of one applied entry: readable at once, durable
	// after Flush. A record that is there already must be equal to the byte,
	// which makes every replay a check for corruption; a gap is an error. A
	// higher recovery epoch raises the history's own; of a lower one, which a
	// replay has, no record may be new.
	Append(epoch uint64, records []Record) error
	// Room returns once an Append would not wait for the disk, or would fail. It
	// is called before each entry is applied, under no lock that a reader needs.
	Room()
	// Flush returns once all that was appended before is durable.
	Flush() error
	// Totals returns the epoch and how many records each stream has.
	Totals() (epoch uint64, totals Totals)
	// Base returns the epoch in which this history was begun: a state of an
	// earlier one had another.
	Base() uint64
	// Read returns up to limit records of a stream from seq on.
	Read(stream Stream, from uint64, limit int) ([]Record, error)
	// Import makes the history that of a snapshot. In the same epoch records
	// that are there must be equal and missing ones are added; another epoch
	// replaces everything. It calls take (nil: none) once, when nothing is left to
	// do but place, which is quick: take holds readers off, who must not see one
	// history beside the state of another.
	Import(epoch uint64, totals Totals, records iter.Seq2[Record, error], take func(place func() error) error) error
}

// Totals is how many records each stream has; a stream without any is absent.
type Totals map[Stream]uint64

// Cover tells whether each stream has at least as many records.
func (t Totals) Cover(other Totals) bool {
	for s, n := range other {
		if t[s] < n {
			return false
		}
	}
	return true
}

// Streams lists the streams in the order in which a snapshot carries them.
func Streams() []Stream { return []Stream{StreamBlacklist, StreamAdmin, StreamLedger} }

// MemoryHistory is a History in memory, for tests and simulations. It is safe
// for concurrent use.
type MemoryHistory struct {
	mu      sync.RWMutex
	epoch   uint64
	base    uint64
	streams map[Stream][]Record
}

// NewMemoryHistory returns an empty history.
func NewMemoryHistory() *MemoryHistory { return &MemoryHistory{streams: map[Stream][]Record{}} }

// Append implements History.
func (h *MemoryHistory) Append(epoch uint64, records []Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		if epoch < h.epoch && r.Seq > uint64(len(h.streams[r.Stream])) {
			return fmt.Errorf("fsm: history of epoch %d given new records of epoch %d", h.epoch, epoch)
		}
		if err := h.add(r); err != nil {
			return err
		}
	}
	h.epoch = max(h.epoch, epoch)
	return nil
}

func (h *MemoryHistory) add(r Record) error {
	have := h.streams[r.Stream]
	switch n := uint64(len(have)); {
	case r.Seq == 0 || r.Seq > n+1:
		return fmt.Errorf("fsm: history stream %d: record %d after %d: a gap", r.Stream, r.Seq, n)
	case r.Seq == n+1:
		h.streams[r.Stream] = append(have, r)
	case have[r.Seq-1].Index != r.Index || !bytes.Equal(have[r.Seq-1].Data, r.Data):
		return fmt.Errorf("fsm: history stream %d: record %d differs from the one replayed: this replica's data is damaged", r.Stream, r.Seq)
	}
	return nil
}

// Room implements History: memory is always there.
func (h *MemoryHistory) Room() {}

// Flush implements History: memory has nothing more durable to offer.
func (h *MemoryHistory) Flush() error { return nil }

// Totals implements History.
func (h *MemoryHistory) Totals() (uint64, Totals) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t := Totals{}
	for s, records := range h.streams {
		t[s] = uint64(len(records))
	}
	return h.epoch, t
}

// Base implements History.
func (h *MemoryHistory) Base() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.base
}

// Read implements History.
func (h *MemoryHistory) Read(stream Stream, from uint64, limit int) ([]Record, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := h.streams[stream]
	from = max(from, 1)
	if from > uint64(len(all)) || limit <= 0 {
		return nil, nil
	}
	end := min(uint64(len(all)), from-1+uint64(limit))
	return all[from-1 : end : end], nil // clipped: an append by the caller must not write into the history
}

// UpTo yields the records up to totals, by stream and sequence. It holds no
// lock while it yields: records below a length never change.
func (h *MemoryHistory) UpTo(totals Totals) iter.Seq2[Record, error] {
	h.mu.RLock()
	frozen := maps.Clone(h.streams)
	h.mu.RUnlock()
	return func(yield func(Record, error) bool) {
		for _, s := range Streams() {
			if n := uint64(len(frozen[s])); n < totals[s] {
				yield(Record{}, fmt.Errorf("fsm: history stream %d has %d records, %d are wanted", s, n, totals[s]))
				return
			}
			for _, r := range frozen[s][:totals[s]] {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// Import implements History, in one step for its readers.
func (h *MemoryHistory) Import(epoch uint64, totals Totals, records iter.Seq2[Record, error], take func(place func() error) error) error {
	fresh := NewMemoryHistory()
	fresh.epoch, fresh.base = epoch, epoch
	if have, _ := h.Totals(); have == epoch {
		h.mu.RLock()
		fresh.streams, fresh.base = maps.Clone(h.streams), h.base
		h.mu.RUnlock()
	}
	for r, err := range records {
		if err == nil {
			err = fresh.add(r)
		}
		if err != nil {
			return err
		}
	}
	if _, have := fresh.Totals(); !have.Cover(totals) {
		return fmt.Errorf("fsm: %v records imported, %v were announced", have, totals)
	}
	place := func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.epoch, h.base, h.streams = fresh.epoch, fresh.base, fresh.streams
		return nil
	}
	if take == nil {
		return place()
	}
	return take(place)
}
