package fsm

import (
	"encoding/binary"

	"github.com/edgecoder/edgecoder/ledger"
)

// LedgerLive returns a copy of what is live in the ledger, to be held against what the
// records come to; whoever has the state to itself adds LedgerRefuses.
func (s *State) LedgerLive() ledger.Live {
	l, book := s.ledger, &s.ledger.book.v
	out := ledger.Live{ClockMs: s.meta.v.ClockMs, Policy: book.Policy, Smoothed: book.Smoothed, Finalised: book.Finalised, IDFloorMs: book.IDFloorMs,
		Accounts: make([]ledger.Balance, 0, l.accounts.size()), Holds: make([]ledger.Hold, 0, l.holds.size()), Weights: make([]ledger.EpochWeight, 0, l.weights.size())}
	for _, row := range l.accounts.m {
		out.Accounts = append(out.Accounts, ledger.Balance(row.LedgerAccount))
	}
	for _, h := range l.holds.m {
		out.Holds = append(out.Holds, ledger.Hold{ID: h.ID, Debit: h.Debit, Credit: h.Credit, Amount: h.Amount, ExpiresMs: h.ExpiresMs})
	}
	for _, r := range l.reports.m {
		if r.Verdict == ReportPending {
			out.Reports = append(out.Reports, ledger.WaitingReport{AgentID: r.AgentID, ID: r.ID, Account: r.Account, Payer: r.Payer, Weight: r.Weight(), ExpiresMs: r.ExpiresMs})
		}
	}
	for key, w := range l.weights.m {
		window := int64(binary.BigEndian.Uint64([]byte(key[:len(epochKey(0))])))
		out.Weights = append(out.Weights, ledger.EpochWeight{WindowMs: window, Account: w.Account, Weight: w.Weight})
	}
	return out
}

// LedgerRefuses tells whether a caller, as records name it without its standing, can use
// an id no more: it was used, or is closed for ever.
func (s *State) LedgerRefuses(caller string, id ledger.ID) bool {
	book, at := &s.ledger.book.v, id.TimeMs()
	return at <= book.IDFloorMs || inRanges(book.Closed, at) || s.ledgerIDUsed(id, idCallerOf(caller).key(id))
}
