package store

import (
	"errors"
	"iter"

	"github.com/edgecoder/edgecoder/fsm"
)

// A walk through the history reads chunks, each in a transaction of its own: a
// long one would keep bbolt from using freed pages again, and the file would
// grow for as long as a slow follower takes a snapshot.
const (
	chunkRecords = 512
	chunkBytes   = 1 << 20
)

var errReplaced = errors.New("store: the history was replaced by another epoch's meanwhile")

// UpTo yields the records up to totals, by stream in the order of fsm.Streams
// and by sequence. They are of the history that is here when UpTo is called, so
// call it while the state that they go with is surely that history's. An error
// is the last thing it yields.
func (h *History) UpTo(t fsm.Totals) iter.Seq2[fsm.Record, error] {
	began := h.Swaps()
	return func(yield func(fsm.Record, error) bool) {
		for _, s := range fsm.Streams() {
			for next := uint64(1); next <= t[s]; {
				rows, swaps, err := h.read(s, next, int(min(chunkRecords, t[s]-next+1)), chunkBytes)
				switch {
				case err != nil:
				case swaps != began:
					err = errReplaced
				case len(rows) == 0:
					err = short(s, t[s])
				}
				if err != nil {
					yield(fsm.Record{}, err)
					return
				}
				for _, r := range rows {
					if !yield(r.Record, nil) {
						return
					}
				}
				next += uint64(len(rows))
			}
		}
	}
}
