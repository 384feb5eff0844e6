package ledger

import (
	"fmt"
	"maps"
	"slices"
)

// paying is an epoch whose shares are being read.
type paying struct {
	windowMs int64
	pool     int64
	left     int64 // of the pool
	weight   int64 // of all accounts
	accounts []string
	weights  map[string]int64
	next     int
}

func (v *Verifier) report(r *Record) error {
	s := r.Report.Report
	if field, fault := s.Fault(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	if err := v.useID(s.ID, r.AtMs); err != nil {
		return err
	}
	account, payer := v.accounts[s.Account], v.accounts[s.Payer]
	if account == nil || account.Kind != KindAgent || account.Owner != s.AgentID {
		return fmt.Errorf("%q is no account of %q", s.Account, s.AgentID)
	}
	if payer == nil || payer.Kind == KindAgent && payer.Owner == s.AgentID {
		return fmt.Errorf("%q cannot pay for work of %q", s.Payer, s.AgentID)
	}
	if len(v.reports) >= maxWaiting {
		v.forgetReports(r.AtMs)
	}
	v.reports[s.ID] = pendingReport{account: s.Account, weight: s.Weight(), expiresMs: r.AtMs + v.policy.ReportKeepMs}
	return nil
}

// maxWaiting is how many reports wait before those that are over are looked for.
const maxWaiting = 400_000

func (v *Verifier) forgetReports(nowMs int64) {
	maps.DeleteFunc(v.reports, func(_ ID, p pendingReport) bool { return p.expiresMs < nowMs })
}

// confirm takes in a verdict on a report. It counts in the epoch of its time.
func (v *Verifier) confirm(r *Record) error {
	p, ok := v.reports[r.ID]
	if !ok || p.expiresMs < r.AtMs {
		return fmt.Errorf("no report %s waits", r.ID)
	}
	delete(v.reports, r.ID)
	if r.Kind == KindReject {
		return nil
	}
	window := WindowOf(r.AtMs)
	if v.finalised != 0 {
		window = max(window, v.finalised+EpochMs)
	}
	if r.Credit != p.account || r.Weight != p.weight || r.WindowMs != window {
		return fmt.Errorf("%d of %q in the epoch of %d: the report has %d of %q, in that of %d", r.Weight, r.Credit, r.WindowMs, p.weight, p.account, window)
	}
	if v.weights[window] == nil {
		v.weights[window] = map[string]int64{}
	}
	v.weights[window][p.account] += p.weight
	return nil
}

// openShares recomputes an epoch from what was confirmed in it.
func (v *Verifier) openShares(r *Record) error {
	weights := v.weights[r.WindowMs]
	var total int64
	for _, w := range weights {
		var ok bool
		if total, ok = Add(total, w); !ok {
			return fmt.Errorf("the weights of the epoch of %d are beyond all bounds", r.WindowMs)
		}
	}
	if field := r.Epoch.Load.Fault(); field != "" {
		return fmt.Errorf("load: %s is out of bounds", field)
	}
	smoothed := v.policy.Smooth(v.smoothed, r.Epoch.Load.Index())
	pool := v.policy.Pool(smoothed)
	switch {
	case len(weights) == 0:
		return fmt.Errorf("nothing was confirmed in the epoch of %d, or it was closed before", r.WindowMs)
	case r.WindowMs != slices.Min(slices.Collect(maps.Keys(v.weights))):
		return fmt.Errorf("the epoch of %d is closed before an older one", r.WindowMs)
	case r.AtMs < r.WindowMs+EpochMs:
		return fmt.Errorf("the epoch of %d is closed at %d, before its end", r.WindowMs, r.AtMs)
	case r.Weight != total || r.Epoch.Accounts != uint64(len(weights)):
		return fmt.Errorf("%d of %d accounts, confirmed were %d of %d", r.Weight, r.Epoch.Accounts, total, len(weights))
	case r.Epoch.Smoothed != smoothed || r.Epoch.Pool != pool:
		return fmt.Errorf("a load index of %d and a pool of %d, by the formulas they are %d and %d", r.Epoch.Smoothed, r.Epoch.Pool, smoothed, pool)
	}
	v.smoothed, v.finalised = smoothed, r.WindowMs
	delete(v.weights, r.WindowMs)
	v.paying = &paying{windowMs: r.WindowMs, pool: pool, left: pool, weight: total, accounts: slices.Sorted(maps.Keys(weights)), weights: weights}
	return nil
}

// share takes in one share: those of the accounts in their order, then what is left
// for the reserve.
func (v *Verifier) share(r *Record) (code, detail string) {
	p := v.paying
	if p == nil || r.WindowMs != p.windowMs {
		return FaultRule, fmt.Sprintf("a share of the epoch of %d, which is not being paid", r.WindowMs)
	}
	account, weight, amount := Reserve, int64(0), p.left
	if p.next < len(p.accounts) {
		account = p.accounts[p.next]
		weight = p.weights[account]
		amount = Share(p.pool, weight, p.weight)
	}
	if r.Credit != account || r.Weight != weight || r.Amount != amount {
		return FaultRule, fmt.Sprintf("%d to %q for %d, it should be %d to %q for %d", r.Amount, r.Credit, r.Weight, amount, account, weight)
	}
	issuance, credit := v.accounts[Issuance], v.accounts[account]
	if issuance.Balance-issuance.Held-amount < issuance.Floor {
		return FaultRule, fmt.Sprintf("%d more would be in circulation than may be", amount)
	}
	if err := move(issuance, credit, amount); err != nil {
		return FaultRule, err.Error()
	}
	p.left -= amount
	if p.next++; p.next > len(p.accounts) || p.next == len(p.accounts) && p.left == 0 {
		v.paying = nil
	}
	return stated(r.CreditBalance, credit.Balance)
}
