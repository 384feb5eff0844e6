package store

import "github.com/edgecoder/edgecoder/fsm"

// Size returns how many records a stream has, with what waits for the disk, and
// their bytes as a snapshot would carry them.
func (h *History) Size(s fsm.Stream) (records uint64, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.end(s)
	return end.seq, end.sum
}
