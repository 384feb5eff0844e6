package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"

	"github.com/edgecoder/edgecoder/crypto"
)

// A snapshot is: magic, header frame, for each field a title frame and its
// rows, a history title and its records, an end frame with the state's digest,
// and the SHA-256 of everything before it. A frame is a uvarint length and that
// many bytes. Fields come in the order of State.fields.
const (
	snapshotMagic   = "edgecoder snapshot\n"
	snapshotVersion = 1
	// maxFrameBytes bounds one row: a rate window of an hour in single
	// milliseconds is the largest, some 40 MiB of CBOR.
	maxFrameBytes = 64 << 20
)

// ErrSnapshot is wrapped by every refusal to restore a snapshot.
var ErrSnapshot = errors.New("fsm: bad snapshot")

type snapshotHeader struct {
	Version   int    `cbor:"1,keyasint"`
	ClusterID string `cbor:"2,keyasint"`
	Epoch     uint64 `cbor:"3,keyasint"`
	Index     uint64 `cbor:"4,keyasint"`
	Fields    int    `cbor:"5,keyasint"`
}

type fieldTitle struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Rows int
}

type snapshotEnd struct {
	_       struct{} `cbor:",toarray"`
	History uint64
	Digest  crypto.Hash
}

const historyTitle = "history"

// Frozen is a state as it was at one index; it may be written while the state
// it came from moves on.
type Frozen struct {
	header snapshotHeader
	titles []fieldTitle
	fields []frozen
	digest crypto.Hash
}

// Freeze returns a consistent copy of the state that shares what never changes.
func (s *State) Freeze() *Frozen {
	f := &Frozen{
		header: snapshotHeader{Version: snapshotVersion, ClusterID: s.meta.v.ClusterID, Epoch: s.meta.v.Epoch, Index: s.meta.v.Index},
		digest: s.Digest(),
	}
	for _, part := range s.fields() {
		z := part.freeze()
		f.titles = append(f.titles, fieldTitle{Name: part.label(), Rows: z.count()})
		f.fields = append(f.fields, z)
	}
	f.header.Fields = len(f.fields)
	return f
}

// Index returns the log index that the snapshot reflects.
func (f *Frozen) Index() uint64 { return f.header.Index }

// Write writes the snapshot: the state, then the history up to its index.
func (f *Frozen) Write(out io.Writer, history iter.Seq2[Record, error]) error {
	w := newFrameWriter(out)
	w.raw([]byte(snapshotMagic))
	w.value(f.header)
	for i, z := range f.fields {
		w.value(f.titles[i])
		for row, err := range z.rows() {
			if err != nil {
				return fmt.Errorf("fsm: snapshot field %s: %w", f.titles[i].Name, err)
			}
			if w.frame(row); w.err != nil {
				return w.err
			}
		}
	}
	w.value(fieldTitle{Name: historyTitle})
	var n uint64
	for r, err := range history {
		if err != nil {
			return fmt.Errorf("fsm: snapshot history: %w", err)
		}
		if w.value(r); w.err != nil {
			return w.err
		}
		n++
	}
	w.frame(nil)
	w.value(snapshotEnd{History: n, Digest: f.digest})
	return w.finish()
}

// ReadSnapshot rebuilds a state and hands each history record to keep. The
// whole input is checked before the state is returned; keep may have been
// called before a fault was found, so it must not make anything final.
func ReadSnapshot(in io.Reader, keep func(Record) error) (*State, error) {
	s, err := readSnapshot(newFrameReader(in), keep)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

func readSnapshot(r *frameReader, keep func(Record) error) (*State, error) {
	if magic := r.raw(len(snapshotMagic)); r.err == nil && string(magic) != snapshotMagic {
		return nil, errors.New("this is no EdgeCoder snapshot")
	}
	var h snapshotHeader
	r.value(&h)
	if r.err != nil {
		return nil, r.err
	}
	if h.Version != snapshotVersion {
		return nil, fmt.Errorf("version %d, this binary reads %d: upgrade it", h.Version, snapshotVersion)
	}
	s := NewState()
	if err := readFields(r, s, h.Fields); err != nil {
		return nil, err
	}
	n, err := readHistory(r, s, keep)
	if err != nil {
		return nil, err
	}
	var end snapshotEnd
	r.value(&end)
	if err := r.finish(); err != nil {
		return nil, err
	}
	if end.History != n {
		return nil, fmt.Errorf("%d history records, %d announced", n, end.History)
	}
	if s.meta.v.Index != h.Index || s.meta.v.ClusterID != h.ClusterID || s.meta.v.Epoch != h.Epoch {
		return nil, errors.New("the header does not belong to the state")
	}
	s.reindex()
	if got := s.Digest(); got != end.Digest {
		return nil, fmt.Errorf("the state's digest is %s, the snapshot says %s", got, end.Digest)
	}
	if plantRestoreNoBans {
		s.bans = newTable[Ban]("bans", MaxBans) // planted: after every check
	}
	return s, nil
}

func readFields(r *frameReader, s *State, n int) error {
	known := map[string]field{}
	for _, f := range s.fields() {
		known[f.label()] = f
	}
	for range n {
		var t fieldTitle
		if r.value(&t); r.err != nil {
			return r.err
		}
		f, ok := known[t.Name]
		if !ok {
			return fmt.Errorf("field %q twice or unknown to this binary: upgrade it", t.Name)
		}
		delete(known, t.Name)
		for range t.Rows {
			row := r.frame()
			if r.err != nil {
				return r.err
			}
			if err := f.load(row); err != nil {
				return fmt.Errorf("field %s: %w", t.Name, err)
			}
		}
		if f.size() != t.Rows {
			return fmt.Errorf("field %s: %d rows, %d announced", t.Name, f.size(), t.Rows)
		}
	}
	return nil
}

// readHistory reads the records and holds them against the state that was read
// before: each stream complete, in order, and none from after the snapshot. A
// record lost here would be lost for ever, and nobody would know.
func readHistory(r *frameReader, s *State, keep func(Record) error) (n uint64, err error) {
	var t fieldTitle
	if r.value(&t); r.err != nil {
		return 0, r.err
	}
	if t.Name != historyTitle {
		return 0, fmt.Errorf("%q where the history begins", t.Name)
	}
	last := map[Stream]Record{StreamBlacklist: {}, StreamAdmin: {}}
	for {
		row := r.frame()
		if r.err != nil {
			return n, r.err
		}
		if len(row) == 0 {
			break
		}
		var rec Record
		if err := Decode(row, &rec); err != nil {
			return n, fmt.Errorf("history record %d: %w", n+1, err)
		}
		before, known := last[rec.Stream]
		if !known || rec.Seq != before.Seq+1 || rec.Index < before.Index || rec.Index > s.meta.v.Index {
			return n, fmt.Errorf("history stream %d: record %d of index %d after record %d of index %d",
				rec.Stream, rec.Seq, rec.Index, before.Seq, before.Index)
		}
		last[rec.Stream] = rec
		if err := keep(rec); err != nil {
			return n, err
		}
		n++
	}
	if chain, admin := last[StreamBlacklist].Seq, last[StreamAdmin].Seq; chain != s.meta.v.ChainSize || admin != s.meta.v.AdminSize {
		return n, fmt.Errorf("history of %d events and %d actions, the state has %d and %d", chain, admin, s.meta.v.ChainSize, s.meta.v.AdminSize)
	}
	return n, nil
}

// frameWriter writes frames and hashes what it wrote; the first error sticks.
type frameWriter struct {
	out *bufio.Writer
	sum hash.Hash
	err error
}

func newFrameWriter(out io.Writer) *frameWriter {
	return &frameWriter{out: bufio.NewWriterSize(out, 1<<16), sum: sha256.New()}
}

func (w *frameWriter) raw(data []byte) {
	if w.err != nil {
		return
	}
	w.sum.Write(data)
	_, w.err = w.out.Write(data)
}

func (w *frameWriter) frame(data []byte) {
	w.raw(binary.AppendUvarint(nil, uint64(len(data))))
	w.raw(data)
}

func (w *frameWriter) value(v any) {
	data, err := Encode(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.frame(data)
}

func (w *frameWriter) finish() error {
	sum := w.sum.Sum(nil)
	w.raw(sum)
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}

// frameReader reads what frameWriter wrote; the first error sticks.
type frameReader struct {
	in  *bufio.Reader
	sum hash.Hash
	err error
}

func newFrameReader(in io.Reader) *frameReader {
	return &frameReader{in: bufio.NewReaderSize(in, 1<<16), sum: sha256.New()}
}

func (r *frameReader) raw(n int) []byte {
	if r.err != nil {
		return nil
	}
	// Grow as bytes arrive: a length alone must not make us allocate.
	data := make([]byte, 0, min(n, 1<<16))
	for len(data) < n && r.err == nil {
		step := min(n-len(data), max(len(data), 1<<16))
		data = append(data, make([]byte, step)...)
		_, r.err = io.ReadFull(r.in, data[len(data)-step:])
	}
	if r.err != nil {
		if errors.Is(r.err, io.EOF) {
			r.err = io.ErrUnexpectedEOF
		}
		return nil
	}
	r.sum.Write(data)
	return data
}

func (r *frameReader) frame() []byte {
	if r.err != nil {
		return nil
	}
	n, err := binary.ReadUvarint(hashedBytes{r})
	switch {
	case err != nil:
		r.err = err
		if errors.Is(err, io.EOF) {
			r.err = io.ErrUnexpectedEOF
		}
	case n > maxFrameBytes:
		r.err = fmt.Errorf("a frame of %d bytes, at most %d", n, maxFrameBytes)
	}
	if r.err != nil {
		return nil
	}
	return r.raw(int(n))
}

func (r *frameReader) value(v any) {
	data := r.frame()
	if r.err == nil {
		r.err = Decode(data, v)
	}
}

// finish checks the trailing hash and that nothing follows.
func (r *frameReader) finish() error {
	want := r.sum.Sum(nil)
	if got := r.raw(len(want)); r.err == nil && string(got) != string(want) {
		r.err = errors.New("the checksum does not match: the file is damaged")
	}
	if r.err == nil {
		if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
			r.err = errors.New("bytes follow the end")
		}
	}
	return r.err
}

type hashedBytes struct{ r *frameReader }

func (h hashedBytes) ReadByte() (byte, error) {
	b, err := h.r.in.ReadByte()
	if err == nil {
		h.r.sum.Write([]byte{b})
	}
	return b, err
}
