package fsm

import (
	"encoding/binary"
	"errors"

	"github.com/edgecoder/edgecoder/crypto"
)

// errBatch refuses bytes that are no batch in its one spelling.
var errBatch = errors.New("a batch of claims is not in canonical form")

// cborNull is the simple value null (RFC 8949 section 3.3).
const cborNull = 0xf6

// leastClaimBytes is the size of a claim whose texts are empty: a count of
// claims that the bytes cannot hold makes no room for them.
const leastClaimBytes = 1 + 1 + 1 + 34 + 1 + 1 + 17 + 17

// MarshalCBOR encodes a batch by hand, as the general encoder would if it knew
// members that are there only when needed. Text that is not UTF-8 is for the
// decoder to refuse, as everywhere.
func (b AdmitBatch) MarshalCBOR() ([]byte, error) {
	size := 16
	for _, id := range b.Callers {
		size += 9 + len(id)
	}
	for i := range b.Claims {
		size += leastClaimBytes + 12 + // time, and heads longer than a byte
			len(b.Claims[i].AgentID) + len(b.Claims[i].Nonce)
	}
	noted := b.noted()
	members := uint64(2)
	if noted {
		members, size = 3, size+12*len(b.Claims)
	}
	out := appendHead(make([]byte, 0, size), cborArray, members)
	out = appendArray(out, len(b.Callers), b.Callers == nil)
	for _, id := range b.Callers {
		out = appendText(out, id)
	}
	out = appendArray(out, len(b.Claims), b.Claims == nil)
	for i := range b.Claims {
		out = appendClaim(out, &b.Claims[i])
	}
	if noted {
		out = appendHead(out, cborArray, uint64(len(b.Claims)))
		for i := range b.Claims {
			out = appendHead(out, cborArray, 2)
			out = appendHead(out, cborUnsigned, uint64(b.Claims[i].Profile))
			out = appendSigned(out, b.Claims[i].ExpiresMs)
		}
	}
	return out, nil
}

// noted tells whether a claim says how it was signed.
func (b *AdmitBatch) noted() bool {
	for i := range b.Claims {
		if b.Claims[i].noted() {
			return true
		}
	}
	return false
}

func (c *Claim) noted() bool { return c.Profile != crypto.ProfileFiveHeader || c.ExpiresMs != 0 }

// UnmarshalCBOR reads what MarshalCBOR writes, and nothing else.
func (b *AdmitBatch) UnmarshalCBOR(data []byte) error {
	d := itemReader{rest: data}
	major, members := d.head()
	d.bad = d.bad || major != cborArray || members < 2 || members > 3
	var out AdmitBatch
	if n := d.arrayOf(1); n >= 0 {
		out.Callers = make([]string, n)
	}
	for i := range out.Callers {
		out.Callers[i] = d.text()
	}
	if n := d.arrayOf(leastClaimBytes); n >= 0 {
		out.Claims = make([]Claim, n)
	}
	for i := range out.Claims {
		d.claim(&out.Claims[i])
	}
	if members == 3 {
		d.notes(&out)
	}
	if d.bad || len(d.rest) != 0 {
		return errBatch
	}
	*b = out
	return nil
}

// notes reads the pair of profile and expiry of each claim. Without one that
// says anything the batch has another, shorter spelling.
func (d *itemReader) notes(b *AdmitBatch) {
	n := d.arrayOf(3)
	d.bad = d.bad || n != len(b.Claims)
	for i := 0; i < len(b.Claims) && !d.bad; i++ {
		major, members := d.head()
		profile := d.unsigned()
		d.bad = d.bad || major != cborArray || members != 2 || profile > 1<<8-1
		b.Claims[i].Profile = crypto.Profile(profile)
		b.Claims[i].ExpiresMs = d.signed()
	}
	d.bad = d.bad || !b.noted()
}

// arrayOf reads the head of an array whose items take at least so many bytes;
// -1 for null, which is how the general encoder spells a nil slice.
func (d *itemReader) arrayOf(least int) int {
	if !d.bad && len(d.rest) > 0 && d.rest[0] == cborNull {
		d.rest = d.rest[1:]
		return -1
	}
	major, n := d.head()
	if d.bad = d.bad || major != cborArray || n > uint64(len(d.rest)/least); d.bad {
		return -1
	}
	return int(n)
}

func appendArray(dst []byte, n int, null bool) []byte {
	if null {
		return append(dst, cborNull)
	}
	return appendHead(dst, cborArray, uint64(n))
}

func appendClaim(dst []byte, c *Claim) []byte {
	dst = appendHead(dst, cborArray, 7)
	dst = appendHead(dst, cborUnsigned, uint64(c.Caller))
	dst = appendText(dst, c.AgentID)
	dst = appendBytes(dst, c.Key[:])
	dst = appendSigned(dst, c.TimestampMs)
	dst = appendText(dst, c.Nonce)
	dst = appendBytes(dst, c.Tag[:])
	return appendBytes(dst, c.ClaimID[:])
}

// appendHead writes a major type and its argument in the shortest form (RFC
// 8949 section 4.2.1).
func appendHead(dst []byte, major byte, n uint64) []byte {
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

func appendSigned(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, cborNegative, uint64(-1-n))
	}
	return appendHead(dst, cborUnsigned, uint64(n))
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, cborText, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, cborBytes, uint64(len(b))), b...)
}
