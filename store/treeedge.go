package store

import (
	"crypto/sha256"
	"math/bits"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/fsm"
)

// treeEdge is the right edge of a tree, which is all that the next record needs: of
// each level the newest whole subtree, and the leaves of the row that the newest
// record is in. The zero value is that of an empty tree.
type treeEdge struct {
	size   uint64
	last   [64]tlog.Hash // those of the levels whose bit size has; others are older, and not asked for
	leaves [rowLeaves]tlog.Hash
}

// readEdge reads the edge of the tree of a bucket.
func readEdge(s fsm.Stream, b *bbolt.Bucket) (e treeEdge, err error) {
	size, err := treeSize(s, b)
	if err != nil {
		return e, err
	}
	e.size = size / rowLeaves * rowLeaves
	for level := rowLevel; level < len(e.last); level++ {
		if e.size>>level&1 == 0 {
			continue
		}
		end := e.size >> level << level // of the record that completes it
		hashes, err := readHashes(s, b, end)
		if err != nil {
			return e, err
		}
		e.last[level] = hashes.at(rowLeaves + level - rowLevel)
	}
	if e.size == size {
		return e, nil
	}
	hashes, err := readHashes(s, b, size)
	if err != nil {
		return e, err
	}
	for i := range hashes.leaves() {
		e.addLeaf(hashes.at(i))
	}
	return e, nil
}

// add adds the next record.
func (e *treeEdge) add(data []byte) { e.addLeaf(leafHash(data)) }

func (e *treeEdge) addLeaf(node tlog.Hash) {
	e.leaves[e.size%rowLeaves] = node
	e.size++
	level := 0
	for ; e.size>>level&1 == 0; level++ {
		left := e.last[level]
		e.last[level], node = node, tlog.NodeHash(left, node)
	}
	e.last[level] = node
}

// nodes returns those of rowLevel and above that the newest record completes.
func (e *treeEdge) nodes() []tlog.Hash {
	return e.last[rowLevel:max(rowLevel, 1+bits.TrailingZeros64(e.size))]
}

// bytes is how long the row of the newest record is.
func (e *treeEdge) bytes() int {
	return treeHeader + (int((e.size-1)%rowLeaves)+1+len(e.nodes()))*tlog.HashSize
}

// encode appends the row of the newest record to dst, which is empty.
func (e *treeEdge) encode(dst []byte, s fsm.Stream) []byte {
	dst = append(dst, make([]byte, treeHeader)...)
	for _, list := range [][]tlog.Hash{e.leaves[:(e.size-1)%rowLeaves+1], e.nodes()} {
		for i := range list {
			dst = append(dst, list[i][:]...)
		}
	}
	sealHashes(s, rowOf(e.size), dst)
	return dst
}

// leafHash is tlog.RecordHash without its allocations (RFC 6962 section 2.1).
func leafHash(data []byte) tlog.Hash {
	var room [512]byte // on the stack; longer records grow out of it
	return sha256.Sum256(append(append(room[:0], 0), data...))
}
