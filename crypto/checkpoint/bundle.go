package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// MaxBundleRecordBytes bounds the record in a bundle; the largest event has 16 KiB.
	MaxBundleRecordBytes = 64 << 10
	// MaxBundleBytes bounds a bundle: the record in base64, its proof, a note.
	MaxBundleBytes = 2*MaxBundleRecordBytes + MaxProofHashes*64 + MaxNoteBytes

	bundleTitle = "c2sp.org/tlog-proof@v1"
)

// ErrBundle is in the chain of every refusal to read a bundle.
var ErrBundle = errors.New("no proof bundle")

// Bundle proves without the cluster that a record is in a log (tlog-proof). The record stands in the extra data, the
// leaf is the hash of its bytes.
type Bundle struct {
	Record []byte // exactly as history keeps it
	Index  uint64 // in the tree, from 0; the record's sequence number less one
	Hashes []crypto.Hash
	Note   []byte // the checkpoint
}

// Encode returns the bundle's text.
func (b Bundle) Encode() []byte {
	var out bytes.Buffer
	out.WriteString(bundleTitle + "\nextra " + base64.StdEncoding.EncodeToString(b.Record) + "\n")
	out.WriteString("index " + strconv.FormatUint(b.Index, 10) + "\n")
	for _, h := range b.Hashes {
		out.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	out.WriteByte('\n')
	out.Write(b.Note)
	return out.Bytes()
}

// ParseBundle reads what Encode writes, and verifies nothing.
func ParseBundle(text []byte) (Bundle, error) {
	b, err := parseBundle(text)
	if err == nil && !bytes.Equal(b.Encode(), text) {
		err = errors.New("not in its one spelling")
	}
	if err != nil {
		return Bundle{}, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return b, nil
}

func parseBundle(text []byte) (b Bundle, err error) {
	if len(text) > MaxBundleBytes {
		return b, fmt.Errorf("%d bytes, at most %d", len(text), MaxBundleBytes)
	}
	head, note, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		return b, errors.New("no empty line before a checkpoint")
	}
	lines := strings.Split(head, "\n")
	if len(lines) < 3 || lines[0] != bundleTitle || len(lines)-3 > MaxProofHashes {
		return b, fmt.Errorf("want %q, extra, index and at most %d hashes", bundleTitle, MaxProofHashes)
	}
	extra, isExtra := strings.CutPrefix(lines[1], "extra ")
	index, isIndex := strings.CutPrefix(lines[2], "index ")
	if !isExtra || !isIndex {
		return b, errors.New("want a line extra with the record, then a line index")
	}
	if b.Record, err = base64.StdEncoding.Strict().DecodeString(extra); err != nil || len(b.Record) == 0 || len(b.Record) > MaxBundleRecordBytes {
		return b, fmt.Errorf("extra: no base64 of 1 to %d bytes", MaxBundleRecordBytes)
	}
	if b.Index, err = parseSize(index); err != nil {
		return b, fmt.Errorf("index: %w", err)
	}
	for i, line := range lines[3:] {
		h, err := parseHash(line)
		if err != nil {
			return b, fmt.Errorf("line %d: %w", i+4, err)
		}
		b.Hashes = append(b.Hashes, h)
	}
	b.Note = []byte(note)
	if _, err := ParseNote(b.Note); err != nil {
		return b, err
	}
	return b, nil
}

// Verify checks the bundle with nothing but the set: a majority vouches for the checkpoint, of the log that is named,
// and the record is in its tree.
func (b Bundle) Verify(s Set, log string) (Opened, error) {
	o, err := s.OpenFinal(b.Note)
	if err != nil {
		return Opened{}, err
	}
	if o.Origin.Log != log {
		return Opened{}, fmt.Errorf("%w: of the log %s, want %s", ErrBundle, o.Origin.Log, log)
	}
	return o, VerifyInclusion(o.Checkpoint, b.Index, LeafHash(b.Record), b.Hashes)
}
