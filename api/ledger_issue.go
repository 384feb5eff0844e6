package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/ledger"
)

// What an admin takes from the cluster's own accounts, or gives back to them, leaves a
// trace in the audit log besides the one in the records.

// issued are the entries of such a batch, in order.
type issued struct{ entries []issuedEntry }

// issuedEntry is what an entry does to the cluster's own accounts.
type issuedEntry struct {
	op       fsm.LedgerOp
	from, to bool // it takes from one; it gives to one
	unknown  bool // it ends a hold that nobody knows: taken for one of the cluster's own
	amount   int64
}

// maxToldAccounts bounds the accounts of an audit event: ids have up to 128 bytes.
const maxToldAccounts = 8

// watchIssue notes what a batch asks of the cluster's own accounts, and refuses to if
// that would leave no trace.
func (c *call) watchIssue(m *moves) error {
	if !c.token.Role.Can(fsm.CapAdmin) {
		return nil // Apply lets nobody else at them
	}
	out, accounts, touches := &issued{entries: make([]issuedEntry, len(m.Entries))}, []string(nil), false
	unknown := false
	look := func(state *fsm.State) {
		accounts, touches, unknown = slices.Clone(m.Accounts), false, false
		for i := range m.Entries {
			e, names := m.issuedEntry(state, &m.Entries[i])
			out.entries[i], accounts = e, append(accounts, names...)
			touches, unknown = touches || e.from || e.to, unknown || e.unknown
		}
	}
	err := c.readAt(ReadOptions{}, look)
	if err == nil && unknown { // made at another node a moment ago, perhaps
		err = c.readAt(ReadOptions{Strong: true}, look)
	}
	if err != nil || !touches {
		return err
	}
	m.issued, c.issues = out, true
	c.did = kept{"ledger_issue", auditHigh}
	c.tell("entries", strconv.Itoa(len(m.Entries)))
	c.tell("accounts", toldAccounts(accounts))
	taken, given := out.sums(func(int) bool { return true })
	c.tell("asked_taken", strconv.FormatInt(taken, 10))
	c.tell("asked_given_back", strconv.FormatInt(given, 10))
	return c.s.mayChange()
}

// issuedEntry looks up what an entry moves; names are accounts that it does not name.
// A hold that is not known may be any.
func (m *moves) issuedEntry(state *fsm.State, e *fsm.LedgerEntry) (out issuedEntry, names []string) {
	out = issuedEntry{op: e.Op, amount: e.Amount}
	switch e.Op {
	case fsm.LedgerTransfer, fsm.LedgerHold:
		out.from, out.to = ledger.IsSystem(m.Accounts[e.Debit]), ledger.IsSystem(m.Accounts[e.Credit])
	case fsm.LedgerPost:
		h, known := state.LedgerHold(e.Hold, state.ClockMs())
		if !known {
			out.from, out.unknown = true, true
			return out, nil
		}
		out.from, out.to = ledger.IsSystem(h.Debit), ledger.IsSystem(h.Credit)
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

// sums returns what entries take from the cluster's own accounts and give back to
// them. A hold moves nothing until it is posted. A batch of the largest amounts fits:
// 1024 times 2^53-1.
func (s *issued) sums(counts func(i int) bool) (taken, given int64) {
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
	}
	return taken, given
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
	taken, given := s.sums(func(i int) bool { return results[i].Code == fsm.CodeOK && !results[i].Repeated })
	c.tell("done", strconv.Itoa(fresh))
	c.tell("done_before", strconv.Itoa(repeated))
	c.tell("taken", strconv.FormatInt(taken, 10))
	c.tell("given_back", strconv.FormatInt(given, 10))
	return fresh+repeated > 0
}
