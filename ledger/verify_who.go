package ledger

import "fmt"

// mayAsk tells whether the records prove that an actor may ask for one of a kind at
// all. What depends on accounts is asked with them.
func (v *Verifier) mayAsk(r *Record, by actor) error {
	ok := true
	switch r.Kind {
	case KindPolicy: // the first account, which an operator makes, opens the ledger
		ok = by.admin() || by.operator() && r.Policy.Version == 1 && *r.Policy == FirstPolicy()
	case KindAccount:
		ok = by.operator()
	case KindTransfer, KindHold, KindPost, KindVoid:
		ok = by.token() || by.standing == ByAgent
	case KindExpire, KindShare:
		ok = by == actor{}
	case KindReport:
		ok = by == actor{ByAgent, r.Report.Report.AgentID}
	case KindKey:
		ok = by.standing == ByAgent
	case KindConfirm:
		ok = by.token() || by.standing == ByAgent || by == actor{}
	case KindReject:
		ok = by.token() || by.standing == ByAgent
	case KindEpoch, KindRecovery:
		ok = by.admin() || by.standing == ByNode
	}
	if !ok {
		return fmt.Errorf("%q cannot have asked for it", r.Actor)
	}
	return nil
}

// mayConfirm asks who gave a verdict: an operator; the payer, unless policy leaves it
// to operators, and for what is alive on both sides; or policy itself, at once.
func (v *Verifier) mayConfirm(r *Record, by actor, p pendingReport) error {
	account, payer := v.accounts[p.account], v.accounts[p.payer]
	switch {
	case by.operator():
		return nil
	case by == actor{}:
		if v.policy.Confirm != ConfirmNobody || v.taken != (reportName{account.Owner, r.ID}) || account.Frozen {
			return fmt.Errorf("nobody confirmed the report %s", r.ID)
		}
		return nil
	case !by.owns(payer):
		return fmt.Errorf("%q does not pay for the report %s", r.Actor, r.ID)
	case r.Kind == KindReject:
		return nil
	case v.policy.Confirm == ConfirmOperator:
		return fmt.Errorf("by policy operators confirm, %q is none", r.Actor)
	case account.Frozen || payer.Frozen:
		return fmt.Errorf("%q confirms the report %s, an account of which is frozen", r.Actor, r.ID)
	}
	return nil
}

// setKey takes in which key an agent signs with.
func (v *Verifier) setKey(r *Record, by actor) error {
	a := v.accounts[r.Credit]
	switch {
	case a == nil || !by.owns(a):
		return fmt.Errorf("%q is no account of %q", r.Credit, r.Actor)
	case a.Key == r.Key:
		return fmt.Errorf("%q has this key already", r.Credit)
	}
	a.Key = r.Key
	return nil
}
