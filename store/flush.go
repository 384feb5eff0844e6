package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// batch is what the flusher writes in one transaction.
type batch struct {
	rows  []row
	head  head // that it leads to
	given int64
	size  int
}

// flushLoop is the flusher: it writes all that waits in one transaction, and
// what came in meanwhile in the next. There is no timer: under load batches
// grow by themselves.
func (h *History) flushLoop() {
	wait := retryFull
	for {
		b, ok := h.take()
		if !ok {
			return
		}
		err := h.commit(b)
		switch {
		case err == nil:
			wait = retryFull
		case noSpace(err): // what waits is bounded, and the log has it: try until there is space
			h.tell(func() { h.full = err })
			h.log.Error("history cannot be written", "err", err, "again_in", wait)
			select {
			case <-time.After(wait):
			case <-h.stop: // one last try was just made
				return
			}
			wait = min(2*wait, retryFullMax)
		default: // what the disk holds now is unknown
			err = fmt.Errorf("%s: %w", fileHistory, err)
			h.tell(func() { h.failed = err })
			h.report(err)
			return
		}
	}
}

// take waits for work. It returns false when the history closed.
func (h *History) take() (batch, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.given == h.durable && !h.closed {
		h.changed.Wait()
	}
	if h.closed {
		return batch{}, false
	}
	b := batch{head: h.disk.clone(), given: h.given, size: h.size, rows: make([]row, 0, h.count)}
	b.head.epoch = h.epoch
	for s, w := range h.waiting {
		if len(w) > 0 {
			b.rows = append(b.rows, w...)
			b.head.tails[s] = tail{w[len(w)-1].Seq, w[len(w)-1].sum}
		}
	}
	return b, true
}

// commit writes a batch and takes it from what waits.
func (h *History) commit(b batch) error {
	h.file.RLock()
	defer h.file.RUnlock()
	h.w.at("history/commit")
	err := h.w.must(WriteHistory, func() error { return writeRows(h.db, b.rows, b.head) })
	if err != nil {
		return err
	}
	h.w.at("history/committed")
	trees, err := treesOf(h.db)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, w := range h.waiting {
		n := b.head.tails[s].seq - h.disk.tails[s].seq
		if h.waiting[s] = slices.Clone(w[n:]); len(w) == int(n) { // not a slice of it: that would keep the batch in memory
			delete(h.waiting, s)
		}
	}
	h.disk, h.trees, h.durable, h.full = b.head, trees, b.given, nil
	h.count -= len(b.rows)
	h.size -= b.size
	h.changed.Broadcast()
	return nil
}

// tell changes something under mu and wakes who waits for it.
func (h *History) tell(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	h.changed.Broadcast()
}

// report hands the first damage to the node.
func (h *History) report(err error) {
	h.damage.Do(func() {
		h.log.Error("history is not what it should be", "err", err)
		if h.onDamage != nil {
			h.onDamage(err)
		}
	})
}

// Bytes returns how many bytes the frames of the records up to totals take in
// the history part of a snapshot.
func (h *History) Bytes(t fsm.Totals) (int64, error) {
	var sum int64
	for s, n := range t {
		if n == 0 {
			continue
		}
		rows, _, err := h.read(s, n, 1, maxReadBytes)
		if err != nil {
			return 0, err
		}
		if len(rows) == 0 {
			return 0, short(s, n)
		}
		sum += rows[0].sum
	}
	return sum, nil
}

func short(s fsm.Stream, n uint64) error {
	return fmt.Errorf("store: history stream %d does not reach record %d", s, n)
}

// Base implements fsm.History.
func (h *History) Base() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.disk.base
}
