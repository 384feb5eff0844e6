package checkpoint

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/crypto"
)

// MaxProofHashes bounds a proof: a tree of MaxSize records is 53 levels high, a consistency proof has one more.
const MaxProofHashes = 64

// EmptyRoot is the root of the tree without records: SHA-256 of nothing (RFC 6962 section 2.1).
var EmptyRoot = crypto.Sum(nil)

// ErrProof is in the chain when a proof does not prove what it should.
var ErrProof = errors.New("proof does not hold")

// LeafHash is the hash of a record's bytes as a leaf.
func LeafHash(record []byte) crypto.Hash { return crypto.Hash(tlog.RecordHash(record)) }

// VerifyInclusion checks that the record at an index (from 0) of the tree has a leaf hash (RFC 6962 section 2.1.1).
func VerifyInclusion(c Checkpoint, index uint64, leaf crypto.Hash, hashes []crypto.Hash) error {
	if index >= c.Size || c.Size > MaxSize || len(hashes) > MaxProofHashes {
		return fmt.Errorf("%w: record %d by %d hashes in a tree of %d", ErrProof, index, len(hashes), c.Size)
	}
	if tlog.CheckRecord(treeHashes(hashes), int64(c.Size), tlog.Hash(c.Root), int64(index), tlog.Hash(leaf)) != nil {
		return fmt.Errorf("%w: the tree of %d records with root %s has another record at index %d", ErrProof, c.Size, c.Root, index)
	}
	return nil
}

// VerifyConsistency checks that the tree of newer begins with that of older (RFC 6962 section 2.1.2). Both must be of
// one origin: trees of two epochs need not agree.
func VerifyConsistency(older, newer Checkpoint, hashes []crypto.Hash) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("%w: of two logs, %s and %s", ErrProof, older.Origin, newer.Origin)
	case older.Size > newer.Size || newer.Size > MaxSize || len(hashes) > MaxProofHashes:
		return fmt.Errorf("%w: from size %d to %d by %d hashes", ErrProof, older.Size, newer.Size, len(hashes))
	case older.Size == 0:
		if len(hashes) > 0 || older.Root != EmptyRoot {
			return fmt.Errorf("%w: from an empty tree that is not", ErrProof)
		}
		return nil
	}
	if tlog.CheckTree(treeHashes(hashes), int64(newer.Size), tlog.Hash(newer.Root), int64(older.Size), tlog.Hash(older.Root)) != nil {
		return fmt.Errorf("%w: the tree of %d records with root %s does not begin with that of %d with root %s",
			ErrProof, newer.Size, newer.Root, older.Size, older.Root)
	}
	return nil
}

func treeHashes(hashes []crypto.Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(hashes))
	for i, h := range hashes {
		out[i] = tlog.Hash(h)
	}
	return out
}
