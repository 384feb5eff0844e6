package fsm

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/crypto"
)

// A snapshot has a live part: magic, header frame, for each field a title frame
// and its rows, an end frame with the state's digest, and the SHA-256 of all
// that. One that travels has a history part behind it (snapshot_history.go). A
// frame is a uvarint length and that many bytes. Fields come in the order of
// State.fields.
//
// Version 1 had the history between the fields and the end, and one SHA-256
// over everything; it is still read. Version 3 is version 2 of a state at
// LevelUpgrades or above: binaries from before would take the state and know
// nothing of levels, this number they refuse.
const (
	snapshotMagic   = "edgecoder snapshot\n"
	snapshotPlain   = 2
	snapshotLevels  = 3
	snapshotVersion = snapshotLevels // the newest that is read
)

// SnapshotVersion returns the version of the format that the state is written in.
func (s *State) SnapshotVersion() int {
	if s.meta.v.Level >= LevelUpgrades {
		return snapshotLevels
	}
	return snapshotPlain
}

// ErrSnapshot is wrapped by every refusal to restore a snapshot.
var ErrSnapshot = errors.New("fsm: bad snapshot")

type snapshotHeader struct {
	Version   int    `cbor:"1,keyasint"`
	ClusterID string `cbor:"2,keyasint"`
	Epoch     uint64 `cbor:"3,keyasint"`
	Index     uint64 `cbor:"4,keyasint"`
	Fields    int    `cbor:"5,keyasint"`
	Totals    Totals `cbor:"6,keyasint,omitempty"` // records of each stream that belong to the state
}

type fieldTitle struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Rows int
}

type liveEnd struct {
	_      struct{} `cbor:",toarray"`
	Digest crypto.Hash
}

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
		header: snapshotHeader{Version: s.SnapshotVersion(), ClusterID: s.meta.v.ClusterID, Epoch: s.meta.v.Epoch, Index: s.meta.v.Index,
			Totals: s.Totals()},
		digest: s.Digest(),
	}
	for _, part := range s.fields() {
		if part.size() == 0 && newerFields[part.label()] {
			continue
		}
		z := part.freeze()
		f.titles = append(f.titles, fieldTitle{Name: part.label(), Rows: z.count()})
		f.fields = append(f.fields, z)
	}
	f.header.Fields = len(f.fields)
	return f
}

// Totals returns how many records of each stream belong to the state.
func (s *State) Totals() Totals {
	t := Totals{}
	for stream, n := range map[Stream]uint64{StreamBlacklist: s.meta.v.ChainSize, StreamAdmin: s.meta.v.AdminSize,
		StreamLedger: s.ledger.book.v.Size} {
		if n > 0 {
			t[stream] = n
		}
	}
	return t
}

// Index returns the log index that the snapshot reflects.
func (f *Frozen) Index() uint64 { return f.header.Index }

// ClusterID returns the cluster that the state is of.
func (f *Frozen) ClusterID() string { return f.header.ClusterID }

// Epoch returns the recovery epoch of the state.
func (f *Frozen) Epoch() uint64 { return f.header.Epoch }

// Totals returns how many records of each stream belong to it.
func (f *Frozen) Totals() Totals { return f.header.Totals }

// Write writes the live part.
func (f *Frozen) Write(out io.Writer) error {
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
	w.value(liveEnd{Digest: f.digest})
	return w.finish()
}

// ReadSnapshot rebuilds the state of a snapshot. The history that came along
// has not been read yet: see SnapshotHistory.
func ReadSnapshot(in io.Reader) (*State, *SnapshotHistory, error) {
	r := newFrameReader(in)
	s, h, err := readLive(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, h, nil
}

func readLive(r *frameReader) (*State, *SnapshotHistory, error) {
	r.room = maxLiveBytes
	defer func() { r.room = math.MaxInt64 }() // history is read record by record
	h, err := readHeader(r)
	if err != nil {
		return nil, nil, err
	}
	s := NewState()
	if err := readFields(r, s, h.Fields); err != nil {
		return nil, nil, err
	}
	if s.meta.v.Index != h.Index || s.meta.v.ClusterID != h.ClusterID || s.meta.v.Epoch != h.Epoch {
		return nil, nil, errors.New("the header does not belong to the state")
	}
	s.reindex()
	history := &SnapshotHistory{r: r, index: h.Index, totals: s.Totals(), first: h.Version == 1}
	if h.Version > 1 {
		if err := readLiveEnd(r, s, h); err != nil {
			return nil, nil, err
		}
	} else {
		history.digest = s.Digest() // the one to compare comes after the history
	}
	if plantRestoreNoBans {
		s.bans = newTable[Ban]("bans", MaxBans) // planted: after every check
	}
	return s, history, nil
}

func readHeader(r *frameReader) (h snapshotHeader, err error) {
	if magic := r.raw(len(snapshotMagic)); r.err == nil && string(magic) != snapshotMagic {
		return h, errors.New("this is no EdgeCoder snapshot")
	}
	row := r.frame(maxRowBytes)
	if r.err != nil {
		return h, r.err
	}
	var any struct { // of a later version only this is known
		Version int `cbor:"1,keyasint"`
	}
	if cbor.Unmarshal(row, &any) == nil && any.Version > snapshotVersion {
		return h, fmt.Errorf("version %d, this binary reads up to %d: %w", any.Version, snapshotVersion, ErrLevel)
	}
	if err := Decode(row, &h); err != nil {
		return h, err
	}
	if h.Version < 1 {
		return h, fmt.Errorf("version %d: the first is 1", h.Version)
	}
	return h, nil
}

func readLiveEnd(r *frameReader, s *State, h snapshotHeader) error {
	var end liveEnd
	r.value(&end)
	if err := r.seal(); err != nil {
		return err
	}
	if have := s.Totals(); !have.Cover(h.Totals) || !h.Totals.Cover(have) {
		return fmt.Errorf("a state with %v history records, the header says %v", have, h.Totals)
	}
	if got := s.Digest(); got != end.Digest {
		return fmt.Errorf("the state's digest is %s, the snapshot says %s", got, end.Digest)
	}
	return nil
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
			row := r.frame(frameLimit(t.Name))
			if r.err != nil {
				return fmt.Errorf("field %s: %w", t.Name, r.err)
			}
			if t.Name == s.meta.name {
				if err := checkMetaLevel(row); err != nil {
					return err
				}
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
