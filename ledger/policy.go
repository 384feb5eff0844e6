package ledger

import "fmt"

// Confirm says who must confirm a contribution report before it counts. Numbers are
// part of stored records and never reused.
type Confirm uint8

// The rules.
const (
	ConfirmPayer    Confirm = 0 // who pays for the work, or an operator
	ConfirmOperator Confirm = 1 // an operator
	ConfirmNobody   Confirm = 2 // a report counts as it is
)

var confirmNames = [...]string{ConfirmPayer: "payer", ConfirmOperator: "operator", ConfirmNobody: "nobody"}

// String returns the name of the rule.
func (c Confirm) String() string {
	if int(c) < len(confirmNames) {
		return confirmNames[c]
	}
	return fmt.Sprintf("rule %d", uint8(c))
}

// ParseConfirm reads what String prints.
func ParseConfirm(name string) (Confirm, error) {
	for c := range confirmNames {
		if confirmNames[c] == name {
			return Confirm(c), nil
		}
	}
	return 0, fmt.Errorf("%.40q: want payer, operator or nobody", name)
}

// Policy is what operators may tune of the ledger.
type Policy struct {
	Version      uint64  `cbor:"1,keyasint"`
	IDWindowMs   int64   `cbor:"2,keyasint"` // how old an id may be; so long each is remembered
	HoldMaxMs    int64   `cbor:"3,keyasint"` // longest life of a hold
	ReportKeepMs int64   `cbor:"4,keyasint"` // how long a report waits to be confirmed
	Confirm      Confirm `cbor:"5,keyasint"`
	BaseDaily    int64   `cbor:"6,keyasint"` // micro-credits a day at a load index of one or less
	MinDaily     int64   `cbor:"7,keyasint"`
	MaxDaily     int64   `cbor:"8,keyasint"`
	SlopeMicro   int64   `cbor:"9,keyasint"`  // growth of the day's pool with each whole index above one
	AlphaMicro   int64   `cbor:"10,keyasint"` // weight of the newest index in the moving average
	// MaxWeight is what one account may count in one epoch, in millionths of a second:
	// confirming costs a payer nothing, so no pair of them may take all of a pool.
	MaxWeight int64 `cbor:"11,keyasint"`
}

// Bounds of the policy, in milliseconds.
const (
	MinIDWindowMs = 10_000
	// MaxIDWindowMs is an hour, as the widest window of signed requests: what a clock
	// that was set back must close follows from both (fsm, "Skipped").
	MaxIDWindowMs = 3_600_000
	// MaxAheadMs is how far the time of an id may be ahead of the cluster clock.
	MaxAheadMs = 60_000
	MinLifeMs  = 1_000
	MaxLifeMs  = 90 * 24 * 3_600_000 // of holds and reports: a quarter of a year
	// MaxWeightBound keeps the weight of the fullest epoch a number that adds up.
	MaxWeightBound = MaxMicro / MaxEpochAccounts
)

// FirstPolicy is that of a ledger which its first account opens. Its figures stay for
// ever: by them the records of such ledgers are verified.
func FirstPolicy() Policy {
	return Policy{
		Version: 1, Confirm: ConfirmOperator, IDWindowMs: 600_000, HoldMaxMs: 7 * 24 * 3_600_000, ReportKeepMs: 24 * 3_600_000,
		BaseDaily: 10_000 * Micro, MinDaily: 2_500 * Micro, MaxDaily: 100_000 * Micro, SlopeMicro: 350_000, AlphaMicro: 350_000,
		MaxWeight: 48 * 3_600 * Micro,
	}
}

// DefaultPolicy has the figures of WIRE.md section 16. Operators confirm: a payer's
// word costs it nothing, and is for those who trust theirs. An account counts for 48
// processors at most, so that the longest report, a day of a graphics card, fits.
func DefaultPolicy() Policy { return FirstPolicy() }

// Fault returns the first member that is out of bounds and why, or "".
func (p Policy) Fault() (field, fault string) {
	for _, m := range []struct {
		name        string
		n, low, top int64
	}{
		{"id_window_ms", p.IDWindowMs, MinIDWindowMs, MaxIDWindowMs},
		{"hold_max_ms", p.HoldMaxMs, MinLifeMs, MaxLifeMs},
		{"report_keep_ms", p.ReportKeepMs, MinLifeMs, MaxLifeMs},
		{"confirm", int64(p.Confirm), int64(ConfirmPayer), int64(ConfirmNobody)},
		{"min_daily", p.MinDaily, epochsPerDay, MaxMicro}, // no epoch without a pool
		{"base_daily", p.BaseDaily, p.MinDaily, MaxMicro},
		{"max_daily", p.MaxDaily, p.BaseDaily, MaxMicro},
		{"slope", p.SlopeMicro, 0, 10 * Micro},
		{"alpha", p.AlphaMicro, Micro / 100, Micro},
		{"max_weight", p.MaxWeight, Micro, MaxWeightBound},
	} {
		if m.n < m.low || m.n > m.top {
			return m.name, fmt.Sprintf("%d is outside %d..%d", m.n, m.low, m.top)
		}
	}
	return "", ""
}
