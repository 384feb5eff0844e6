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

func (v *Verifier) report(r *Record, by actor) error {
	s := r.Report.Report
	if field, fault := s.Fault(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	if r.Report.ClusterID != v.clusterID {
		return fmt.Errorf("it is signed for cluster %q, this was %q", r.Report.ClusterID, v.clusterID)
	}
	if err := v.useID(by, s.ID, r.AtMs); err != nil {
		return err
	}
	account, payer := v.accounts[s.Account], v.accounts[s.Payer]
	if account == nil || account.Kind != KindAgent || account.Owner != s.AgentID {
		return fmt.Errorf("%q is no account of %q", s.Account, s.AgentID)
	}
	if account.Key != r.Report.Key {
		return fmt.Errorf("it is signed by another key than %q has by the records", s.Account)
	}
	if payer == nil || payer.Kind == KindSystem || payer.Kind == KindAgent && payer.Owner == s.AgentID {
		return fmt.Errorf("%q cannot pay for work of %q", s.Payer, s.AgentID)
	}
	if s.Weight() > v.policy.MaxWeight {
		return fmt.Errorf("a weight of %d, policy lets an account count %d", s.Weight(), v.policy.MaxWeight)
	}
	if err := v.forgetReports(r.AtMs); err != nil {
		return err
	}
	if p, waits := v.reports[s.name()]; waits && p.expiresMs >= r.AtMs {
		return fmt.Errorf("a report %s waits already", s.ID)
	}
	v.reports[s.name()] = pendingReport{account: s.Account, payer: s.Payer, weight: s.Weight(), expiresMs: r.AtMs + v.policy.ReportKeepMs}
	return nil
}

// forgetReports drops those that are over whenever as many wait as may, or twice as
// many as were left the last time: a record costs the same behind any number of them.
func (v *Verifier) forgetReports(nowMs int64) error {
	if len(v.reports) < v.sweepAt {
		return nil
	}
	maps.DeleteFunc(v.reports, func(_ reportName, p pendingReport) bool { return p.expiresMs < nowMs })
	v.sweepAt = max(MaxReports, 2*len(v.reports))
	if len(v.reports) >= MaxReports {
		return fmt.Errorf("more than %d reports wait", MaxReports)
	}
	return nil
}

// recoverReports drops what was over by the clock that was, and has the others end at
// a time at the latest.
func (v *Verifier) recoverReports(wasMs, latestMs int64) {
	maps.DeleteFunc(v.reports, func(_ reportName, p pendingReport) bool { return p.expiresMs < wasMs })
	for id, p := range v.reports {
		p.expiresMs = min(p.expiresMs, latestMs)
		v.reports[id] = p
	}
}

// confirm takes in a verdict on a report. It counts in the epoch of its time.
func (v *Verifier) confirm(r *Record, by actor) error {
	name := reportName{id: r.ID}
	if account := v.accounts[r.Credit]; account != nil {
		name.agentID = account.Owner
	}
	p, ok := v.reports[name]
	if !ok || p.expiresMs < r.AtMs || p.account != r.Credit {
		return fmt.Errorf("no report %s for %q waits", r.ID, r.Credit)
	}
	if err := v.mayConfirm(r, by, p); err != nil {
		return err
	}
	delete(v.reports, name)
	if r.Kind == KindReject {
		return nil
	}
	window := v.finalised.Next(WindowOf(r.AtMs))
	if r.Weight != p.weight || r.WindowMs != window {
		return fmt.Errorf("%d of %q in the epoch of %d: the report has %d of %q, in that of %d", r.Weight, r.Credit, r.WindowMs, p.weight, p.account, window)
	}
	return v.count(window, p)
}

// count adds a weight to an epoch, within the bounds of both.
func (v *Verifier) count(window int64, p pendingReport) error {
	epoch := v.weights[window]
	if epoch == nil {
		epoch = map[string]int64{}
		v.weights[window] = epoch
	}
	have, known := epoch[p.account]
	if !known {
		v.counted++
	}
	epoch[p.account] = have + p.weight
	switch {
	case len(v.weights) > MaxOpenEpochs || len(epoch) > MaxEpochAccounts || v.counted > MaxEpochWeights:
		return fmt.Errorf("%d open epochs, %d accounts in that of %d, %d in all: beyond all bounds", len(v.weights), len(epoch), window, v.counted)
	case have+p.weight > v.policy.MaxWeight:
		return fmt.Errorf("%q counts %d in the epoch of %d, policy lets it %d", p.account, have+p.weight, window, v.policy.MaxWeight)
	}
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
	pool := min(v.policy.Pool(smoothed), available(v.accounts[Issuance]))
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
	v.smoothed, v.finalised = smoothed, v.finalised.With(r.WindowMs)
	v.counted -= len(weights)
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
	account, weight, share := Reserve, int64(0), p.left
	if p.next < len(p.accounts) {
		account = p.accounts[p.next]
		weight = p.weights[account]
		share = Share(p.pool, weight, p.weight)
	}
	issuance, credit := v.accounts[Issuance], v.accounts[account]
	amount := Payable(share, credit.Balance)
	if r.Withheld != NotWithheld {
		amount = 0
	}
	switch {
	case r.Credit != account || r.Weight != weight || r.Amount != amount:
		return FaultRule, fmt.Sprintf("%d to %q for %d, it should be %d to %q for %d", r.Amount, r.Credit, r.Weight, amount, account, weight)
	case r.Withheld > WithheldAgent || (r.Withheld == WithheldFrozen) != credit.Frozen || r.Withheld != NotWithheld && account == Reserve:
		return FaultRule, fmt.Sprintf("the share of %q is withheld: %s, it is frozen: %t", account, r.Withheld, credit.Frozen)
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

func available(b *Balance) int64 { return b.Balance - b.Held - b.Floor }
