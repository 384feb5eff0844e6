package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/crypto"
)

// ErrFrontier is in the chain of every refusal to read a frontier.
var ErrFrontier = errors.New("no frontier of a tree")

// Frontier is the right edge of a tree: the roots of the largest whole subtrees that its records fill, from left to
// right, one for each bit of its size. It is all that appending and the root need, so who verifies a log in order
// holds at most 53 hashes. The zero value is the empty tree. A copy shares nothing that Append changes.
type Frontier struct {
	size  uint64
	nodes []crypto.Hash
}

// Size returns how many records the tree has.
func (f *Frontier) Size() uint64 { return f.size }

// Append adds the leaf hash of the next record.
func (f *Frontier) Append(leaf crypto.Hash) {
	merged := bits.TrailingZeros64(^f.size) // so many subtrees on the right are as large as what is added, each in turn
	keep := len(f.nodes) - merged
	for i := len(f.nodes) - 1; i >= keep; i-- {
		leaf = nodeHash(f.nodes[i], leaf)
	}
	f.nodes = append(slices.Clip(f.nodes[:keep]), leaf)
	f.size++
}

// Root returns the tree's root.
func (f *Frontier) Root() crypto.Hash {
	if f.size == 0 {
		return EmptyRoot
	}
	root := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		root = nodeHash(f.nodes[i], root)
	}
	return root
}

// Checkpoint returns the tree's head under an origin.
func (f *Frontier) Checkpoint(o Origin) Checkpoint {
	return Checkpoint{Origin: o, Size: f.size, Root: f.Root()}
}

// MarshalBinary returns the size, eight bytes big-endian, and the hashes.
func (f *Frontier) MarshalBinary() ([]byte, error) {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(f.nodes)*crypto.HashSize), f.size)
	for _, h := range f.nodes {
		out = append(out, h[:]...)
	}
	return out, nil
}

// UnmarshalBinary reads what MarshalBinary writes and leaves f alone on error. The hashes are as true as whoever kept
// them: compare the root with a checkpoint.
func (f *Frontier) UnmarshalBinary(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("%w: %d bytes", ErrFrontier, len(b))
	}
	size := binary.BigEndian.Uint64(b)
	if n := bits.OnesCount64(size); size > MaxSize || len(b) != 8+n*crypto.HashSize {
		return fmt.Errorf("%w: %d bytes for a size of %d", ErrFrontier, len(b), size)
	}
	nodes := make([]crypto.Hash, 0, bits.OnesCount64(size))
	for b = b[8:]; len(b) > 0; b = b[crypto.HashSize:] {
		nodes = append(nodes, crypto.Hash(b[:crypto.HashSize]))
	}
	f.size, f.nodes = size, nodes
	return nil
}

func nodeHash(left, right crypto.Hash) crypto.Hash {
	return crypto.Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right)))
}
