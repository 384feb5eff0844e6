package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/fsm"
)

// A row of a tree has the hashes of rowLeaves records, one that is not full those that there are: from the sequence number
// of the first to CRC-32C, the leaves, and once it is full the nodes that its last record completes, from level rowLevel
// up. The nodes between are made of the leaves again when they are asked for: at most rowLeaves hashes. A row is a third of
// a page of bbolt: larger ones would be written again, whole, with each record of a quiet stream.
const (
	treeHeader = 4
	rowLevel   = 5
	rowLeaves  = 1 << rowLevel
)

// rowOf returns the first record of the row that a record, from 1, is in.
func rowOf(seq uint64) uint64 { return (seq-1)/rowLeaves*rowLeaves + 1 }

// rowNodes returns how many nodes of rowLevel and above a record completes, which is the last of its row.
func rowNodes(seq uint64) int { return 1 + bits.TrailingZeros64(seq) - rowLevel }

// rowHashes are those of a row, in the transaction that read them.
type rowHashes []byte

func (h rowHashes) at(i int) tlog.Hash { return tlog.Hash(h[i*tlog.HashSize:][:tlog.HashSize]) }

// leaves returns how many records of the row there are.
func (h rowHashes) leaves() int { return min(len(h)/tlog.HashSize, rowLeaves) }

// leaf returns the hash of a record of the row.
func (h rowHashes) leaf(s fsm.Stream, seq uint64) (tlog.Hash, error) {
	i := int((seq - 1) % rowLeaves)
	if i >= h.leaves() {
		return tlog.Hash{}, fmt.Errorf("stream %d: the hash of record %d is not there", s, seq)
	}
	return h.at(i), nil
}

// node returns the hash of a whole subtree, which the last of its records completes.
func (h rowHashes) node(s fsm.Stream, first, last uint64) (tlog.Hash, error) {
	if _, err := h.leaf(s, last); err != nil {
		return tlog.Hash{}, err
	}
	if last-first+1 >= rowLeaves { // it is that of a whole row
		return h.at(rowLeaves + bits.Len64(last-first) - rowLevel), nil
	}
	return h.top(int((first-1)%rowLeaves), int(last-first+1)), nil
}

// top returns the hash of n leaves, a power of two, from the one at from.
func (h rowHashes) top(from, n int) tlog.Hash {
	if n == 1 {
		return h.at(from)
	}
	return tlog.NodeHash(h.top(from, n/2), h.top(from+n/2, n/2))
}

// readHashes returns the row that a record is in.
func readHashes(s fsm.Stream, b *bbolt.Bucket, seq uint64) (rowHashes, error) {
	first := rowOf(seq)
	return decodeHashes(s, first, b.Get(seqKey(first)))
}

func decodeHashes(s fsm.Stream, first uint64, value []byte) (rowHashes, error) {
	last := first + rowLeaves - 1
	n := (len(value) - treeHeader) / tlog.HashSize
	switch {
	case first == 0 || first != rowOf(first) || n < 1 || len(value) != treeHeader+n*tlog.HashSize,
		n >= rowLeaves && n != rowLeaves+rowNodes(last):
		return nil, fmt.Errorf("stream %d: the hashes of records %d to %d are not there", s, first, last)
	case binary.BigEndian.Uint32(value) != treeSum(s, first, value):
		return nil, fmt.Errorf("stream %d: the hashes of records %d to %d: %w", s, first, last, errSum)
	}
	return value[treeHeader:], nil
}

// sealHashes sets the checksum of a row.
func sealHashes(s fsm.Stream, first uint64, value []byte) {
	binary.BigEndian.PutUint32(value, treeSum(s, first, value))
}

// treeSum differs from rowSum, so that a record is never taken for hashes.
func treeSum(s fsm.Stream, first uint64, b []byte) uint32 {
	var head [len(treePrefix) + 1 + 8]byte
	copy(head[:], treePrefix)
	head[len(treePrefix)] = byte(s)
	binary.BigEndian.PutUint64(head[len(treePrefix)+1:], first)
	return crc32.Update(shortSum(head[:]), castagnoli, b[treeHeader:])
}
