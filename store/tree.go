package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// A stream may have a Merkle tree (RFC 6962) over the data of its records, in a bucket beside it, in rows of rowLeaves
// records (treerow.go). Records and hashes are written in one transaction, so a tree covers exactly what is durable. The
// bucket is made by KeepTree, not before: a binary that does not know it takes it for damage.
const treePrefix = "tree/"

// ErrNoTree is in the chain when a tree does not reach as far as it is asked about.
var ErrNoTree = errors.New("store: the tree does not reach so far")

func treeOf(s fsm.Stream) []byte { return strconv.AppendUint([]byte(treePrefix), uint64(s), 10) }

// treeSize returns how many records the tree of a bucket covers.
func treeSize(s fsm.Stream, b *bbolt.Bucket) (uint64, error) {
	k, v := b.Cursor().Last()
	if k == nil {
		return 0, nil
	}
	if len(k) != 8 {
		return 0, fmt.Errorf("stream %d: last key %x of its tree", s, k)
	}
	first := binary.BigEndian.Uint64(k)
	hashes, err := decodeHashes(s, first, v)
	return first - 1 + uint64(hashes.leaves()), err
}

// nodeReader reads nodes by their number in tlog's order.
func nodeReader(s fsm.Stream, b *bbolt.Bucket) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			level, n := tlog.SplitStoredHashIndex(x)
			first, last := uint64(n)<<level+1, uint64(n+1)<<level // records below it
			hashes, err := readHashes(s, b, last)
			if err == nil {
				out[i], err = hashes.node(s, first, last)
			}
			if err != nil {
				return nil, err
			}
		}
		return out, nil
	})
}

// growTree adds rows of one stream to its tree, if it has one that reaches up to them. One that does not is still
// catching up, which KeepTree does.
func growTree(tx *bbolt.Tx, s fsm.Stream, rows []row) error {
	b := tx.Bucket(treeOf(s))
	if b == nil {
		return nil
	}
	b.FillPercent = historyFill
	edge, err := readEdge(s, b)
	if err != nil {
		return err
	}
	var mem slab
	put := func() error {
		first := rowOf(edge.size)
		return b.Put(binary.BigEndian.AppendUint64(mem.room(8), first), edge.encode(mem.room(edge.bytes()), s))
	}
	was := edge.size
	for i := range rows {
		r := &rows[i]
		if r.Stream != s || r.Seq <= edge.size {
			continue
		}
		if r.Seq != edge.size+1 {
			break
		}
		edge.add(r.Data)
		if edge.size%rowLeaves == 0 {
			if err := put(); err != nil {
				return err
			}
		}
	}
	if edge.size == was || edge.size%rowLeaves == 0 {
		return nil
	}
	return put()
}

// treesOf returns how far the trees of a file reach.
func treesOf(db *bbolt.DB) (sizes map[fsm.Stream]uint64, err error) {
	sizes = map[fsm.Stream]uint64{}
	err = safely(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
				if !strings.HasPrefix(string(name), treePrefix) {
					return nil
				}
				s, err := streamOf(name)
				if err == nil {
					sizes[s], err = treeSize(s, b)
				}
				return err
			})
		})
	})
	return sizes, damaged(fileHistory, err)
}

// KeepTree makes the history keep a stream's tree from now on. The records that are there already are added in batches,
// each in a transaction of its own, beside which everything else goes on; it returns when the tree has caught up. It may
// be called again at any time, and must be after Import brought another epoch's history.
func (h *History) KeepTree(ctx context.Context, s fsm.Stream) error {
	h.tell(func() { h.kept[s] = true })
	for told := false; ; {
		size, end, err := h.treeStep(s)
		if err != nil || size >= end {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !told {
			told = true
			h.log.Info("the tree of a stream catches up with its records", slog.Int("stream", int(s)), slog.Uint64("size", size), slog.Uint64("records", end))
		}
	}
}

// treeStep adds a batch of records, and tells how far the tree reaches then and how far the durable records.
func (h *History) treeStep(s fsm.Stream) (size, end uint64, err error) {
	h.file.RLock()
	defer h.file.RUnlock()
	h.mu.Lock()
	end, failed, closed := h.disk.tails[s].seq, h.failed, h.closed
	size, have := h.trees[s]
	h.mu.Unlock()
	switch {
	case failed != nil:
		return 0, 0, failed
	case closed:
		return 0, 0, ErrClosed
	case have && size >= end:
		return size, end, nil
	}
	var rows []row
	if size < end {
		if rows, err = readRows(h.db, s, size+1, min(end, size+importRecords), importBytes); err != nil {
			return 0, 0, err
		}
	}
	err = h.w.must(WriteHistory, func() error {
		return h.db.Update(func(tx *bbolt.Tx) error {
			if _, err := tx.CreateBucketIfNotExists(treeOf(s)); err != nil {
				return err
			}
			return growTree(tx, s, rows)
		})
	})
	if err == nil {
		err = h.learnTrees()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trees[s], h.disk.tails[s].seq, err
}

// learnTrees looks how far the trees reach, and wakes who waits for that. The caller holds file.
func (h *History) learnTrees() error {
	sizes, err := treesOf(h.db)
	if err == nil {
		h.tell(func() { h.trees = sizes })
	}
	return err
}

// keptTrees lists the streams whose trees are kept.
func (h *History) keptTrees() []fsm.Stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.kept))
}

// createTrees begins empty trees in a new file.
func createTrees(db *bbolt.DB, streams []fsm.Stream) error {
	if len(streams) == 0 {
		return nil
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for _, s := range streams {
			if _, err := tx.CreateBucketIfNotExists(treeOf(s)); err != nil {
				return err
			}
		}
		return nil
	})
}

// TreeSize returns how many records of a stream its tree covers: those that are durable, unless it is catching up.
func (h *History) TreeSize(s fsm.Stream) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trees[s]
}

// WaitTree waits until a stream's tree covers that many records.
func (h *History) WaitTree(ctx context.Context, s fsm.Stream, size uint64) error {
	defer context.AfterFunc(ctx, func() { h.tell(func() {}) })()
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.trees[s] < size {
		switch {
		case h.failed != nil:
			return h.failed
		case h.closed:
			return ErrClosed
		case ctx.Err() != nil:
			return fmt.Errorf("%w: stream %d: %d records are asked for, %d are hashed: %w", ErrNoTree, s, size, h.trees[s], ctx.Err())
		}
		h.changed.Wait()
	}
	return nil
}

// TreeRoot returns the root of the tree of a stream's first records.
func (h *History) TreeRoot(s fsm.Stream, size uint64) (root crypto.Hash, err error) {
	err = h.tree(s, size, func(nodes tlog.HashReader) error {
		top, err := tlog.TreeHash(int64(size), nodes)
		root = crypto.Hash(top)
		return err
	})
	return root, err
}

// ProveInclusion returns the hashes that prove the record at an index, from 0, of the tree of a size (RFC 6962 section
// 2.1.1).
func (h *History) ProveInclusion(s fsm.Stream, index, size uint64) (hashes []crypto.Hash, err error) {
	if index >= size {
		return nil, fmt.Errorf("%w: index %d of %d records", ErrNoTree, index, size)
	}
	err = h.tree(s, size, func(nodes tlog.HashReader) error {
		p, err := tlog.ProveRecord(int64(size), int64(index), nodes)
		hashes = ours(p)
		return err
	})
	return hashes, err
}

// ProveConsistency returns the hashes that prove that the tree of a size begins with that of a smaller one (RFC 6962
// section 2.1.2). From 0 there is nothing to prove.
func (h *History) ProveConsistency(s fsm.Stream, from, to uint64) (hashes []crypto.Hash, err error) {
	if from > to {
		return nil, fmt.Errorf("%w: from %d back to %d records", ErrNoTree, from, to)
	}
	err = h.tree(s, to, func(nodes tlog.HashReader) error {
		if from == 0 {
			return nil
		}
		p, err := tlog.ProveTree(int64(to), int64(from), nodes)
		hashes = ours(p)
		return err
	})
	return hashes, err
}

// tree calls use with the nodes of a stream's tree, which covers at least size records.
func (h *History) tree(s fsm.Stream, size uint64, use func(tlog.HashReader) error) error {
	h.file.RLock()
	defer h.file.RUnlock()
	h.mu.Lock()
	have, closed := h.trees[s], h.closed
	h.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if size > have {
		return fmt.Errorf("%w: stream %d: %d records are asked for, %d are hashed", ErrNoTree, s, size, have)
	}
	if size == 0 {
		return use(nil) // nothing is read of an empty tree
	}
	return damaged(fileHistory, safely(func() error {
		return h.db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(treeOf(s))
			if b == nil {
				return fmt.Errorf("stream %d: its tree is not there", s)
			}
			return use(nodeReader(s, b))
		})
	}))
}

func ours(list []tlog.Hash) []crypto.Hash {
	out := make([]crypto.Hash, len(list))
	for i, h := range list {
		out[i] = crypto.Hash(h)
	}
	return out
}
