package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// What an admin takes from the cluster's own accounts, or gives back to them, and what
// an operator takes from accounts of others, leaves a trace in the audit log besides the
// one in the records.

// issued are the entries of such a batch, in order.
type issued struct{ entries []issuedEntry }

// issuedEntry is what an entry does to accounts that are not its caller's.
type issuedEntry struct {
	op       fsm.LedgerOp
	from, to bool // it takes from one of the cluster's own; it gives to one
	others   bool // it takes from one of somebody else
	unknown  bool // it ends a hold that nobody knows: taken for one of the cluster's own
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
	out, accounts := &issued{entries: make([]issuedEntry, len(m.Entries))}, []string(nil)
	var issues, debits, unknown bool
	look := func(state *fsm.State) {
		accounts, issues, debits, unknown = slices.Clone(m.Accounts), false, false, false
		for i := range m.Entries {
			e, names := c.issuedEntry(state, m, &m.Entries[i])
			out.entries[i], accounts = e, append(accounts, names...)
			issues, debits, unknown = issues || e.from || e.to, debits || e.others, unknown || e.unknown
		}
	}
	err := c.readAt(ReadOptions{}, look)
	if err == nil && unknown { // made at another node a moment ago, perhaps
		err = c.readAt(ReadOptions{Strong: true}, look)
	}
	switch {
	case err != nil || !issues && !debits:
		return err
	case issues:
		c.did = kept{"ledger_issue", auditHigh}
	default:
		c.did = kept{"ledger_debit", auditWarn}
	}
	m.issued, c.issues = out, true
	c.tell("entries", strconv.Itoa(len(m.Entries)))
	c.tell("accounts", toldAccounts(accounts))
	out.tellSums(c, "asked_", func(int) bool { return true })
	return c.s.mayChange()
}

// issuedEntry looks up what an entry moves; names are accounts that it does not name.
// A hold that is not known may be any.
func (c *call) issuedEntry(state *fsm.State, m *moves, e *fsm.LedgerEntry) (out issuedEntry, names []string) {
	out = issuedEntry{op: e.Op, amount: e.Amount}
	between := func(debit, credit string) {
		out.from, out.to = ledger.IsSystem(debit), ledger.IsSystem(credit)
		a, _ := state.LedgerAccount(debit)
		out.others = !out.from && !(a.Kind == ledger.KindService && a.Owner == c.token.ID)
	}
	switch e.Op {
	case fsm.LedgerTransfer, fsm.LedgerHold:
		between(m.Accounts[e.Debit], m.Accounts[e.Credit])
	case fsm.LedgerPost:
		h, known := state.LedgerHold(e.Hold, state.ClockMs())
		if !known {
			out.from, out.unknown = true, true
			return out, nil
		}
		between(h.Debit, h.Credit)
		out.amount = cmp.Or(e.Amount, h.Amount)
		names = []string{h.Debit, h.Credit}
	}
	return out, names // a void moves nothing
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

// tellSums notes what entries take from the cluster's own accounts and from those of
// others, and give back to the cluster's. A hold moves nothing until it is posted. A
// batch of the largest amounts fits: 1024 times 2^53-1.
func (s *issued) tellSums(c *call, prefix string, counts func(i int) bool) {
	var taken, given, debited int64
	for i, e := range s.entries {
		if e.op == fsm.LedgerHold || !counts(i) {
			continue
		}
		if e.from {
			taken += e.amount
		}
		if e.to {
			given += e.amount
		}
		if e.others {
			debited += e.amount
		}
	}
	c.tell(prefix+"taken", strconv.FormatInt(taken, 10))
	c.tell(prefix+"given_back", strconv.FormatInt(given, 10))
	c.tell(prefix+"debited", strconv.FormatInt(debited, 10))
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
	c.tell("done", strconv.Itoa(fresh))
	c.tell("done_before", strconv.Itoa(repeated))
	s.tellSums(c, "", func(i int) bool { return results[i].Code == fsm.CodeOK && !results[i].Repeated })
	return fresh+repeated > 0
}
