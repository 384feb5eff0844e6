package edge

import (
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// Position is how far an edge has verified the chain, and what vouches for it. It is a value: nobody changes one.
type Position struct {
	Head     Head
	Frontier checkpoint.Frontier  // of the tree at Head
	Note     []byte               // the checkpoint at Head, final by a set that was trusted then; nil at size 0 of a new edge
	Trusted  checkpoint.SignedSet // who cosigns, as far as this edge followed
	Keys     []crypto.PublicKey   // that signed events so far, or may
}

// wirePosition is what is kept of a position, in deterministic CBOR.
type wirePosition struct {
	_        struct{} `cbor:",toarray"`
	From     uint64   // size that the changes beside it lead on from
	Epoch    uint64
	Size     uint64
	Chain    string
	Frontier []byte
	Note     []byte
	Trusted  []byte
	Keys     [][]byte
}

// maxKeys bounds the signing keys of a position: coordinators ever seen.
const maxKeys = 10_000

// maxPositionBytes bounds an encoded position: two notes and the keys.
const maxPositionBytes = 2*checkpoint.MaxNoteBytes + 40*maxKeys + 4096

func encodePosition(p Position, from uint64) ([]byte, error) {
	frontier, err := p.Frontier.MarshalBinary()
	if err != nil {
		return nil, err
	}
	w := wirePosition{From: from, Epoch: p.Head.Epoch, Size: p.Head.Size, Chain: p.Head.Chain, Frontier: frontier, Note: p.Note, Trusted: p.Trusted.Encode()}
	for _, k := range p.Keys {
		w.Keys = append(w.Keys, k[:])
	}
	return encMode.Marshal(w)
}

// decodePosition reads what encodePosition wrote and holds it against itself: a checkpoint of the set that is trusted, over the very
// root that the frontier has. A set may have moved on since it vouched, so the note is opened as it stands.
func decodePosition(data []byte) (p Position, from uint64, err error) {
	var w wirePosition
	if err := decMode.Unmarshal(data, &w); err != nil {
		return p, 0, err
	}
	if err := p.Frontier.UnmarshalBinary(w.Frontier); err != nil {
		return p, 0, err
	}
	if p.Trusted, err = checkpoint.ParseSet(w.Trusted); err != nil {
		return p, 0, err
	}
	if len(w.Keys) > maxKeys {
		return p, 0, fmt.Errorf("%d keys, at most %d", len(w.Keys), maxKeys)
	}
	for _, k := range w.Keys {
		if len(k) != crypto.PublicKeySize {
			return p, 0, fmt.Errorf("a key of %d bytes", len(k))
		}
		p.Keys = append(p.Keys, crypto.PublicKey(k))
	}
	p.Head = Head{Epoch: w.Epoch, Size: w.Size, Root: p.Frontier.Root(), Chain: w.Chain}
	p.Note = w.Note
	return p, w.From, p.check()
}

func (p *Position) check() error {
	if p.Frontier.Size() != p.Head.Size {
		return fmt.Errorf("a frontier of %d records at size %d", p.Frontier.Size(), p.Head.Size)
	}
	if (p.Head.Size == 0) != (p.Head.Chain == crypto.BlacklistGenesis) {
		return fmt.Errorf("a chain of %d events with the head %.80q", p.Head.Size, p.Head.Chain)
	}
	if len(p.Note) == 0 {
		if p.Head.Size > 0 {
			return fmt.Errorf("no checkpoint for size %d", p.Head.Size)
		}
		return nil
	}
	n, err := checkpoint.ParseNote(p.Note)
	if err != nil {
		return err
	}
	if c := n.Checkpoint; c.Size != p.Head.Size || c.Root != p.Head.Root || c.Origin.Epoch != p.Head.Epoch {
		return fmt.Errorf("the checkpoint is of size %d of epoch %d with root %s, the list of size %d of epoch %d with root %s",
			c.Size, c.Origin.Epoch, c.Root, p.Head.Size, p.Head.Epoch, p.Head.Root)
	}
	return nil
}

// bytes of one ban or change in a file: key, seq, expiry, each big-endian. A lift has the expiry -1.
const (
	rowBytes = 32
	lifted   = -1
)

func appendRow(dst []byte, c Change) []byte {
	dst = append(dst, c.Key[:]...)
	dst = binary.BigEndian.AppendUint64(dst, c.Ban.Seq)
	ms := c.Ban.ExpiresMs
	if c.Lift {
		ms = lifted
	}
	return binary.BigEndian.AppendUint64(dst, uint64(ms))
}

func parseRow(b []byte) (Change, error) {
	c := Change{Key: Key(b[:16]), Ban: Ban{Seq: binary.BigEndian.Uint64(b[16:]), ExpiresMs: int64(binary.BigEndian.Uint64(b[24:]))}}
	if c.Ban.ExpiresMs == lifted {
		c.Lift, c.Ban.ExpiresMs = true, 0
	}
	if c.Ban.Seq == 0 || c.Ban.ExpiresMs < 0 {
		return c, fmt.Errorf("a row with seq %d and expiry %d", c.Ban.Seq, c.Ban.ExpiresMs)
	}
	return c, nil
}

// encMode and decMode are the room's one way to write and read CBOR: deterministic, strict, little depth.
var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxArrayElements: maxKeys, MaxMapPairs: 16,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// NewPosition is that of an edge which knows nothing but whom to trust.
func NewPosition(trusted checkpoint.SignedSet) Position {
	return Position{Head: Head{Root: checkpoint.EmptyRoot, Chain: crypto.BlacklistGenesis}, Trusted: trusted}
}
