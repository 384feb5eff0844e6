package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dcbor"
)

// The history part of a snapshot: a title frame with the number of records of
// each stream, a frame each record by stream and sequence, and the SHA-256 of
// all that. Its size follows from the records alone, because raft announces a
// snapshot's size before it sends it.
type historyTitle struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Totals Totals
}

const historyName = "history"

// WriteHistory writes the history part of a snapshot.
func WriteHistory(out io.Writer, totals Totals, records iter.Seq2[Record, error]) error {
	w := newFrameWriter(out)
	w.value(historyTitle{Name: historyName, Totals: totals})
	for r, err := range records {
		if err != nil {
			return fmt.Errorf("fsm: snapshot history: %w", err)
		}
		if w.value(r); w.err != nil {
			return w.err
		}
	}
	return w.finish()
}

// FrameSize returns how many bytes a record takes in the history part: it is asked
// for with every record, so it is counted and not encoded.
func FrameSize(r Record) int64 {
	var room [64]byte
	head := dcbor.AppendArray(room[:0], 4, false)
	head = dcbor.AppendUnsigned(head, uint64(r.Stream))
	head = dcbor.AppendUnsigned(head, r.Seq)
	head = dcbor.AppendUnsigned(head, r.Index)
	head = dcbor.AppendHead(head, dcbor.Bytes, uint64(len(r.Data)))
	return frameSize(len(head) + len(r.Data))
}

func frameSize(n int) int64 {
	var room [binary.MaxVarintLen64]byte
	return int64(binary.PutUvarint(room[:], uint64(n)) + n)
}

// HistorySize returns how many bytes WriteHistory writes when the frames of
// the records sum up to that many.
func HistorySize(totals Totals, frames int64) int64 {
	title, err := Encode(historyTitle{Name: historyName, Totals: totals})
	if err != nil {
		panic(fmt.Sprintf("fsm: encode title: %v", err)) // as above
	}
	return frameSize(len(title)) + frames + int64(len(crypto.Hash{}))
}

// SnapshotHistory is the rest of a snapshot whose state was read.
type SnapshotHistory struct {
	r      *frameReader
	index  uint64
	totals Totals
	first  bool        // format version 1
	digest crypto.Hash // of the state, to compare with the end of version 1
}

// Totals returns how many records of each stream belong to the state.
func (h *SnapshotHistory) Totals() Totals { return h.totals }

// MustRead tells whether the state is not fully checked until the history was
// read, as in snapshots of format version 1.
func (h *SnapshotHistory) MustRead() bool { return h.first }

// Present tells whether a history part follows; without one the snapshot must
// end here.
func (h *SnapshotHistory) Present() (bool, error) {
	if h.first {
		return true, nil
	}
	more, err := h.r.more()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return more, err
}

// Records yields the records. They are whole and sound once it ended without
// an error, which is the last thing it yields.
func (h *SnapshotHistory) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := h.read(yield); err != nil && !errors.Is(err, errStopped) {
			yield(Record{}, fmt.Errorf("%w: %w", ErrSnapshot, err))
		}
	}
}

// errStopped: whoever took the records wants no more.
var errStopped = errors.New("stopped")

func (h *SnapshotHistory) read(yield func(Record, error) bool) error {
	if h.first {
		return h.readFirst(yield)
	}
	var t historyTitle
	if h.r.value(&t); h.r.err != nil {
		return h.r.err
	}
	if t.Name != historyName || !t.Totals.Cover(h.totals) || !h.totals.Cover(t.Totals) {
		return fmt.Errorf("%q with %v records where the history of %v begins", t.Name, t.Totals, h.totals)
	}
	check := historyCheck{index: h.index, last: map[Stream]Record{}}
	for _, s := range Streams() {
		for range h.totals[s] {
			row := h.r.frame(maxRecordBytes)
			if h.r.err != nil {
				return h.r.err
			}
			if err := check.next(row, yield); err != nil {
				return err
			}
		}
	}
	if err := h.r.seal(); err != nil {
		return err
	}
	if err := check.complete(h.totals); err != nil {
		return err
	}
	return h.r.end()
}

// readFirst reads the end of a snapshot of version 1: a title, the records, an
// empty frame, and the end of the whole.
func (h *SnapshotHistory) readFirst(yield func(Record, error) bool) error {
	var t fieldTitle
	if h.r.value(&t); h.r.err != nil {
		return h.r.err
	}
	if t.Name != historyName {
		return fmt.Errorf("%q where the history begins", t.Name)
	}
	check := historyCheck{index: h.index, last: map[Stream]Record{}}
	var n uint64
	for row := h.r.frame(maxRecordBytes); len(row) > 0; row = h.r.frame(maxRecordBytes) {
		if err := check.next(row, yield); err != nil {
			return err
		}
		n++
	}
	var end struct {
		_       struct{} `cbor:",toarray"`
		History uint64
		Digest  crypto.Hash
	}
	h.r.value(&end)
	if err := h.r.seal(); err != nil {
		return err
	}
	if err := check.complete(h.totals); err != nil {
		return err
	}
	if end.History != n || end.Digest != h.digest {
		return fmt.Errorf("%d records and digest %s, the snapshot says %d and %s", n, h.digest, end.History, end.Digest)
	}
	return h.r.end()
}

// historyCheck holds that records come in order, none from after the snapshot.
// A record lost here would be lost for ever, and nobody would know.
type historyCheck struct {
	index uint64
	last  map[Stream]Record
}

func (c *historyCheck) next(row []byte, yield func(Record, error) bool) error {
	var rec Record
	if err := Decode(row, &rec); err != nil {
		return fmt.Errorf("history record: %w", err)
	}
	before := c.last[rec.Stream]
	if rec.Seq != before.Seq+1 || rec.Index < before.Index || rec.Index > c.index {
		return fmt.Errorf("history stream %d: record %d of index %d after record %d of index %d",
			rec.Stream, rec.Seq, rec.Index, before.Seq, before.Index)
	}
	c.last[rec.Stream] = rec
	if !yield(rec, nil) {
		return errStopped
	}
	return nil
}

func (c *historyCheck) complete(totals Totals) error {
	have := Totals{}
	for s, r := range c.last {
		have[s] = r.Seq
	}
	if !have.Cover(totals) || !totals.Cover(have) {
		return fmt.Errorf("history of %v records, the state has %v", have, totals)
	}
	return nil
}

// SnapshotInfo describes a snapshot.
type SnapshotInfo struct {
	Version      int         `json:"version"` // of the format
	ClusterID    string      `json:"cluster_id"`
	Epoch        uint64      `json:"epoch"`
	Index        uint64      `json:"index"`
	Totals       Totals      `json:"-"`
	Digest       crypto.Hash `json:"digest"`        // of the state
	LiveBytes    int64       `json:"live_bytes"`    // size of the live part
	HistoryBytes int64       `json:"history_bytes"` // size of the history part, 0 when it has none
}

// ScanSnapshot reads a snapshot to its end and checks it whole: every frame,
// every checksum, the state's digest, the order of the history, the head of the
// blacklist. The state is built for it, so it takes as much memory.
func ScanSnapshot(in io.Reader) (SnapshotInfo, error) {
	_, info, err := scanSnapshot(in, func(Record) error { return nil })
	return info, err
}

// LoadSnapshot is ScanSnapshot that also returns the state and hands each
// record to keep. keep may have been called before a fault is found.
func LoadSnapshot(in io.Reader, keep func(Record) error) (*State, SnapshotInfo, error) {
	return scanSnapshot(in, keep)
}

func scanSnapshot(in io.Reader, keep func(Record) error) (*State, SnapshotInfo, error) {
	count := &counter{in: in}
	s, h, err := ReadSnapshot(count)
	if err != nil {
		return nil, SnapshotInfo{}, err
	}
	info := SnapshotInfo{Version: s.SnapshotVersion(), ClusterID: s.meta.v.ClusterID, Epoch: s.meta.v.Epoch, Index: s.meta.v.Index,
		Totals: h.totals, Digest: s.Digest(), LiveBytes: count.n - int64(h.r.in.Buffered())}
	if h.first {
		info.Version = 1
	}
	present, err := h.Present()
	if err != nil || !present {
		return s, info, err
	}
	var newest, paid Record // of the blacklist, and of the ledger
	for r, err := range h.Records() {
		if err == nil {
			err = keep(r)
		}
		if err != nil {
			return nil, SnapshotInfo{}, err
		}
		if r.Stream == StreamBlacklist {
			newest = r
		} else if r.Stream == StreamLedger {
			paid = r
		}
	}
	if newest.Seq > 0 { // then it is the one that the state calls its newest: the totals were held
		if err := s.isHead(newest); err != nil {
			return nil, SnapshotInfo{}, fmt.Errorf("%w: event %d of its history is not the head of its state: %w", ErrSnapshot, newest.Seq, err)
		}
	}
	if paid.Seq > 0 { // likewise
		if err := s.isLedgerHead(paid); err != nil {
			return nil, SnapshotInfo{}, fmt.Errorf("%w: record %d of its ledger is not the head of its state: %w", ErrSnapshot, paid.Seq, err)
		}
	}
	info.HistoryBytes = count.n - info.LiveBytes
	return s, info, nil
}

type counter struct {
	in io.Reader
	n  int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n += int64(n)
	return n, err
}
