package fsm

import "container/heap"

// ending is when a hold or a report is over. It knows its place in every heap that it
// is in, so it leaves them together with its row: which of them come next follows from
// the rows alone, on a replica that came from a snapshot too.
type ending struct {
	atMs  int64
	key   string // of its row
	place [2]int
}

// The heaps that an ending may be in, as numbers of its places.
const (
	heapOfAll = iota
	heapOfAccount
)

// endHeap has the earliest first, and in the order of keys what ends together: each
// leaves a record.
type endHeap struct {
	list []*ending
	own  int // which of their places is the one in here
}

func (h *endHeap) Len() int { return len(h.list) }
func (h *endHeap) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	return a.atMs < b.atMs || a.atMs == b.atMs && a.key < b.key
}
func (h *endHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].place[h.own], h.list[j].place[h.own] = i, j
}
func (h *endHeap) Push(v any) {
	e := v.(*ending)
	e.place[h.own] = len(h.list)
	h.list = append(h.list, e)
}
func (h *endHeap) Pop() any {
	last := len(h.list) - 1
	e := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	return e
}

func (h *endHeap) remove(e *ending) { heap.Remove(h, e.place[h.own]) }

// first returns the key of what ends first, if it ends before a time.
func (h *endHeap) first(beforeMs int64) (key string, ok bool) {
	if len(h.list) == 0 || h.list[0].atMs >= beforeMs {
		return "", false
	}
	return h.list[0].key, true
}

// endIndex is the endings of all rows of a table.
type endIndex struct {
	endHeap
	of map[string]*ending // by key
}

func newEndIndex() *endIndex { return &endIndex{of: map[string]*ending{}} }

func (x *endIndex) add(key string, atMs int64) *ending {
	e := &ending{atMs: atMs, key: key}
	x.of[key] = e
	heap.Push(&x.endHeap, e)
	return e
}

func (x *endIndex) drop(key string) *ending {
	e := x.of[key]
	delete(x.of, key)
	x.remove(e)
	return e
}
