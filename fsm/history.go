package fsm

import (
	"bytes"
	"fmt"
	"iter"
	"sync"
)

// History keeps the records that Apply hands out. It only grows; Apply never
// reads it. Append is idempotent: a record that is there already must be equal
// to the byte, which makes every replay a check for corruption.
type History interface {
	Append(records []Record) error
	// Read returns up to limit records of a stream from seq on.
	Read(stream Stream, from uint64, limit int) ([]Record, error)
	// UpTo yields every record with Index ≤ index, by stream and sequence, as
	// the history is when it is called.
	UpTo(index uint64) iter.Seq2[Record, error]
	// Replace makes the history that of a snapshot, in one step for its readers.
	Replace(records []Record) error
}

// streams lists the streams in the order in which a snapshot carries them.
var streams = []Stream{StreamBlacklist, StreamAdmin}

// MemoryHistory is a History in memory. It is safe for concurrent use.
type MemoryHistory struct {
	mu      sync.RWMutex
	streams map[Stream][]Record
}

// NewMemoryHistory returns an empty history.
func NewMemoryHistory() *MemoryHistory { return &MemoryHistory{streams: map[Stream][]Record{}} }

// Append adds records, each the next of its stream or equal to the one there.
func (h *MemoryHistory) Append(records []Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range records {
		have := h.streams[r.Stream]
		switch n := uint64(len(have)); {
		case r.Seq == 0 || r.Seq > n+1:
			return fmt.Errorf("fsm: history stream %d: record %d after %d: a gap", r.Stream, r.Seq, n)
		case r.Seq == n+1:
			h.streams[r.Stream] = append(have, r)
		case have[r.Seq-1].Index != r.Index || !bytes.Equal(have[r.Seq-1].Data, r.Data):
			return fmt.Errorf("fsm: history stream %d: record %d differs from the one replayed: this replica's data is damaged", r.Stream, r.Seq)
		}
	}
	return nil
}

// Read returns up to limit records of a stream from seq on.
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

// UpTo yields every record with Index ≤ index. It holds no lock while it
// yields: records below a length never change.
func (h *MemoryHistory) UpTo(index uint64) iter.Seq2[Record, error] {
	h.mu.RLock()
	frozen := make([][]Record, len(streams))
	for i, s := range streams {
		frozen[i] = h.streams[s]
	}
	h.mu.RUnlock()
	return func(yield func(Record, error) bool) {
		for _, records := range frozen {
			for _, r := range records {
				if r.Index > index {
					break
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// Replace makes the history that of a snapshot.
func (h *MemoryHistory) Replace(records []Record) error {
	fresh := NewMemoryHistory()
	if err := fresh.Append(records); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams = fresh.streams
	return nil
}
