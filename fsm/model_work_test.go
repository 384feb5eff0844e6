package fsm

import (
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/edgecoder/edgecoder/ledger"
)

// The model of work: reports, verdicts on them, and epochs that pay.

func (m *model) followReports(l logged, b LedgerReports) {
	for i := range l.res.Ledger {
		r := b.Reports[i].Report
		want, first := m.expectReport(r), (*modelID)(nil)
		if u := m.ledger.find("agent:"+r.AgentID, r.ID); u != nil && u.content == fmt.Sprint(r) && m.mayAct(r.AgentID, keyRef(r.AgentID)) == CodeOK && r.DurationMs > 0 {
			want, first = CodeOK, u
		}
		got := l.res.Ledger[i]
		if got.Code != want || got.Repeated != (first != nil) || first != nil && got.Index != first.index {
			m.t.Fatalf("index %d, report %d %+v: answered %+v, the model says %s, %+v", l.index, i, r, got, want, first)
		}
		if want != CodeOK || first != nil {
			continue
		}
		m.ledger.used = append(m.ledger.used, modelID{by: "agent:" + r.AgentID, id: r.ID, content: fmt.Sprint(r), index: l.index, clockMs: m.clockMs})
		// 1 of a processor, 2 of a card, a second; of failed work 0.6 × 0.75
		weight := modelWeight(r)
		kept := modelReport{Report: r, weight: weight, expiresMs: m.clockMs + m.ledger.policy.ReportKeepMs, index: l.index}
		if m.ledger.policy.Confirm == ledger.ConfirmNobody {
			m.count(&kept, l.index)
		}
		m.ledger.reports = append(m.ledger.reports, kept)
	}
}

func modelWeight(r ledger.Report) int64 {
	if !r.OK {
		return r.DurationMs * 450 * int64(r.Class)
	}
	return r.DurationMs * 1_000 * int64(r.Class)
}

func (m *model) expectReport(r ledger.Report) Code {
	if r.ID == (ledger.ID{}) || r.DurationMs < 1 {
		return CodeInvalid
	}
	if code := m.mayAct(r.AgentID, keyRef(r.AgentID)); code != CodeOK {
		return code
	}
	if code := m.ledgerID(m.ledger, "agent:"+r.AgentID, r.ID); code != CodeOK {
		return code
	}
	account, payer := m.ledger.accounts[r.Account], m.ledger.accounts[r.Payer]
	switch {
	case account == nil:
		return CodeNotFound
	case account.Kind != ledger.KindAgent || account.Owner != r.AgentID:
		return CodeForbidden
	case payer == nil:
		return CodeNotFound
	case payer.Kind == ledger.KindAgent && payer.Owner == r.AgentID:
		return CodeInvalid
	case payer.Kind == ledger.KindSystem, modelWeight(r) > m.ledger.policy.MaxWeight:
		return CodeInvalid
	case m.ledger.policy.Confirm == ledger.ConfirmNobody && account.Frozen:
		return CodeAccountFrozen
	case m.ledger.policy.Confirm == ledger.ConfirmNobody && m.counts(r.Account)+modelWeight(r) > m.ledger.policy.MaxWeight:
		return CodeOverflow
	}
	return CodeOK
}

// counts is what an account did in the hour that counts now.
func (m *model) counts(account string) int64 { return m.ledger.weights[m.window()][account] }

func (m *model) window() int64 {
	window := m.clockMs / 3_600_000 * 3_600_000
	for m.ledger.wasClosed(window) {
		window += 3_600_000
	}
	return window
}

// count has a report count in the hour of its confirmation, or the first one that
// was not closed.
func (m *model) count(r *modelReport, index uint64) {
	window := m.window()
	if m.ledger.weights[window] == nil {
		m.ledger.weights[window] = map[string]int64{}
	}
	m.ledger.weights[window][r.Account] += r.weight
	r.decided(ReportConfirmed, index, m)
}

// decided: what is decided is asked about for as long as ids are remembered.
func (r *modelReport) decided(verdict ReportVerdict, index uint64, m *model) {
	r.verdict, r.index, r.clockMs = verdict, index, m.clockMs
	r.expiresMs = min(r.expiresMs, m.clockMs+m.ledger.policy.IDWindowMs)
}

func (m *model) followConfirm(l logged, b LedgerConfirm) {
	by := b.By
	if by.AgentID == "" {
		by = LedgerCaller{TokenID: l.cmd.Actor.TokenID}
	}
	if l.cmd.Idem != nil {
		by = LedgerCaller{} // nothing is admitted
	}
	caller := m.ledgerCaller(l, by)
	if l.res.OK() != (caller.code == CodeOK) {
		m.t.Fatalf("index %d: %s, the caller is %+v", l.index, l.res.Code, caller)
	}
	for i := range l.res.Ledger {
		want := m.expectConfirm(l, caller, b.Reports[i], b.Reject)
		if got := l.res.Ledger[i]; got.Code != want.Code || got.Repeated != want.Repeated || got.Index != want.Index {
			m.t.Fatalf("index %d, confirmation %d: answered %+v, the model says %+v", l.index, i, got, want)
		}
	}
}

func (m *model) expectConfirm(l logged, caller modelCaller, name ReportName, reject bool) LedgerResult {
	at := slices.IndexFunc(m.ledger.reports, func(r modelReport) bool {
		return r.ID == name.ID && r.AgentID == name.AgentID && m.clockMs <= r.expiresMs
	})
	if at < 0 {
		return LedgerResult{Code: CodeNotFound, Index: l.index}
	}
	r := &m.ledger.reports[at]
	may := caller.operator || caller.owns(m.ledger.accounts[r.Payer]) && (reject || m.ledger.policy.Confirm != ledger.ConfirmOperator)
	switch {
	case r.Sum() != name.Sum:
		return LedgerResult{Code: CodeConflict, Index: l.index}
	case !may:
		return LedgerResult{Code: CodeForbidden, Index: l.index}
	case !caller.operator && !reject && r.verdict != ReportConfirmed && m.barred(r) != CodeOK:
		return LedgerResult{Code: m.barred(r), Index: l.index}
	case r.verdict == ReportConfirmed && !reject, r.verdict == ReportRejected && reject:
		return LedgerResult{Code: CodeOK, Index: r.index, Repeated: true}
	case r.verdict != ReportPending:
		return LedgerResult{Code: CodeConflict, Index: l.index}
	case caller.replay:
		return LedgerResult{Code: CodeReplay, Index: l.index}
	case reject:
		r.decided(ReportRejected, l.index, m)
	case m.counts(r.Account)+r.weight > m.ledger.policy.MaxWeight:
		return LedgerResult{Code: CodeOverflow, Index: l.index}
	default:
		m.count(r, l.index)
	}
	return LedgerResult{Code: CodeOK, Index: l.index}
}

// barred is why a payer cannot confirm a report, and an operator can.
func (m *model) barred(r *modelReport) Code {
	if m.ledger.accounts[r.Payer].Frozen || m.ledger.accounts[r.Account].Frozen {
		return CodeAccountFrozen
	}
	return m.agentCode(r.AgentID)
}

func (m *model) agentCode(id string) Code {
	switch a := m.agents[id]; {
	case a == nil:
		return CodeUnknownAgent
	case a.state != AgentActive:
		return CodeAgentNotActive
	case m.banned(id):
		return CodeBlacklisted
	}
	return CodeOK
}

// closeEpoch pays an epoch in fractions, and only then cuts them off.
func (m *model) closeEpoch(l logged, b LedgerEpochClose) {
	led := m.ledger
	weights := led.weights[b.WindowMs]
	if len(weights) == 0 || m.clockMs < b.WindowMs+3_600_000 {
		m.t.Fatalf("index %d: the epoch of %d is closed at %d with %d accounts", l.index, b.WindowMs, m.clockMs, len(weights))
	}
	delete(led.weights, b.WindowMs)
	if slices.Contains(led.finalised, b.WindowMs) {
		m.t.Fatalf("index %d: the epoch of %d is closed twice", l.index, b.WindowMs)
	}
	if led.finalised = append(led.finalised, b.WindowMs); slices.ContainsFunc(slices.Collect(maps.Keys(led.weights)), func(w int64) bool { return w < b.WindowMs }) {
		m.t.Fatalf("index %d: the epoch of %d is closed before an older one", l.index, b.WindowMs)
	}
	million := big.NewRat(1_000_000, 1)
	nearest := func(r *big.Rat) *big.Rat { // to a millionth
		n := new(big.Rat).Add(new(big.Rat).Mul(r, million), big.NewRat(1, 2))
		return new(big.Rat).Quo(new(big.Rat).SetInt(new(big.Int).Quo(n.Num(), n.Denom())), million)
	}
	index := nearest(big.NewRat(max(1, b.Load.Queued+b.Load.Agents), max(1, b.Load.CPU+2*b.Load.GPU)))
	if low := big.NewRat(1, 5); index.Cmp(low) < 0 {
		index = low
	}
	if high := big.NewRat(6, 1); index.Cmp(high) > 0 {
		index = high
	}
	alpha := big.NewRat(35, 100)
	if led.smoothed != nil {
		kept := new(big.Rat).Mul(led.smoothed, new(big.Rat).Sub(big.NewRat(1, 1), alpha))
		index = nearest(kept.Add(kept, new(big.Rat).Mul(index, alpha)))
	}
	led.smoothed = index
	day := big.NewRat(10_000_000_000, 1)
	if above := new(big.Rat).Sub(index, big.NewRat(1, 1)); above.Sign() > 0 {
		day.Mul(day, above.Add(above.Mul(above, alpha), big.NewRat(1, 1)))
	}
	cut := func(r *big.Rat) int64 { return new(big.Int).Quo(r.Num(), r.Denom()).Int64() }
	pool := min(cut(day)/24, 1<<53-1+led.accounts[ledger.Issuance].balance-led.held(ledger.Issuance))
	total, paid := int64(0), int64(0)
	for _, w := range weights {
		total += w
	}
	for id, w := range weights {
		share := cut(new(big.Rat).Mul(big.NewRat(pool, 1), big.NewRat(w, total)))
		a := led.accounts[id]
		if share = min(share, 1<<53-1-a.balance); a.Frozen || m.agentCode(a.Owner) != CodeOK {
			share = 0
		}
		a.balance += share
		paid += share
	}
	rest := min(pool-paid, 1<<53-1-led.accounts[ledger.Reserve].balance)
	led.accounts[ledger.Reserve].balance += rest
	led.accounts[ledger.Issuance].balance -= paid + rest
}
