package judge

import (
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/client"
)

// tryOf is one attempt at one entry of a Move.
type tryOf struct {
	op    *Op
	at    int // of the entry in its Move
	ended Outcome
	moved Moved
}

func (t tryOf) entry() *Entry { return &t.op.Move.Entries[t.at] }

// did tells whether it was answered as done, now or before.
func (t tryOf) did() bool { return t.ended == OK && t.moved.Code == client.LedgerOK }

// tries returns the attempts by the id of what they asked for.
func (r *Run) tries() map[string][]tryOf {
	all := map[string][]tryOf{}
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Kind != KindMove {
			continue
		}
		for at := range op.Move.Entries {
			id := op.Move.Entries[at].ID
			ended, moved := op.result(at)
			all[id] = append(all[id], tryOf{op, at, ended, moved})
		}
	}
	return all
}

// checkMoves holds what clients were told of money against the records: what was
// acknowledged is there, once, as it was asked for and where the answer said; what
// was refused by every attempt is not; what is linked is there together or not at
// all; and nothing is there that nobody asked for.
func checkMoves(c *court) {
	tries := c.run.tries()
	b := c.books.longest
	if b == nil || b.broken {
		if len(tries) > 0 {
			c.doubt(nil, "no records to look for %d operations of the ledger in", len(tries))
		}
		return
	}
	c.Examined = len(tries)
	checkLinked(c, b)
	for _, id := range slices.Sorted(maps.Keys(tries)) {
		checkID(c, b, id, tries[id])
	}
	for i := range b.records {
		if r := &b.records[i]; r.id != "" && uint64(i) >= c.run.About.LedgerSize && tries[r.id] == nil {
			c.fail(nil, "record %d moves %d from %s to %s under the id %s, which nobody asked for", r.seq, r.amount, r.debit, r.credit, r.id)
		}
	}
}

func checkID(c *court, b *ledgerBook, id string, tries []tryOf) {
	at, there := b.byID[id]
	var first *tryOf // that was answered as the one that did it
	mayHave := false
	for i := range tries {
		t := &tries[i]
		one := []*Op{t.op}
		mayHave = mayHave || t.did() || t.ended == Unknown
		if !t.did() {
			continue
		}
		switch {
		case !there:
			c.lacksMove(t, "%s was acknowledged, but the records of %s do not have it", t.entry(), b.node)
			return
		case !b.records[at].does(t.entry(), b):
			c.fail(one, "%s was acknowledged, but record %d is something else", t.entry(), at+1)
		case t.moved.Index != b.records[at].index:
			c.fail(one, "%s was answered as of index %d, but its record is of index %d", t.entry(), t.moved.Index, b.records[at].index)
		case !t.moved.Repeated && first != nil:
			c.fail([]*Op{first.op, t.op}, "%s took effect twice for the first time", t.entry())
		}
		if !t.moved.Repeated {
			first = t
		}
	}
	if there && !mayHave {
		c.failAs("P9", ops(tries), "%s was refused whenever it was asked for, but record %d has it", tries[0].entry(), at+1)
	}
}

func ops(tries []tryOf) (out []*Op) {
	for _, t := range tries {
		out = append(out, t.op)
	}
	return out
}

// does tells whether the record is what the entry asked for.
func (r *ledgerRecord) does(e *Entry, b *ledgerBook) bool {
	switch e.Op {
	case client.OpTransfer:
		return r.kind == recordTransfer && r.debit == e.Debit && r.credit == e.Credit && r.amount == e.Amount
	case client.OpHold:
		return r.kind == recordHold && r.debit == e.Debit && r.credit == e.Credit && r.amount == e.Amount && r.expiresMs == e.ExpiresMs
	case client.OpPost:
		return r.kind == recordPost && r.hold == e.Hold && (r.amount == e.Amount || e.Amount == 0 && r.amount == b.holds[r.hold].amount)
	case client.OpVoid:
		return r.kind == recordVoid && r.hold == e.Hold
	}
	return false
}

// lacksMove records that what was acknowledged is in no records. While a node did
// not show its own, that one may have it.
func (c *court) lacksMove(t *tryOf, format string, args ...any) {
	for _, node := range c.run.About.Nodes {
		if c.books.byNode[node] == nil {
			c.doubt([]*Op{t.op}, format+"; not every node showed its records", args...)
			return
		}
	}
	c.fail([]*Op{t.op}, format, args...)
}

// checkLinked holds that linked entries took effect together, at one index.
func checkLinked(c *court, b *ledgerBook) {
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindMove || !op.Move.Linked {
			continue
		}
		there, indices := 0, map[uint64]bool{}
		for _, e := range op.Move.Entries {
			if at, ok := b.byID[e.ID]; ok {
				there++
				indices[b.records[at].index] = true
			}
		}
		if there != 0 && there != len(op.Move.Entries) || len(indices) > 1 {
			c.fail([]*Op{op}, "%d of %d linked entries took effect, in %d entries of the log", there, len(op.Move.Entries), len(indices))
		}
	}
}
