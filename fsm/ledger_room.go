package fsm

import "github.com/edgecoder/edgecoder/ledger"

// A table that all accounts share has room for whoever has little in it, however many
// take all they can: who has more may take a part of what is left, so that no few of
// them leave nothing.

// fewRows is what an account may have of holds or reports as long as there is any room.
const fewRows = 16

// mayGrow tells whether who has so many rows of a table, of which have are taken, may
// take one more: below fewRows up to a limit, else up to a part of what is left of the
// limit but for its last tenth.
func mayGrow(own, have, limit, part int) bool {
	if own < fewRows {
		return have < limit
	}
	return own < (limit/10*9-have)/part
}

// roomForHold: operators are left the last tenth, and services three more than agents,
// who may be anybody's.
func (l *ledgerState) roomForHold(caller *standing, debit *ledgerRow) bool {
	have, most := l.holds.size(), l.holds.cap
	switch {
	case caller.operator:
		return have < most
	case debit.Kind == ledger.KindAgent:
		return mayGrow(debit.ends.Len(), have, most/10*6, accountPart)
	}
	return mayGrow(debit.ends.Len(), have, most/10*9, accountPart)
}

// roomForReport: nor does one payer take all, unless it is for agents that have few.
func (l *ledgerState) roomForReport(account, payer *ledgerRow) bool {
	have, most := l.reports.size(), l.reports.cap
	return account.reports < MaxAccountReports && mayGrow(account.reports, have, most, accountPart) &&
		(account.reports < fewRows || mayGrow(payer.pays, have, most, payerPart))
}
