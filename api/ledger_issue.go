package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// What somebody moves that is not its own leaves a trace in the audit log besides the
// one in the records: what an admin takes from the cluster's own accounts, or gives back
// to them, and what an operator takes from anybody's. Lest it leave none, it is not done
// while the log cannot be written.

// issued are the entries of such a batch, in order.
type issued struct{ entries []issuedEntry }

// issuedEntry is what an entry does to accounts that are not the caller's.
type issuedEntry struct {
	op       fsm.LedgerOp
	from, to bool // it takes from one of the cluster's own; it gives to one
	others   bool // it takes from somebody else's
	unknown  bool // it ends a hold that nobody knows: taken for one of those
	amount   int64
}

// maxToldAccounts bounds the accounts of an audit event: ids have up to 128 bytes.
const maxToldAccounts = 8

// watchIssue notes what a batch asks of accounts that are not the caller's, and refuses
// to if that would leave no trace.
func (c *call) watchIssue(m *moves) error {
	if !c.token.Role.Can(fsm.CapOperate) {
		return nil // Apply lets nobody else at them
	}
	out, accounts, touches, takes := &issued{entries: make([]issuedEntry, len(m.Entries))}, []string(nil), false, false
	unknown := false
	look := func(state *fsm.State) {
		accounts, touches, takes, unknown = slices.Clone(m.Accounts), false, false, false
		for i := range m.Entries {
			e, names := c.issuedEntry(state, m, &m.Entries[i])
			out.entries[i], accounts = e, append(accounts, names...)
			touches, takes, unknown = touches || e.from || e.to, takes || e.others, unknown || e.unknown
		}
	}
	err := c.readAt(ReadOptions{}, look)
	if err == nil && unknown { // made at another node a moment ago, perhaps
		err = c.readAt(ReadOptions{Strong: true}, look)
	}
	if err != nil || !touches && !takes {
		return err
	}
	m.issued, c.issues = out, true
	c.did = kept{"ledger_take", auditWarn}
	if touches {
		c.did = kept{"ledger_issue", auditHigh}
	}
	c.tell("entries", strconv.Itoa(len(m.Entries)))
	c.tell("accounts", toldAccounts(accounts))
	asked := out.sums(func(int) bool { return true })
	c.tell("asked_taken", strconv.FormatInt(asked.taken, 10))
	c.tell("asked_given_back", strconv.FormatInt(asked.given, 10))
	c.tell("asked_of_others", strconv.FormatInt(asked.others, 10))
	return c.s.mayChange()
}

// watchFloor notes that an account is let owe more: what it spends below zero was never
// issued.
func (c *call) watchFloor(want ledger.Account) error {
	if want.Floor >= 0 {
		return nil
	}
	var was fsm.LedgerAccount
	if err := c.readAt(ReadOptions{Strong: true}, func(state *fsm.State) { was, _ = state.LedgerAccount(want.ID) }); err != nil {
		return err
	}
	if want.Floor >= was.Floor {
		return nil
	}
	c.did = kept{"ledger_issue", auditHigh}
	c.tell("floor_was", strconv.FormatInt(was.Floor, 10))
	c.tell("floor_now", strconv.FormatInt(want.Floor, 10))
	return c.s.mayChange()
}

// issuedEntry looks up what an entry moves; names are accounts that it does not name.
// A hold that is not known may be any.
func (c *call) issuedEntry(state *fsm.State, m *moves, e *fsm.LedgerEntry) (out issuedEntry, names []string) {
	out = issuedEntry{op: e.Op, amount: e.Amount}
	var debit, credit string
	switch e.Op {
	case fsm.LedgerTransfer, fsm.LedgerHold:
		debit, credit = m.Accounts[e.Debit], m.Accounts[e.Credit]
	case fsm.LedgerPost:
		h, known := state.LedgerHold(e.Hold, state.ClockMs())
		if !known {
			out.from, out.others, out.unknown = c.token.Role.Can(fsm.CapAdmin), true, true
			return out, nil
		}
		debit, credit = h.Debit, h.Credit
		out.amount = cmp.Or(e.Amount, h.Amount)
		names = []string{h.Debit, h.Credit}
	default:
		return out, nil // a void moves nothing
	}
	a, _ := state.LedgerAccount(debit)
	out.from, out.to = ledger.IsSystem(debit), ledger.IsSystem(credit) && c.token.Role.Can(fsm.CapAdmin)
	out.others = !out.from && !(a.Kind == ledger.KindService && a.Owner == c.token.ID)
	return out, names
}

// toldAccounts lists accounts, the cluster's own first.
func toldAccounts(ids []string) string {
	slices.SortFunc(ids, func(a, b string) int {
		if system := ledger.IsSystem(a); system != ledger.IsSystem(b) {
			if system {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	ids = slices.Compact(ids)
	return strings.Join(ids[:min(maxToldAccounts, len(ids))], " ")
}

// issuedSums are micro-credits.
type issuedSums struct{ taken, given, others int64 }

// sums returns what entries take from the cluster's own accounts and give back to
// them, and what they take from others. A hold moves nothing until it is posted. A batch
// of the largest amounts fits: 1024 times 2^53-1.
func (s *issued) sums(counts func(i int) bool) (sum issuedSums) {
	for i, e := range s.entries {
		if e.op == fsm.LedgerHold || !counts(i) {
			continue
		}
		if e.from {
			sum.taken += e.amount
		}
		if e.to {
			sum.given += e.amount
		}
		if e.others {
			sum.others += e.amount
		}
	}
	return sum
}

// tell notes for the audit log what took effect, and tells whether anything did.
func (s *issued) tell(c *call, results []fsm.LedgerResult) (done bool) {
	if s == nil {
		return false
	}
	fresh, repeated := 0, 0
	for _, r := range results {
		switch {
		case r.Code != fsm.CodeOK:
		case r.Repeated:
			repeated++
		default:
			fresh++
		}
	}
	sum := s.sums(func(i int) bool { return results[i].Code == fsm.CodeOK && !results[i].Repeated })
	c.tell("done", strconv.Itoa(fresh))
	c.tell("done_before", strconv.Itoa(repeated))
	c.tell("taken", strconv.FormatInt(sum.taken, 10))
	c.tell("given_back", strconv.FormatInt(sum.given, 10))
	c.tell("of_others", strconv.FormatInt(sum.others, 10))
	return fresh+repeated > 0
}
