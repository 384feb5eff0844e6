package judge

import (
	"maps"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/edgecoder/edgecoder/client"
)

// An island is a few accounts between which money moves and from which none leaves.
// Its history is short enough to look for an order of it without any word of the
// server's on indices: transfers and strong reads of a bank with three tellers.
const (
	// maxShore bounds its accounts, which are one state of the search.
	maxShore = 4
	// maxVisits bounds its operations: the search is exponential in those that
	// overlap, and unknown ones overlap with all that follow.
	maxVisits = 400
)

// funds is what is available on the accounts of an island.
type funds [maxShore]int64

type island struct {
	place map[string]int // of its accounts in funds
	ops   []*Op
}

// checkIslands holds that balances and transfers are linearizable.
func checkIslands(c *court) {
	b := c.books.longest
	all := c.run.islands()
	if len(all) > 0 && (b == nil || b.broken) {
		c.doubt(nil, "no records to learn from what was on the accounts at the start")
		return
	}
	for _, is := range all {
		reg := register[funds]{initial: is.start(b, c.run.About.LedgerSize), step: is.step}
		c.Examined += len(is.ops)
		switch reg.accepts(c, is.ops) {
		case porcupine.Illegal:
			mayGo := func(op *Op) bool { return op.Kind == KindAccount }
			c.fail(reg.smallest(c, is.ops, mayGo), "no order of these transfers and strong reads explains their answers")
		case porcupine.Unknown:
			c.doubt(nil, "%d transfers and reads among %v could not be ordered in time", len(is.ops), slices.Sorted(maps.Keys(is.place)))
		}
	}
}

// islands finds them in what was asked: accounts that an entry names together are
// on one, and so are those of calls that have several.
func (r *Run) islands() (out []*island) {
	roots := map[string]string{}
	var root func(a string) string
	root = func(a string) string {
		if up, ok := roots[a]; ok && up != a {
			roots[a] = root(up)
			return roots[a]
		}
		roots[a] = a
		return a
	}
	wild := map[string]bool{} // accounts whose money does more than single transfers
	for i := range r.Ops {
		if op := &r.Ops[i]; op.Kind == KindMove {
			first := op.Move.Entries[0].Debit
			for _, e := range op.Move.Entries {
				roots[root(e.Debit)] = root(e.Credit)
				roots[root(e.Debit)] = root(first)
				wild[e.Debit] = wild[e.Debit] || len(op.Move.Entries) > 1 || e.Op != client.OpTransfer
			}
		}
	}
	spoilt := map[string]bool{}
	for a := range wild {
		spoilt[root(a)] = spoilt[root(a)] || wild[a]
	}
	shores := map[string]*island{}
	for _, a := range slices.Sorted(maps.Keys(roots)) {
		at := root(a)
		if shores[at] == nil {
			shores[at] = &island{place: map[string]int{}}
		}
		shores[at].place[a] = len(shores[at].place)
	}
	for _, op := range r.visits() {
		a := op.islander()
		if is := shores[root(a)]; is != nil {
			is.ops = append(is.ops, op)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(shores)) {
		if is := shores[at]; !spoilt[at] && len(is.place) <= maxShore && len(is.ops) > 0 && len(is.ops) <= maxVisits {
			out = append(out, is)
		}
	}
	return out
}

// islander is an account that the operation is about.
func (op *Op) islander() string {
	if op.Kind == KindAccount {
		return op.Account.Account
	}
	return op.Move.Entries[0].Debit
}

// visits are strong reads and the single transfers that may have taken effect or
// were decided, attempts under one id as one: asked when the first that may have done
// it was, answered when first answered.
func (r *Run) visits() (out []*Op) {
	byID := map[string]*Op{}
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Kind == KindAccount && op.Outcome == OK && op.Strong {
			out = append(out, op)
		}
		if op.Kind != KindMove || len(op.Move.Entries) != 1 {
			continue
		}
		ended, moved := op.result(0)
		if ended == Refused {
			continue
		}
		one := *op
		one.Outcome = ended
		if ended == OK && moved.Code != client.LedgerOK {
			out = append(out, &one) // it moved nothing, whatever other attempts did
			continue
		}
		id := op.Move.Entries[0].ID + op.Move.Entries[0].same()
		have := byID[id]
		if have == nil {
			byID[id] = &one
			out = append(out, &one)
			continue
		}
		start := min(have.StartNS, one.StartNS)
		if one.Outcome == OK && (have.Outcome != OK || one.EndNS < have.EndNS) {
			*have = one
		}
		have.StartNS = start
	}
	return out
}

// start is what was available before the first operation.
func (is *island) start(b *ledgerBook, records uint64) (f funds) {
	for id, at := range is.place {
		a := b.accounts[id]
		if a == nil {
			continue
		}
		for _, on := range a.history {
			if on.at < 0 || uint64(on.at) < records {
				f[at] = on.available()
			}
		}
	}
	return f
}

func (is *island) step(f funds, op *Op) (bool, funds) {
	if op.Kind == KindAccount {
		return f[is.place[op.Account.Account]] == op.Account.Available, f
	}
	e := &op.Move.Entries[0]
	enough := f[is.place[e.Debit]] >= e.Amount
	if op.Outcome == OK && op.Move.Results[0].Code != client.LedgerOK {
		return op.Move.Results[0].Code != client.LedgerInsufficient || !enough, f
	}
	if !enough {
		return op.Outcome == Unknown, f
	}
	f[is.place[e.Debit]] -= e.Amount
	f[is.place[e.Credit]] += e.Amount
	return true, f
}
