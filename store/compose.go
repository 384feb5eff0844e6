package store

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// Open implements raft.SnapshotStore. A snapshot taken here ends after its live
// part; it gets the history behind it while it is read, and the size that raft
// announces counts that. One that was installed has its history already.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	fail := func(err error) (*raft.SnapshotMeta, io.ReadCloser, error) {
		return nil, nil, fmt.Errorf("%s/%s: %w", dirSnapshots, id, err)
	}
	if _, err := s.readMeta(id); err != nil {
		return fail(err)
	}
	info, err := s.info(id)
	if err != nil {
		return fail(err)
	}
	meta, live, err := s.files.Open(id) // holds it against its checksum again
	if err != nil {
		return fail(err)
	}
	if info.HistoryBytes > 0 {
		return meta, live, nil
	}
	records := s.history.UpTo(info.Totals) // before sizeFor, which holds that the history of now is its own
	size, err := s.history.sizeFor(info)
	if err != nil {
		return fail(errors.Join(err, live.Close()))
	}
	whole := *meta
	whole.Size = info.LiveBytes + size
	return &whole, &composed{live: live, records: records, totals: info.Totals, left: whole.Size}, nil
}

// sizeFor returns the size of the history part that belongs to a snapshot.
func (h *History) sizeFor(info fsm.SnapshotInfo) (int64, error) {
	h.mu.Lock()
	base := h.disk.base
	h.mu.Unlock()
	epoch, have := h.Totals()
	if info.Epoch < base || !have.Cover(info.Totals) {
		return 0, fmt.Errorf("it needs %v records of epoch %d, the history has %v of epochs %d to %d", info.Totals, info.Epoch, have, base, epoch)
	}
	frames, err := h.Bytes(info.Totals)
	if err != nil {
		return 0, err
	}
	return fsm.HistorySize(info.Totals, frames), nil
}

// composed reads a live part and then the history part, which is made while it
// is read. It belongs to one goroutine.
type composed struct {
	live    io.ReadCloser
	records iter.Seq2[fsm.Record, error]
	totals  fsm.Totals
	left    int64 // bytes to come
	part    *io.PipeReader
	maker   sync.WaitGroup
}

// Read implements io.Reader.
func (c *composed) Read(b []byte) (int, error) {
	if c.part == nil {
		n, err := c.live.Read(b)
		c.left -= int64(n)
		if n > 0 || !errors.Is(err, io.EOF) {
			if errors.Is(err, io.EOF) {
				err = nil // the history follows
			}
			return n, err
		}
		c.begin()
	}
	n, err := c.part.Read(b)
	c.left -= int64(n)
	if err == io.EOF && c.left != 0 || c.left < 0 {
		return n, fmt.Errorf("store: the history part of the snapshot is %d bytes off the size that was announced", c.left)
	}
	return n, err
}

// begin starts to make the history part. The goroutine ends when it is done or
// the reader is closed.
func (c *composed) begin() {
	part, to := io.Pipe()
	c.part = part
	c.maker.Go(func() {
		to.CloseWithError(fsm.WriteHistory(to, c.totals, c.records))
	})
}

// Close implements io.Closer.
func (c *composed) Close() error {
	if c.part != nil {
		_ = c.part.Close() // cannot fail
		c.maker.Wait()
	}
	return c.live.Close()
}
