package fsm

import (
	"errors"
	"unicode/utf8"
)

// errClaim refuses bytes that are no claim in its one spelling.
var errClaim = errors.New("a claim is not in canonical form")

// UnmarshalCBOR decodes a claim by hand. Claims are nearly all that the log
// carries, and the general decoder fills byte arrays one reflected byte at a
// time, which took longer than deciding the claim. The encoding is the general
// one; a test holds the two against each other.
func (c *Claim) UnmarshalCBOR(data []byte) error {
	d := itemReader{rest: data}
	var out Claim
	d.claim(&out)
	if d.bad || len(d.rest) != 0 {
		return errClaim
	}
	*c = out
	return nil
}

func (d *itemReader) claim(c *Claim) {
	major, n := d.head()
	caller := d.unsigned()
	d.bad = d.bad || major != cborArray || n != 7 || caller > 1<<16-1
	c.Caller = uint16(caller)
	c.AgentID = d.text()
	d.array(c.Key[:])
	c.TimestampMs = d.signed()
	c.Nonce = d.text()
	d.array(c.Tag[:])
	d.array(c.ClaimID[:])
}

// Major types of RFC 8949 section 3.1.
const (
	cborUnsigned = 0
	cborNegative = 1
	cborBytes    = 2
	cborText     = 3
	cborArray    = 4
)

// itemReader reads the few kinds of items that a claim is made of; the first
// fault sticks.
type itemReader struct {
	rest []byte
	bad  bool
}

func (d *itemReader) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

// head reads a major type and its argument in the shortest form, the only one
// that deterministic encoding knows.
func (d *itemReader) head() (major byte, n uint64) {
	first := d.take(1)
	if d.bad {
		return 0, 0
	}
	major, info := first[0]>>5, first[0]&0x1f
	if info < 24 {
		return major, uint64(info)
	}
	if info > 27 {
		d.bad = true // reserved, or of indefinite length
		return 0, 0
	}
	size := uint64(1) << (info - 24)
	for _, b := range d.take(size) {
		n = n<<8 | uint64(b)
	}
	if (size == 1 && n < 24) || (size > 1 && n>>(4*size) == 0) {
		d.bad = true
	}
	return major, n
}

func (d *itemReader) unsigned() uint64 {
	major, n := d.head()
	d.bad = d.bad || major != cborUnsigned
	return n
}

func (d *itemReader) signed() int64 {
	major, n := d.head()
	d.bad = d.bad || major > cborNegative || n > 1<<63-1
	if major == cborNegative {
		return -1 - int64(n)
	}
	return int64(n)
}

func (d *itemReader) text() string {
	major, n := d.head()
	text := d.take(n)
	d.bad = d.bad || major != cborText || !utf8.Valid(text)
	return string(text)
}

// array fills dst, whose length is the only one accepted.
func (d *itemReader) array(dst []byte) {
	major, n := d.head()
	d.bad = d.bad || major != cborBytes || n != uint64(len(dst))
	copy(dst, d.take(n))
}
