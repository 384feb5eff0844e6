package ledger

import (
	"fmt"
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// apply asks the rules of the kind and takes the record in. A record that breaks
// one may have been taken in half: the verifier has failed then.
func (v *Verifier) apply(r *Record) (code, detail string) {
	if v.paying != nil && r.Kind != KindShare {
		return FaultRule, fmt.Sprintf("it stands among the shares of the epoch of %d", v.paying.windowMs)
	}
	if v.policy.Version == 0 && r.Kind != KindPolicy {
		return FaultRule, "a ledger begins with its policy"
	}
	by, ok := parseActor(r.Actor)
	if !ok || !RefAllowed(r.Ref) {
		return FaultRule, fmt.Sprintf("actor %q, ref %q: not of the form that records have", r.Actor, r.Ref)
	}
	err := v.mayAsk(r, by)
	if err != nil {
		return FaultRule, err.Error()
	}
	switch r.Kind {
	case KindPolicy:
		err = v.setPolicy(r)
	case KindAccount:
		err = v.setAccount(r.Account, by)
	case KindTransfer:
		return v.transfer(r, by)
	case KindHold:
		return v.hold(r, by)
	case KindPost, KindVoid, KindExpire:
		return v.endHold(r, by)
	case KindReport:
		err = v.report(r, by)
	case KindKey:
		err = v.setKey(r, by)
	case KindConfirm, KindReject:
		err = v.confirm(r, by)
	case KindEpoch:
		err = v.openShares(r)
	case KindShare:
		return v.share(r)
	case KindRecovery:
		err = v.recover(r)
	}
	if err != nil {
		return FaultRule, err.Error()
	}
	return "", ""
}

func (v *Verifier) setPolicy(r *Record) error {
	if field, fault := r.Policy.Fault(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	if r.Policy.Version != v.policy.Version+1 {
		return fmt.Errorf("policy version %d after %d", r.Policy.Version, v.policy.Version)
	}
	if v.policy.Version == 0 {
		for _, a := range SystemAccounts() {
			v.accounts[a.ID] = &Balance{Account: a}
		}
	}
	v.policy = *r.Policy
	return nil
}

func (v *Verifier) setAccount(a *Account, by actor) error {
	if field, fault := a.Fault(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	have, known := v.accounts[a.ID]
	owes := !known && a.Floor < 0 || known && have.Floor != a.Floor
	switch {
	case owes && !by.admin():
		return fmt.Errorf("the floor of %q is for an admin to set", a.ID)
	case !known && len(v.accounts) >= MaxAccounts:
		return fmt.Errorf("more than %d accounts", MaxAccounts)
	case !known && a.Floor > 0, known && have.Balance-have.Held < a.Floor:
		return fmt.Errorf("%q would be below its floor %d", a.ID, a.Floor)
	case !known:
		v.accounts[a.ID] = &Balance{Account: *a}
	case have.Kind != a.Kind || have.Owner != a.Owner:
		return fmt.Errorf("%q changes its owner", a.ID)
	default:
		have.Account = *a
	}
	return nil
}

// useID asks whether an id may be used at the record's time, for the first time.
func (v *Verifier) useID(by actor, id ID, nowMs int64) error {
	if fault := id.Fault(); fault != "" {
		return fmt.Errorf("id %s: %s", id, fault)
	}
	switch at := id.TimeMs(); {
	case nowMs-at > v.policy.IDWindowMs || at-nowMs > MaxAheadMs || at <= v.ids.floorMs:
		return fmt.Errorf("id %s is of %d, and this is %d", id, at, nowMs)
	}
	if fault := v.ids.use(by, id); fault != "" {
		return fmt.Errorf("id %s %s", id, fault)
	}
	return nil
}

// sides returns the accounts of a transfer or hold, from which the amount may go.
func (v *Verifier) sides(r *Record, by actor) (debit, credit *Balance, err error) {
	if err := v.useID(by, r.ID, r.AtMs); err != nil {
		return nil, nil, err
	}
	debit, credit = v.accounts[r.Debit], v.accounts[r.Credit]
	switch {
	case debit == nil || credit == nil || debit == credit:
		return nil, nil, fmt.Errorf("from %q to %q: no two accounts", r.Debit, r.Credit)
	case !by.mayDebit(debit):
		return nil, nil, fmt.Errorf("%q may not take from %q", r.Actor, debit.ID)
	case r.Amount < 1 || r.Amount > MaxMicro:
		return nil, nil, fmt.Errorf("an amount of %d", r.Amount)
	case debit.Frozen:
		return nil, nil, fmt.Errorf("%q is frozen", debit.ID)
	case debit.Balance-debit.Held-r.Amount < debit.Floor:
		return nil, nil, fmt.Errorf("%q has %d, %d held, and a floor of %d: %d cannot leave it", debit.ID, debit.Balance, debit.Held, debit.Floor, r.Amount)
	}
	return debit, credit, nil
}

func (v *Verifier) transfer(r *Record, by actor) (code, detail string) {
	debit, credit, err := v.sides(r, by)
	if err == nil {
		err = move(debit, credit, r.Amount)
	}
	if err != nil {
		return FaultRule, err.Error()
	}
	return stated(r.DebitBalance, debit.Balance, r.CreditBalance, credit.Balance)
}

func (v *Verifier) hold(r *Record, by actor) (code, detail string) {
	debit, credit, err := v.sides(r, by)
	if err != nil {
		return FaultRule, err.Error()
	}
	if r.ExpiresMs <= r.AtMs || r.ExpiresMs-r.AtMs > v.policy.HoldMaxMs {
		return FaultRule, fmt.Sprintf("a hold from %d to %d, at most %d ms", r.AtMs, r.ExpiresMs, v.policy.HoldMaxMs)
	}
	if _, pending := v.holds[r.ID]; pending || len(v.holds) >= MaxHolds {
		return FaultRule, fmt.Sprintf("the hold %s is pending, or %d others are", r.ID, MaxHolds)
	}
	debit.Held += r.Amount
	v.holds[r.ID] = pendingHold{debit: debit.ID, credit: credit.ID, amount: r.Amount, expiresMs: r.ExpiresMs}
	return stated(r.DebitHeld, debit.Held)
}

// endHold posts, voids or expires a hold. Only what expires may end it once its
// time has come, and before that only what does not.
func (v *Verifier) endHold(r *Record, by actor) (code, detail string) {
	h, ok := v.holds[r.Hold]
	switch {
	case !ok || h.debit != r.Debit:
		return FaultRule, fmt.Sprintf("no hold %s is pending on %q", r.Hold, r.Debit)
	case (r.AtMs >= h.expiresMs) != (r.Kind == KindExpire):
		return FaultRule, fmt.Sprintf("the hold lasts until %d, this is %d", h.expiresMs, r.AtMs)
	}
	delete(v.holds, r.Hold)
	debit, credit := v.accounts[h.debit], v.accounts[h.credit]
	if !by.mayDebit(debit) && !(r.Kind == KindVoid && by.owns(credit)) && r.Kind != KindExpire {
		return FaultRule, fmt.Sprintf("%q may not end a hold on %q", r.Actor, debit.ID)
	}
	debit.Held -= h.amount
	if r.Kind != KindExpire {
		if err := v.useID(by, r.ID, r.AtMs); err != nil {
			return FaultRule, err.Error()
		}
	}
	if r.Kind != KindPost {
		return stated(r.DebitHeld, debit.Held)
	}
	if r.Amount < 1 || r.Amount > h.amount || r.Credit != h.credit || debit.Frozen {
		return FaultRule, fmt.Sprintf("%d to %q of a hold of %d for %q, the account frozen: %t", r.Amount, r.Credit, h.amount, h.credit, debit.Frozen)
	}
	if err := move(debit, credit, r.Amount); err != nil {
		return FaultRule, err.Error()
	}
	return stated(r.DebitBalance, debit.Balance, r.DebitHeld, debit.Held, r.CreditBalance, credit.Balance)
}

func move(debit, credit *Balance, amount int64) error {
	after, ok := Add(credit.Balance, amount)
	if !ok {
		return fmt.Errorf("%q with %d cannot take %d more", credit.ID, credit.Balance, amount)
	}
	debit.Balance -= amount
	credit.Balance = after
	return nil
}

// stated holds pairs of a figure that a record states and the one that follows.
func stated(pairs ...int64) (code, detail string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			return FaultBalance, fmt.Sprintf("it states %d, by the records it is %d", pairs[i], pairs[i+1])
		}
	}
	return "", ""
}

// recover takes in that time may have been set back and ids forgotten.
func (v *Verifier) recover(r *Record) error {
	if r.Recovery.Epoch <= v.recovery {
		return fmt.Errorf("recovery epoch %d after %d", r.Recovery.Epoch, v.recovery)
	}
	if err := crypto.CheckID(r.Recovery.ClusterID); err != nil {
		return fmt.Errorf("the cluster that recovered: %w", err)
	}
	if r.Recovery.WasMs < v.atMs {
		return fmt.Errorf("the clock was at %d before it, and at %d at the record before", r.Recovery.WasMs, v.atMs)
	}
	v.ids.forget(r.Recovery.WasMs - v.policy.IDWindowMs)
	v.ids.forgetAfter(r.AtMs + MaxIDWindowMs)
	v.recovery, v.ids.floorMs, v.clusterID = r.Recovery.Epoch, r.Recovery.FloorMs, r.Recovery.ClusterID
	v.recoverReports(r.Recovery.WasMs, r.AtMs+v.policy.ReportKeepMs)
	v.weights = renamed(v.weights, v.finalised.Moved(slices.Collect(maps.Keys(v.weights)), WindowOf(r.AtMs)))
	return nil
}

// renamed returns a map with some of its keys exchanged.
func renamed[V any](m map[int64]V, names map[int64]int64) map[int64]V {
	out := make(map[int64]V, len(m))
	for key, value := range m {
		if name, ok := names[key]; ok {
			key = name
		}
		out[key] = value
	}
	return out
}
