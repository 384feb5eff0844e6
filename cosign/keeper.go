package cosign

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// Log is this node's own copy of a log: durable records and the tree over them.
type Log interface {
	TreeSize() uint64
	TreeRoot(size uint64) (crypto.Hash, error)
	Read(from uint64, limit int) ([]fsm.Record, error)
}

// Check holds a record to what no honest cluster breaks. before is the one before it, nil for the first.
type Check func(before *fsm.Record, r fsm.Record) error

// checkRecords is how many records are read and checked under one lock: some 10 ms.
const checkRecords = 64

// Keeper keeps one log. It is safe for concurrent use.
type Keeper struct {
	name  string
	dir   string
	log   Log
	check Check

	mu      sync.Mutex // guards what follows; held while a promise is written
	made    promises
	checked uint64     // records that were found sound
	last    fsm.Record // the last of them; the zero record when none
	epoch   uint64     // recovery epoch in which that was
	begun   bool       // checked was set from the promises
	closed  bool

	kept sync.Mutex // guards what follows
	note []byte     // the newest final checkpoint; nil: none
	held checkpoint.Opened
	seen bool // its root is that of this node's records
	shut bool // closed

	evidence sync.Mutex // held while evidence is written
}

// Open reads what this node promised about a log, and the checkpoint it kept.
func Open(dir, name string, log Log, check Check) (*Keeper, error) {
	k := &Keeper{name: name, dir: dir, log: log, check: check}
	var err error
	if k.made, err = readPromises(k.path("cosigned")); err != nil {
		return nil, err
	}
	return k, nil
}

// Close waits for what is being written. From then on nothing is signed, taken or written any more.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.kept.Lock()
	k.shut = true
	k.kept.Unlock()
}

func (k *Keeper) path(what string) string { return filepath.Join(k.dir, what+"-"+k.name) }

// Head returns the head of this node's own records under an origin.
func (k *Keeper) Head(o checkpoint.Origin) (checkpoint.Checkpoint, error) {
	size := k.log.TreeSize()
	root, err := k.log.TreeRoot(size)
	return checkpoint.Checkpoint{Origin: o, Size: size, Root: root}, err
}

// CheckTo checks records up to a size, unless they were checked before. The error is a *RecordError for one that is
// not sound.
func (k *Keeper) CheckTo(ctx context.Context, o checkpoint.Origin, size uint64) error {
	for {
		k.mu.Lock()
		err := k.begin(o)
		if err == nil && k.checked < size {
			err = k.checkSome(size)
		}
		done := k.checked >= size
		k.mu.Unlock()
		if err != nil || done {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// begin takes for checked what a promise covers whose root the records still have: roots bind records. It begins again
// with each epoch, whose history may be another one. The caller holds mu.
func (k *Keeper) begin(o checkpoint.Origin) error {
	if k.begun && k.epoch == o.Epoch {
		return nil
	}
	k.checked, k.last = 0, fsm.Record{}
	for _, p := range k.made {
		if p.Size <= k.checked || p.Size > k.log.TreeSize() || p.Origin.ClusterID != o.ClusterID {
			continue
		}
		root, err := k.log.TreeRoot(p.Size)
		if err != nil {
			return err
		}
		if root != p.Root {
			continue
		}
		rows, err := k.log.Read(p.Size, 1)
		if err != nil || len(rows) != 1 {
			return fmt.Errorf("record %d cannot be read: %w", p.Size, err)
		}
		k.checked, k.last = p.Size, rows[0]
	}
	k.begun, k.epoch = true, o.Epoch
	return nil
}

func (k *Keeper) checkSome(size uint64) error {
	rows, err := k.log.Read(k.checked+1, int(min(checkRecords, size-k.checked)))
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%w: %d of %d can be read", ErrBehind, k.checked, size)
	}
	if err != nil {
		return err
	}
	for _, r := range rows {
		before := &k.last
		if k.checked == 0 {
			before = nil
		}
		if r.Seq != k.checked+1 {
			return fmt.Errorf("record %d was read where %d should be", r.Seq, k.checked+1)
		}
		if err := k.check(before, r); err != nil {
			return &RecordError{Seq: r.Seq, Err: err}
		}
		k.checked, k.last = r.Seq, r
	}
	return nil
}

// Cosign signs a head at a time in Unix seconds, if it is of the log's origin now and of this node's own records, all of
// them sound, no smaller than what it signed before, and the final checkpoint that it keeps leads to it. The promise is durable when it returns.
func (k *Keeper) Cosign(ctx context.Context, c checkpoint.Checkpoint, o checkpoint.Origin, key crypto.PrivateKey, atS int64) (checkpoint.Signature, error) {
	var none checkpoint.Signature
	switch have := k.log.TreeSize(); {
	case c.Origin != o:
		return none, fmt.Errorf("%w: asked about %s, this node has %s", ErrOrigin, c.Origin, o)
	case c.Size > have:
		return none, fmt.Errorf("%w: %d of %d", ErrBehind, have, c.Size)
	}
	root, err := k.log.TreeRoot(c.Size)
	if err != nil {
		return none, err
	}
	mine := c
	if mine.Root = root; mine != c {
		return none, &Fork{Mine: mine, Theirs: c, What: "a head that is asked to be cosigned"}
	}
	if err := k.CheckTo(ctx, o, c.Size); err != nil {
		return none, err
	}
	if err := k.Honest(o, false); err != nil { // else it would sign two histories
		return none, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.follows(c); err != nil {
		return none, err
	}
	if err := k.promise(c); err != nil {
		return none, err
	}
	return checkpoint.Cosign(key, c, atS), nil
}

// follows holds a head to the final checkpoint that is kept: a node whose promises were lost may have seen what others
// signed before its own records say so. The caller holds mu.
func (k *Keeper) follows(c checkpoint.Checkpoint) error {
	k.kept.Lock()
	defer k.kept.Unlock()
	switch {
	case k.note == nil || k.held.Origin != c.Origin:
		return nil
	case c.Size < k.held.Size:
		return fmt.Errorf("%w: a final checkpoint has %d, asked about %d", ErrSmaller, k.held.Size, c.Size)
	case c.Size == k.held.Size && c.Root != k.held.Root:
		return &Fork{Mine: k.held.Checkpoint, Theirs: c, What: "a head of the size of a final checkpoint"}
	}
	return k.agrees(k.held.Checkpoint, false, "records that a final checkpoint contradicts")
}

// promise writes down that a head is signed before it is. The caller holds mu.
func (k *Keeper) promise(c checkpoint.Checkpoint) error {
	before, some := k.made.of(c.Origin)
	switch {
	case some && before.Size > c.Size:
		return fmt.Errorf("%w: %d, asked about %d", ErrSmaller, before.Size, c.Size)
	case some && before.Size == c.Size && before.Root != c.Root:
		return &Fork{Mine: before, Theirs: c, What: "a second head of a size that this node cosigned"}
	case some && before == c:
		return nil
	case k.closed:
		return ErrClosed
	}
	next := k.made.with(c)
	if err := next.write(k.path("cosigned")); err != nil {
		return err
	}
	k.made = next
	return nil
}

// Honest holds this node's records to what it signed before: a history that was changed under it, or cut off, is a *Fork.
// caughtUp says that this replica has applied all that it ever had.
func (k *Keeper) Honest(o checkpoint.Origin, caughtUp bool) error {
	k.mu.Lock()
	before, some := k.made.of(o)
	k.mu.Unlock()
	if !some {
		return nil
	}
	return k.agrees(before, caughtUp, "records that are not those this node cosigned")
}

// agrees tells whether this node's records have a head.
func (k *Keeper) agrees(c checkpoint.Checkpoint, caughtUp bool, what string) error {
	size := min(c.Size, k.log.TreeSize())
	if size < c.Size && !caughtUp {
		return nil
	}
	root, err := k.log.TreeRoot(size)
	if err != nil {
		return err
	}
	if mine := (checkpoint.Checkpoint{Origin: c.Origin, Size: size, Root: root}); mine != c {
		return &Fork{Mine: mine, Theirs: c, What: what}
	}
	return nil
}
