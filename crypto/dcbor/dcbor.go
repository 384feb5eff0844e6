// Package dcbor writes and reads by hand the few kinds of items that the logs and
// records of this project are made of, in the deterministic form of CBOR (RFC 8949
// section 4.2.1): shortest heads, definite lengths. What is written millions of
// times must not pass through reflection; the bytes are those that a general
// encoder makes, and a reader refuses every other spelling.
package dcbor

import (
	"encoding/binary"
	"unicode/utf8"
)

// Major types of RFC 8949 section 3.1.
const (
	Unsigned = 0
	Negative = 1
	Bytes    = 2
	Text     = 3
	Array    = 4
	Map      = 5
)

// Null is the simple value null (RFC 8949 section 3.3).
const Null = 0xf6

// AppendHead writes a major type and its argument in the shortest form.
func AppendHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

// AppendUnsigned writes an unsigned integer.
func AppendUnsigned(dst []byte, n uint64) []byte { return AppendHead(dst, Unsigned, n) }

// AppendSigned writes an integer of either sign.
func AppendSigned(dst []byte, n int64) []byte {
	if n < 0 {
		return AppendHead(dst, Negative, uint64(-1-n))
	}
	return AppendHead(dst, Unsigned, uint64(n))
}

// AppendText writes a text, which the caller knows to be UTF-8: a reader refuses
// any other.
func AppendText(dst []byte, s string) []byte {
	return append(AppendHead(dst, Text, uint64(len(s))), s...)
}

// AppendBytes writes a byte string.
func AppendBytes(dst, b []byte) []byte {
	return append(AppendHead(dst, Bytes, uint64(len(b))), b...)
}

// AppendArray writes the head of an array; as null, which is how the general
// encoder spells a nil slice, if null is set.
func AppendArray(dst []byte, n int, null bool) []byte {
	if null {
		return append(dst, Null)
	}
	return AppendHead(dst, Array, uint64(n))
}

// Reader reads items front to back; the first fault sticks.
type Reader struct {
	rest []byte
	bad  bool
}

// NewReader reads data, which it neither changes nor copies.
func NewReader(data []byte) Reader { return Reader{rest: data} }

// Bad tells whether anything read so far was out of form.
func (r *Reader) Bad() bool { return r.bad }

// Want makes the reader bad unless what was read is as it should be.
func (r *Reader) Want(ok bool) { r.bad = r.bad || !ok }

// List reads the head of an array of exactly so many items.
func (r *Reader) List(items int) {
	major, n := r.Head()
	r.bad = r.bad || major != Array || n != uint64(items)
}

// Done tells whether all was read and nothing was out of form.
func (r *Reader) Done() bool { return !r.bad && len(r.rest) == 0 }

// Left is how many bytes are to be read yet.
func (r *Reader) Left() int { return len(r.rest) }

// take returns the next n bytes, as part of the data.
func (r *Reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

// Head reads a major type and its argument in the shortest form, the only one
// that deterministic encoding knows.
func (r *Reader) Head() (major byte, n uint64) {
	if r.bad || len(r.rest) == 0 {
		r.bad = true
		return 0, 0
	}
	major, info := r.rest[0]>>5, r.rest[0]&0x1f
	if info < 24 {
		r.rest = r.rest[1:]
		return major, uint64(info)
	}
	return major, r.argument(info)
}

// argument reads the head whose argument follows in bytes of its own.
func (r *Reader) argument(info byte) (n uint64) {
	size := 1 << (info & 3) // 24 to 27 are 1, 2, 4 and 8 bytes
	if info > 27 || len(r.rest) < 1+size {
		r.bad = true // reserved, of indefinite length, or cut off
		return 0
	}
	least := uint64(24)
	switch b := r.rest[1:]; size {
	case 1:
		n = uint64(b[0])
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(b)), 1<<8
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(b)), 1<<16
	case 8:
		n, least = binary.BigEndian.Uint64(b), 1<<32
	}
	r.rest = r.rest[1+size:]
	r.bad = n < least
	return n
}

// Unsigned reads an unsigned integer.
func (r *Reader) Unsigned() uint64 {
	major, n := r.Head()
	r.bad = r.bad || major != Unsigned
	return n
}

// UnsignedTo reads an unsigned integer of at most so much; it is 0 when the reader is bad.
func (r *Reader) UnsignedTo(most uint64) uint64 {
	n := r.Unsigned()
	if r.bad = r.bad || n > most; r.bad {
		return 0
	}
	return n
}

// Signed reads an integer of either sign that an int64 holds.
func (r *Reader) Signed() int64 {
	major, n := r.Head()
	r.bad = r.bad || major > Negative || n > 1<<63-1
	if major == Negative {
		return -1 - int64(n)
	}
	return int64(n)
}

// Text reads a text, which must be UTF-8.
func (r *Reader) Text() string {
	major, n := r.Head()
	text := r.take(n)
	r.bad = r.bad || major != Text || !utf8.Valid(text)
	return string(text)
}

// Fill reads a byte string into dst, whose length is the only one accepted.
func (r *Reader) Fill(dst []byte) {
	major, n := r.Head()
	r.bad = r.bad || major != Bytes || n != uint64(len(dst))
	copy(dst, r.take(n))
}

// Count reads the head of an array whose items take at least so many bytes: a
// count that the bytes cannot hold makes nobody make room for it.
func (r *Reader) Count(least int) int {
	major, n := r.Head()
	if r.bad = r.bad || major != Array || n > uint64(len(r.rest)/least); r.bad {
		return 0
	}
	return int(n)
}

// ArrayOf is Count for what AppendArray may have written as null, of which it is -1.
func (r *Reader) ArrayOf(least int) int {
	if !r.bad && len(r.rest) > 0 && r.rest[0] == Null {
		r.rest = r.rest[1:]
		return -1
	}
	if n := r.Count(least); !r.bad {
		return n
	}
	return -1
}
