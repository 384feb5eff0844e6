package judge

import (
	"crypto/sha256"
	"encoding/hex"
	"math/bits"
)

// checkHeads holds every chain head that any client ever saw against the final
// chain: no node ever showed another history.
func checkHeads(c *court) {
	chain := c.chain
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		size, head, has := headOf(op)
		if op.Outcome != OK || !has {
			continue
		}
		if chain == nil {
			c.doubt(nil, "no final chain to hold the heads against")
			return
		}
		c.Examined++
		checkHead(c, op, size, head, chain)
	}
}

// checkCheckpoints does the same for signed tree heads, and holds that all are
// of one tree: the origin names the recovery epoch.
func checkCheckpoints(c *court) {
	chain := c.chain
	var first *Op
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Outcome != OK || op.Kind != KindCheckpoint {
			continue
		}
		if chain == nil {
			c.doubt(nil, "no final chain to hold the checkpoints against")
			return
		}
		c.Examined++
		if first == nil {
			first = op
		} else if op.Checkpoint.Origin != first.Checkpoint.Origin && !c.run.recovers() {
			c.fail([]*Op{first, op}, "a checkpoint is of %q, the first one seen was of %q", op.Checkpoint.Origin, first.Checkpoint.Origin)
		}
		checkRoot(c, op, chain)
	}
}

func headOf(op *Op) (size uint64, head string, has bool) {
	switch op.Kind {
	case KindBan:
		return op.Ban.Size, op.Ban.Head, op.Ban.Head != ""
	case KindLift:
		return op.Lift.Size, op.Lift.Head, op.Lift.Head != ""
	case KindBansRead:
		return op.BansRead.Size, op.BansRead.Head, true
	case KindChainRead:
		return op.ChainRead.Size, op.ChainRead.Head, true
	}
	return 0, "", false
}

func checkHead(c *court, op *Op, size uint64, head string, chain *chainIndex) {
	want := genesis
	switch {
	case size > uint64(len(chain.events)):
		c.lacks(op, "a chain of %d events was shown; the final one of %s has %d", size, chain.node, len(chain.events))
		return
	case size > 0:
		want = chain.events[size-1].EventHash
	}
	if head != want && !(size == 0 && head == "") {
		c.fail([]*Op{op}, "at size %d the head was shown as %.16s, in the final chain it is %.16s", size, head, want)
	}
}

func checkRoot(c *court, op *Op, chain *chainIndex) {
	cp := op.Checkpoint
	if cp.Size > uint64(len(chain.events)) {
		c.lacks(op, "a tree of %d events was shown; the final chain of %s has %d", cp.Size, chain.node, len(chain.events))
		return
	}
	if root := chain.root(int(cp.Size)); root != cp.Root {
		c.fail([]*Op{op}, "the tree of size %d was shown with root %.16s, the final chain gives %.16s", cp.Size, cp.Root, root)
	}
}

// root is the RFC 6962 Merkle root over the first n events.
func (ci *chainIndex) root(n int) string {
	sum := treeHash(ci.events[:n])
	return hex.EncodeToString(sum[:])
}

func treeHash(leaves []chainEvent) [sha256.Size]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0].wire()...))
	}
	split := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // largest power of two below
	left, right := treeHash(leaves[:split]), treeHash(leaves[split:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}
