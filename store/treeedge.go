package store

import (
	"crypto/sha256"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/fsm"
)

// treeEdge is the right edge of a tree, which is all that the next record needs: of
// each level the newest whole subtree. The zero value is that of an empty tree.
type treeEdge struct {
	size uint64
	last [64]tlog.Hash // those of the levels whose bit size has; others are older, and not asked for
	made []tlog.Hash   // room of add
}

// readEdge reads the edge of the tree of a bucket.
func readEdge(s fsm.Stream, b *bbolt.Bucket) (e treeEdge, err error) {
	e.size = treeSize(b)
	for level := range e.last {
		if e.size>>level&1 == 0 {
			continue
		}
		seq := e.size >> level << level // of the record that completes it
		nodes, err := decodeNodes(s, seq, b.Get(seqKey(seq)))
		if err != nil {
			return e, err
		}
		e.last[level] = nodes[level]
	}
	return e, nil
}

// add returns the hashes that the next record completes, its leaf first. They are good
// until the next call.
func (e *treeEdge) add(data []byte) []tlog.Hash {
	e.size++
	e.made = append(e.made[:0], leafHash(data))
	for level := range completed(e.size) - 1 {
		e.made = append(e.made, tlog.NodeHash(e.last[level], e.made[level]))
	}
	copy(e.last[:], e.made)
	return e.made
}

// leafHash is tlog.RecordHash without its allocations (RFC 6962 section 2.1).
func leafHash(data []byte) tlog.Hash {
	var room [512]byte // on the stack; longer records grow out of it
	return sha256.Sum256(append(append(room[:0], 0), data...))
}
