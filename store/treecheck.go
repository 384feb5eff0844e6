package store

import (
	"fmt"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/fsm"
)

// treeCheck holds a tree against the records, in order: each leaf is its record's, each node is made of those below it.
// A record or a hash that was changed, checksum and all, is found and named.
type treeCheck struct {
	stream fsm.Stream
	edge   treeEdge
}

// next checks a record against the row of the tree that it should be in.
func (c *treeCheck) next(r fsm.Record, kept rowHashes) error {
	if r.Seq != c.edge.size+1 {
		return fmt.Errorf("stream %d: record %d after %d", c.stream, r.Seq, c.edge.size)
	}
	c.edge.add(r.Data)
	if err := sameLeaf(r, kept, c.edge.leaves[(r.Seq-1)%rowLeaves]); err != nil {
		return err
	}
	if r.Seq%rowLeaves != 0 {
		return nil
	}
	for i, h := range c.edge.nodes() {
		if kept.at(rowLeaves+i) != h {
			return fmt.Errorf("stream %d: record %d is not the one that its tree has (level %d)", c.stream, r.Seq, rowLevel+i)
		}
	}
	return nil
}

func sameLeaf(r fsm.Record, kept rowHashes, want tlog.Hash) error {
	leaf, err := kept.leaf(r.Stream, r.Seq)
	if err == nil && leaf != want {
		err = fmt.Errorf("stream %d: record %d is not the one that its tree has", r.Stream, r.Seq)
	}
	return err
}

// rows checks the next rows against what the file has of them.
func (c *treeCheck) rows(db *bbolt.DB, rows []row) error {
	return withHashes(db, c.stream, rows, c.next)
}

// withHashes calls check with each record and the row of the tree that it is in.
func withHashes(db *bbolt.DB, s fsm.Stream, rows []row, check func(fsm.Record, rowHashes) error) error {
	return safely(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(treeOf(s))
			if b == nil {
				return fmt.Errorf("stream %d: its tree is not there", s)
			}
			var kept rowHashes
			for i, r := range rows {
				var err error
				if i == 0 || r.Seq == rowOf(r.Seq) {
					kept, err = readHashes(s, b, r.Seq)
				}
				if err == nil {
					err = check(r.Record, kept)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// checkTrees holds all trees of a file against the records.
func checkTrees(db *bbolt.DB, h head) error {
	sizes, err := treesOf(db)
	if err != nil {
		return err
	}
	for s, size := range sizes {
		if end := h.tails[s].seq; size > end {
			return fmt.Errorf("stream %d: a tree of %d records, there are %d", s, size, end)
		}
		c := treeCheck{stream: s}
		for c.edge.size < size {
			rows, err := readRows(db, s, c.edge.size+1, min(size, c.edge.size+chunkRecords), chunkBytes)
			if err == nil {
				err = c.rows(db, rows)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// checkTreeTails looks at the leaves of the newest records, and that no tree reaches beyond them.
func checkTreeTails(db *bbolt.DB, h head) error {
	sizes, err := treesOf(db)
	if err != nil {
		return err
	}
	for s, size := range sizes {
		if end := h.tails[s].seq; size > end {
			return fmt.Errorf("stream %d: a tree of %d records, there are %d", s, size, end)
		}
		for next := size - min(size, checkTail) + 1; next <= size; {
			rows, err := readRows(db, s, next, min(size, next+chunkRecords-1), chunkBytes)
			if err == nil {
				err = withHashes(db, s, rows, func(r fsm.Record, kept rowHashes) error { return sameLeaf(r, kept, leafHash(r.Data)) })
			}
			if err != nil {
				return err
			}
			next += uint64(len(rows))
		}
	}
	return nil
}

// checkTree checks rows of the file that is open, as far as their tree reached when it was opened.
func (h *History) checkTree(c *treeCheck, rows []row, size uint64) error {
	h.file.RLock()
	defer h.file.RUnlock()
	h.mu.Lock()
	swapped := h.swaps != 0
	h.mu.Unlock()
	n := 0
	for n < len(rows) && rows[n].Seq <= size {
		n++
	}
	if n == 0 || swapped {
		return nil
	}
	return damaged(fileHistory, c.rows(h.db, rows[:n]))
}
