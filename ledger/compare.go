package ledger

import "fmt"

// Live is what somebody says is live in a ledger: all of it follows from the records.
type Live struct {
	ClockMs   int64
	Policy    Policy
	Smoothed  int64 // load index, millionths
	Finalised Windows
	Accounts  []Balance
	Holds     []Hold
	Reports   []WaitingReport
	Weights   []EpochWeight
	IDFloorMs int64 // ids of up to then are refused
	// Refuses tells whether a caller, as [Record] names it without its standing, can
	// use an id no more; nil is not asked.
	Refuses func(caller string, id ID) bool
}

// Hold is one that is pending.
type Hold struct {
	ID            ID
	Debit, Credit string
	Amount        int64
	ExpiresMs     int64
}

// WaitingReport is a report that waits for a verdict.
type WaitingReport struct {
	AgentID        string
	ID             ID
	Account, Payer string
	Weight         int64
	ExpiresMs      int64
}

// EpochWeight is what an account did in an epoch that is open.
type EpochWeight struct {
	WindowMs int64
	Account  string
	Weight   int64
}

// Compare holds what somebody has against what the records come to. The error is a
// [RecordError].
func (v *Verifier) Compare(have Live) error {
	for _, differs := range []func(Live) string{v.differsInBook, v.differsInAccounts, v.differsInHolds, v.differsInReports, v.differsInWeights, v.differsInIDs} {
		if detail := differs(have); detail != "" {
			return &RecordError{Seq: v.seq, Code: FaultBalance, Detail: detail}
		}
	}
	return nil
}

func (v *Verifier) differsInBook(have Live) string {
	switch {
	case have.Policy != v.policy:
		return fmt.Sprintf("the policy of version %d is not that of the records, version %d", have.Policy.Version, v.policy.Version)
	case have.Smoothed != v.smoothed:
		return fmt.Sprintf("the load index is %d, by the records %d", have.Smoothed, v.smoothed)
	case !have.Finalised.equal(v.finalised):
		return fmt.Sprintf("closed are the epochs %v, by the records %v", have.Finalised, v.finalised)
	case have.IDFloorMs < v.ids.floorMs:
		return fmt.Sprintf("ids of up to %d are refused, by the records of up to %d at least", have.IDFloorMs, v.ids.floorMs)
	}
	return ""
}

func (v *Verifier) differsInAccounts(have Live) string {
	if len(have.Accounts) != len(v.accounts) {
		return fmt.Sprintf("there are %d accounts, the records make %d", len(have.Accounts), len(v.accounts))
	}
	for _, a := range have.Accounts {
		if b, ok := v.accounts[a.ID]; !ok || *b != a {
			return fmt.Sprintf("%q has %d with %d held, the records come to something else", a.ID, a.Balance, a.Held)
		}
	}
	return ""
}

func (v *Verifier) differsInHolds(have Live) string {
	if len(have.Holds) != len(v.holds) {
		return fmt.Sprintf("%d holds are pending, by the records %d", len(have.Holds), len(v.holds))
	}
	for _, h := range have.Holds {
		p, ok := v.holds[h.ID]
		if want := (pendingHold{h.Debit, h.Credit, h.Amount, h.ExpiresMs}); !ok || p != want {
			return fmt.Sprintf("the hold %s of %d from %q for %q is not that of the records", h.ID, h.Amount, h.Debit, h.Credit)
		}
	}
	return ""
}

// differsInReports compares those that are not over: the others are forgotten when there
// is time to.
func (v *Verifier) differsInReports(have Live) string {
	left := 0
	for _, p := range v.reports {
		if p.expiresMs >= have.ClockMs {
			left++
		}
	}
	for _, r := range have.Reports {
		if r.ExpiresMs < have.ClockMs {
			continue
		}
		p, ok := v.reports[reportName{r.AgentID, r.ID}]
		if want := (pendingReport{r.Account, r.Payer, r.Weight, r.ExpiresMs}); !ok || p != want {
			return fmt.Sprintf("the report %s of %q for %q is not that of the records", r.ID, r.Account, r.Payer)
		}
		left--
	}
	if left != 0 {
		return fmt.Sprintf("by the records %d reports more wait for a verdict", left)
	}
	return ""
}

func (v *Verifier) differsInWeights(have Live) string {
	if len(have.Weights) != v.counted {
		return fmt.Sprintf("%d accounts count in open epochs, by the records %d", len(have.Weights), v.counted)
	}
	for _, w := range have.Weights {
		if weight, ok := v.weights[w.WindowMs][w.Account]; !ok || weight != w.Weight {
			return fmt.Sprintf("%q counts %d in the epoch of %d, by the records %d", w.Account, w.Weight, w.WindowMs, weight)
		}
	}
	return ""
}

func (v *Verifier) differsInIDs(have Live) string {
	if have.Refuses == nil {
		return ""
	}
	for _, b := range v.ids.buckets {
		for key := range b {
			if !have.Refuses(key.by.name, key.id) {
				return fmt.Sprintf("the id %s of %s could be used again", key.id, key.by.name)
			}
		}
	}
	return ""
}
