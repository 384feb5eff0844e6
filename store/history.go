package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/edgecoder/edgecoder/fsm"
)

const (
	// maxPending records or bytes may wait for the flusher; then Append waits,
	// because raft would hand out entries faster than the disk takes what comes of
	// them, and memory has an end.
	maxPending      = 8192
	maxPendingBytes = 8 << 20
	// maxRead records or bytes come from one Read: it copies, and its transaction
	// keeps bbolt from using freed pages again.
	maxRead      = 4096
	maxReadBytes = 8 << 20
	// retryFull is how long the flusher waits before it tries a full disk again,
	// doubled up to retryFullMax.
	retryFull    = 250 * time.Millisecond
	retryFullMax = 5 * time.Second
)

// ErrClosed is returned by a history that was closed.
var ErrClosed = errors.New("store: the history is closed")

// History is fsm.History in history.db. What is appended waits in memory until
// one goroutine, the flusher, has written it; until then the raft log is its
// durable truth. It is safe for concurrent use.
//
// Locks are taken in the order writer, file, mu.
type History struct {
	path     string
	w        *writer
	log      *slog.Logger
	onDamage func(error) // called at most once, from a goroutine of the history

	writer sync.Mutex // held by Append and Import for their whole time: one changes the history at a time

	file sync.RWMutex // guards db: held for reading in each transaction, for writing while Import swaps the file
	db   *bbolt.DB    // written by the flusher, and by Import while nothing waits

	mu      sync.Mutex // guards what follows
	changed *sync.Cond // on mu: something below changed
	disk    head       // what is durable
	epoch   uint64     // with what waits
	waiting map[fsm.Stream][]row
	count   int                   // of waiting rows
	size    int                   // of their data
	given   int64                 // appends so far, for Flush
	durable int64                 // the last of them that is on disk
	swaps   int                   // how often Import replaced the file
	kept    map[fsm.Stream]bool   // the streams whose tree is kept
	trees   map[fsm.Stream]uint64 // how many durable records each tree covers
	failed  error                 // of a write; it stays
	full    error                 // why the flusher found no space, nil once it did
	ending  bool                  // nobody waits for the disk any more
	closed  bool

	syncEvery int64 // importSync but in tests

	damage sync.Once
	stop   chan struct{}
	loops  sync.WaitGroup
}

// newHistory serves an open file whose head and trees are known, and starts the flusher.
func newHistory(path string, db *bbolt.DB, disk head, trees map[fsm.Stream]uint64, w *writer, log *slog.Logger, onDamage func(error)) *History {
	h := &History{path: path, db: db, w: w, log: log, onDamage: onDamage, disk: disk, epoch: disk.epoch,
		waiting: map[fsm.Stream][]row{}, kept: map[fsm.Stream]bool{}, trees: trees, syncEvery: importSync, stop: make(chan struct{})}
	for s := range trees {
		h.kept[s] = true
	}
	h.changed = sync.NewCond(&h.mu)
	h.loops.Go(h.flushLoop)
	return h
}

// Append implements fsm.History. It waits like Room.
func (h *History) Append(epoch uint64, records []fsm.Record) error {
	h.writer.Lock()
	defer h.writer.Unlock()
	fresh, known, err := h.sort(epoch, records)
	if err != nil {
		return err
	}
	for _, r := range known { // on disk: that does not change while we are the writer
		if err := h.compare(r); err != nil {
			return err
		}
	}
	if len(fresh) > 0 {
		h.Room() // for us: we are the writer
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(fresh) == 0 && epoch <= h.epoch {
		return h.failed
	}
	if h.failed != nil {
		return h.failed
	}
	if h.closed {
		return ErrClosed
	}
	for left := fresh; len(left) > 0; { // by runs of a stream
		s, n := left[0].Stream, 0
		for ; n < len(left) && left[n].Stream == s; n++ {
			h.size += len(left[n].Data)
		}
		h.waiting[s] = append(h.waiting[s], left[:n]...)
		h.count += n
		left = left[n:]
	}
	h.epoch = epoch
	h.given++
	h.changed.Broadcast()
	return nil
}

// Room implements fsm.History: it waits while the flusher is a full batch
// behind, and for as long as the disk is full, unless the node is ending. The
// guard takes it for a write of raft's loop, because whoever applies entries
// waits; not so on a full disk, which is no hang and has its own answer.
func (h *History) Room() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.crowded() {
		full := h.full != nil
		if full {
			h.waitWhile(full)
			continue
		}
		h.mu.Unlock() // the guard is not ours
		done := h.w.begin(WriteLoop)
		h.mu.Lock()
		h.waitWhile(full)
		h.mu.Unlock()
		done(nil) // the flusher tells what came of it
		h.mu.Lock()
	}
}

// waitWhile waits for room, or until the disk turns out to be full, or is no
// more. The caller holds mu.
func (h *History) waitWhile(full bool) {
	for h.crowded() && (h.full != nil) == full {
		h.changed.Wait()
	}
}

// crowded tells whether an Append has to wait. The caller holds mu.
func (h *History) crowded() bool {
	return (h.count >= maxPending || h.size >= maxPendingBytes) && h.failed == nil && !h.ending && !h.closed
}

// Swaps returns how often another epoch's history took the place of this one.
func (h *History) Swaps() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.swaps
}

// reach is how far a stream goes.
type reach struct {
	end     tail   // with what is new
	disk    uint64 // the newest record there
	waiting []row
}

// sort tells new records from those that are on disk, and compares those that
// wait.
func (h *History) sort(epoch uint64, records []fsm.Record) (fresh []row, known []fsm.Record, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failed != nil:
		return nil, nil, h.failed
	case h.closed:
		return nil, nil, ErrClosed
	}
	fresh = make([]row, 0, len(records)) // mostly all of them
	streams := map[fsm.Stream]*reach{}
	var at *reach
	for i, r := range records {
		if i == 0 || r.Stream != records[i-1].Stream {
			if at = streams[r.Stream]; at == nil {
				at = &reach{h.end(r.Stream), h.disk.tails[r.Stream].seq, h.waiting[r.Stream]}
				streams[r.Stream] = at
			}
		}
		switch {
		case r.Seq == 0 || r.Seq > at.end.seq+1:
			return nil, nil, fmt.Errorf("store: history stream %d: record %d after %d: a gap", r.Stream, r.Seq, at.end.seq)
		case r.Seq == at.end.seq+1:
			at.end = tail{r.Seq, at.end.sum + fsm.FrameSize(r)}
			fresh = append(fresh, row{r, at.end.sum})
		case r.Seq <= at.disk:
			known = append(known, r)
		case r.Seq-at.disk <= uint64(len(at.waiting)):
			if !same(at.waiting[r.Seq-at.disk-1].Record, r) {
				return nil, nil, differs(r)
			}
		default: // earlier in the same call
			i := slices.IndexFunc(fresh, func(f row) bool { return f.Stream == r.Stream && f.Seq == r.Seq })
			if i < 0 || !same(fresh[i].Record, r) {
				return nil, nil, differs(r)
			}
		}
	}
	if epoch < h.epoch && len(fresh) > 0 {
		return nil, nil, fmt.Errorf("store: history of epoch %d given new records of epoch %d", h.epoch, epoch)
	}
	return fresh, known, nil
}

// end returns the end of a stream with what waits. The caller holds mu.
func (h *History) end(s fsm.Stream) tail {
	if w := h.waiting[s]; len(w) > 0 {
		return tail{w[len(w)-1].Seq, w[len(w)-1].sum}
	}
	return h.disk.tails[s]
}

func same(a, b fsm.Record) bool { return a.Index == b.Index && bytes.Equal(a.Data, b.Data) }

func differs(r fsm.Record) error {
	return damagef(fileHistory, "stream %d: record %d differs from the one replayed: this replica's data is damaged", r.Stream, r.Seq)
}

// compare holds a record against the one on disk.
func (h *History) compare(r fsm.Record) error {
	h.file.RLock()
	defer h.file.RUnlock()
	rows, err := readRows(h.db, r.Stream, r.Seq, r.Seq, 0)
	if err != nil {
		return err
	}
	if !same(rows[0].Record, r) {
		return differs(r)
	}
	return nil
}

// Flush implements fsm.History. On a full disk it waits like Append.
func (h *History) Flush() error { return h.flush(true) }

// FlushNow is Flush, but a full disk is an error.
func (h *History) FlushNow() error { return h.flush(false) }

func (h *History) flush(patient bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ticket := h.given; h.durable < ticket; h.changed.Wait() {
		switch {
		case h.failed != nil:
			return h.failed
		case h.closed:
			return ErrClosed
		case (h.ending || !patient) && h.full != nil:
			return h.full
		}
	}
	return nil
}

// Totals implements fsm.History.
func (h *History) Totals() (epoch uint64, t fsm.Totals) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.disk.totals()
	for s, w := range h.waiting {
		if len(w) > 0 {
			t[s] = w[len(w)-1].Seq
		}
	}
	return h.epoch, t
}

// Read implements fsm.History. It returns at most 4096 records, and fewer once
// they take 8 MiB: who wants more asks again behind the last one.
func (h *History) Read(s fsm.Stream, from uint64, limit int) ([]fsm.Record, error) {
	rows, _, err := h.read(s, max(from, 1), limit, maxReadBytes)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	out := make([]fsm.Record, len(rows))
	for i, r := range rows {
		out[i] = r.Record
	}
	return out, nil
}

// read merges what is on disk with what waits. The file cannot be swapped
// between the look at what waits and the transaction.
func (h *History) read(s fsm.Stream, from uint64, limit, maxBytes int) (rows []row, swaps int, err error) {
	h.file.RLock()
	defer h.file.RUnlock()
	h.mu.Lock()
	on, waiting, swaps, closed := h.disk.tails[s].seq, h.waiting[s], h.swaps, h.closed
	h.mu.Unlock()
	limit = min(limit, maxRead)
	if closed {
		return nil, swaps, ErrClosed
	}
	if limit <= 0 || from > on+uint64(len(waiting)) {
		return nil, swaps, nil
	}
	if from <= on {
		to := min(on, from+uint64(limit)-1)
		rows, err = readRows(h.db, s, from, to, maxBytes)
		if err != nil || uint64(len(rows)) < to-from+1 {
			return rows, swaps, err
		}
		from, limit = to+1, limit-len(rows)
	}
	if first := from - on - 1; limit > 0 && first < uint64(len(waiting)) {
		more := waiting[first:min(uint64(len(waiting)), first+uint64(limit))]
		rows = append(rows, more...)
	}
	return rows, swaps, nil
}

// Ending tells that the node is going down: from now on nobody waits for a
// full disk. What cannot be written is still in the raft log.
func (h *History) Ending() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ending {
		h.ending = true
		close(h.stop)
	}
	h.changed.Broadcast()
}

// Close writes what waits, if the disk takes it, and closes the file.
func (h *History) Close() error {
	h.Ending()
	err := h.Flush()
	h.mu.Lock()
	was := h.closed
	h.closed = true
	h.changed.Broadcast()
	h.mu.Unlock()
	if was {
		return nil
	}
	h.loops.Wait()
	h.file.Lock()
	defer h.file.Unlock()
	return errors.Join(err, h.db.Close())
}
