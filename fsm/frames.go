package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/edgecoder/edgecoder/crypto"
)

// A stranger's file must not make us hold more than a state that commands make.
const (
	// maxWindowBytes: a window has MaxRateRequests runs at most, most of two bytes.
	maxWindowBytes = 8 << 20
	// maxPolicyBytes: MaxOverrides overrides of the longest ids take some 200 KiB.
	maxPolicyBytes = 1 << 20
	// maxSmallRowBytes: what there may be a million of has a few ids and numbers.
	maxSmallRowBytes = 1 << 10
	// maxTokenBytes: likewise, with the nodes that it was made through and an edge.
	maxTokenBytes = 6 << 10
	// maxAgentBytes: likewise, with keys and addresses.
	maxAgentBytes = 4 << 10
	// maxTrustBytes: MaxManifestSigners signers with MaxSignerKeys keys of some 250 bytes.
	maxTrustBytes = 2 << 20
	// maxRingBytes: MaxRingKeys keys with a copy of MaxSealedBytes for each member.
	maxRingBytes = 4 << 20
	// maxRowBytes bounds all other rows, of which there are few.
	maxRowBytes = 64 << 10
	// maxRecordBytes: a record of history takes as much as its texts.
	maxRecordBytes = 1 << 20
	// maxLiveBytes bounds the live part: with every table full and every id as long
	// as may be it has 1 GiB, half of that bans.
	maxLiveBytes = 2 << 30
)

// assert that a token's row fits its frame: the key and four ids, those of MaxThrough nodes, label and version, each with a head of
// at most three bytes; two hashes and a key; numbers.
var _ [maxTokenBytes - ((5+MaxThrough)*(3+crypto.MaxIDBytes) + 2*(3+MaxLabelBytes) + 3*48 + 16*10)]byte

// frameLimit bounds the rows of a field.
func frameLimit(field string) uint64 {
	switch field {
	case "rate_windows", "self_windows":
		return maxWindowBytes
	case "policy":
		return maxPolicyBytes
	case "bans", "idempotency", "key_owners", "nonces",
		"ledger_accounts", "ledger_holds", "ledger_ids", "ledger_reports", "ledger_epochs", "ledger_weights":
		return maxSmallRowBytes
	case "tokens":
		return maxTokenBytes
	case "manifest_trust":
		return maxTrustBytes
	case "key_rings":
		return maxRingBytes
	case "agents", "removed", "signing_keys":
		return maxAgentBytes
	}
	return maxRowBytes
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
	in   *bufio.Reader
	sum  hash.Hash
	room int64 // bytes that may still be read
	err  error
}

func newFrameReader(in io.Reader) *frameReader {
	return &frameReader{in: bufio.NewReaderSize(in, 1<<16), sum: sha256.New(), room: math.MaxInt64}
}

func (r *frameReader) raw(n int) []byte {
	if r.err != nil {
		return nil
	}
	if r.room -= int64(n); r.room < 0 {
		r.err = fmt.Errorf("a state of more than %d bytes", int64(maxLiveBytes))
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

func (r *frameReader) frame(limit uint64) []byte {
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
	case n > limit:
		r.err = fmt.Errorf("a frame of %d bytes, at most %d", n, limit)
	}
	if r.err != nil {
		return nil
	}
	return r.raw(int(n))
}

func (r *frameReader) value(v any) {
	data := r.frame(maxRowBytes)
	if r.err == nil {
		r.err = Decode(data, v)
	}
}

// seal checks the hash of all that was read, and begins a new one.
func (r *frameReader) seal() error {
	want := r.sum.Sum(nil)
	if got := r.raw(len(want)); r.err == nil && string(got) != string(want) {
		r.err = errors.New("the checksum does not match: it is damaged")
	}
	r.sum.Reset()
	return r.err
}

// more tells whether bytes follow.
func (r *frameReader) more() (bool, error) {
	if r.err != nil {
		return false, r.err
	}
	_, err := r.in.Peek(1)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

// end checks that nothing follows.
func (r *frameReader) end() error {
	more, err := r.more()
	if err == nil && more {
		err = errors.New("bytes follow the end")
	}
	return err
}

type hashedBytes struct{ r *frameReader }

func (h hashedBytes) ReadByte() (byte, error) {
	b, err := h.r.in.ReadByte()
	if err == nil {
		h.r.sum.Write([]byte{b})
	}
	return b, err
}
