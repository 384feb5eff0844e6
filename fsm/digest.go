package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// Digest is an incremental multiset hash: the sum modulo 2^256 of the SHA-256
// of each element (MSet-Add-Hash, Clarke et al. 2003). Elements are added and
// removed in any order at the cost of one hash each. It finds replicas that
// differ by fault; it is no commitment against an adversary who chooses
// elements, which is the Merkle log's job.
type Digest [4]uint64

// sumElement hashes one element of the named field.
func sumElement(name string, row []byte) Digest {
	var room [192]byte // on the stack; most rows fit, larger ones grow out of it
	buf := append(room[:0], name...)
	buf = append(buf, 0)
	return digestOf(sha256.Sum256(append(buf, row...)))
}

func digestOf(out [sha256.Size]byte) Digest {
	var d Digest
	for i := range d {
		d[i] = binary.LittleEndian.Uint64(out[8*i:])
	}
	return d
}

func (d *Digest) add(e Digest) {
	var carry uint64
	for i := range d {
		d[i], carry = bits.Add64(d[i], e[i], carry)
	}
}

func (d *Digest) sub(e Digest) {
	var borrow uint64
	for i := range d {
		d[i], borrow = bits.Sub64(d[i], e[i], borrow)
	}
}

func (d Digest) bytes() []byte {
	out := make([]byte, 0, sha256.Size)
	for _, w := range d {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// String returns the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d.bytes()) }
