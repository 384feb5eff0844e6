package ledger

import (
	"fmt"
	"maps"

	"github.com/edgecoder/edgecoder/crypto"
)

// Codes of [RecordError].
const (
	FaultForm      = "bad_record"        // no record, or not the one that was hashed
	FaultOrder     = "out_of_order"      // sequence, log index or time run backwards
	FaultLink      = "hash_chain_break"  // it does not follow the record before
	FaultSignature = "signature_invalid" // of a contribution report
	FaultRule      = "rule_broken"       // no ledger that keeps its rules makes it
	FaultBalance   = "balance_mismatch"  // it states another balance than follows from the records
	FaultHead      = "head_mismatch"     // the records end elsewhere than they should
	FaultSum       = "sum_not_zero"
)

// RecordError names the first bad record. It means that somebody is lying or
// something is damaged.
type RecordError struct {
	Seq    uint64 // place of the record, from 1; of head_mismatch and sum_not_zero how many are good
	Kind   Kind   // 0 when it is not known
	Code   string // one of the Fault constants
	Detail string // for people
}

// Error names place, kind, code and detail.
func (e *RecordError) Error() string {
	if e.Kind == 0 {
		return fmt.Sprintf("ledger record %d: %s: %s", e.Seq, e.Code, e.Detail)
	}
	return fmt.Sprintf("ledger record %d (%s): %s: %s", e.Seq, e.Kind, e.Code, e.Detail)
}

// Checked is a record whose own hash and signature are right. Only CheckRecord makes
// one: it is what takes time, and records can be checked in any order, on all processors.
type Checked struct {
	r    Record
	code string // "" if it is good
	err  error
}

// CheckRecord checks what a record says by itself: its form, its hash, and the
// signature of a contribution report. What is wrong comes out when it is added.
func CheckRecord(data []byte) Checked {
	r, err := ParseRecord(data)
	switch {
	case err != nil:
		return Checked{r: r, code: FaultForm, err: err}
	case r.Kind == KindReport && !r.Report.Verify():
		return Checked{r: r, code: FaultSignature, err: fmt.Errorf("the report %s is not signed by the key it carries", r.Report.Report.ID)}
	}
	return Checked{r: r}
}

// Record returns what was checked, which is not sound before it was added to a Verifier.
func (c Checked) Record() Record { return c.r }

// Balance is an account as the records make it.
type Balance struct {
	Account
	Balance int64
	Held    int64
	Key     crypto.PublicKey // that signed the newest report for it; zero before the first
}

// Verifier walks the records of a ledger from the first, and comes to every balance
// by itself: it knows the rules and nothing of who wrote the records. After a
// failure it stays failed, nothing behind a bad record can be vouched for. It keeps
// what is live in a ledger, not its past.
type Verifier struct {
	clusterID string // that reports are signed for
	seq       uint64
	index     uint64
	atMs      int64
	head      crypto.Hash
	failed    *RecordError

	policy    Policy
	accounts  map[string]*Balance
	holds     map[ID]pendingHold
	ids       recentIDs
	reports   map[reportName]pendingReport
	sweepAt   int                        // how many reports wait when those that are over are looked for
	taken     reportName                 // the report of the record before, if that was one
	weights   map[int64]map[string]int64 // by epoch and account
	smoothed  int64
	finalised Windows
	counted   int    // weights of all open epochs
	recovery  uint64 // epoch of the newest
	paying    *paying
}

type pendingHold struct {
	debit, credit string
	amount        int64
	expiresMs     int64
}

// reportName tells reports apart: ids are each agent's own.
type reportName struct {
	agentID string
	id      ID
}

func (r Report) name() reportName { return reportName{r.AgentID, r.ID} }

type pendingReport struct {
	account   string
	payer     string
	weight    int64
	expiresMs int64
}

// NewVerifier verifies the records of a ledger that was opened in a cluster: agents signed
// for that one, until a recovery record names another.
func NewVerifier(clusterID string) *Verifier {
	return &Verifier{clusterID: clusterID, head: Genesis(clusterID), accounts: map[string]*Balance{}, holds: map[ID]pendingHold{}, ids: newRecentIDs(),
		reports: map[reportName]pendingReport{}, sweepAt: MaxReports, weights: map[int64]map[string]int64{}}
}

// Add checks the next record and takes it in. The error is a *[RecordError].
func (v *Verifier) Add(data []byte) error { return v.AddChecked(CheckRecord(data)) }

// AddChecked is Add for a record that was checked by itself.
func (v *Verifier) AddChecked(c Checked) error {
	if v.failed != nil {
		return v.failed
	}
	code, detail := c.code, ""
	if c.err != nil {
		detail = c.err.Error()
	} else if code, detail = v.follows(&c.r); code == "" {
		if c.r.AtMs > v.atMs { // as a command that moves the clock does, under the policy until then
			v.ids.forget(c.r.AtMs - v.policy.IDWindowMs)
		}
		code, detail = v.apply(&c.r)
	}
	if code != "" {
		v.failed = &RecordError{Seq: v.seq + 1, Kind: c.r.Kind, Code: code, Detail: detail}
		return v.failed
	}
	if v.taken = (reportName{}); c.r.Kind == KindReport {
		v.taken = c.r.Report.Report.name()
	}
	v.seq, v.index, v.atMs, v.head = c.r.Seq, c.r.Index, c.r.AtMs, c.r.Hash
	return nil
}

// follows asks whether the record is the next one. Time and log run backwards only
// when a recovery set them back, for all to see.
func (v *Verifier) follows(r *Record) (code, detail string) {
	switch {
	case r.Seq != v.seq+1:
		return FaultOrder, fmt.Sprintf("it says that it is record %d", r.Seq)
	case r.Prev != v.head:
		return FaultLink, fmt.Sprintf("it follows %s, the record before is %s", r.Prev, v.head)
	case r.Kind == KindRecovery:
		return "", ""
	case r.Index < v.index || r.AtMs < v.atMs:
		return FaultOrder, fmt.Sprintf("log index %d and time %d after %d and %d", r.Index, r.AtMs, v.index, v.atMs)
	}
	return "", ""
}

// Seq returns how many records are good.
func (v *Verifier) Seq() uint64 { return v.seq }

// Head returns the hash of the last good record.
func (v *Verifier) Head() crypto.Hash { return v.head }

// Account returns an account as the records so far make it.
func (v *Verifier) Account(id string) (Balance, bool) {
	a, ok := v.accounts[id]
	if !ok {
		return Balance{}, false
	}
	return *a, true
}

// Circulation is what can be spent of: what was issued and not given back, and what
// accounts owe, which others have.
func (v *Verifier) Circulation() (sum int64) {
	for id, a := range v.accounts {
		if id != Issuance {
			sum += max(0, a.Balance)
		}
	}
	return sum
}

// Accounts returns how many accounts there are.
func (v *Verifier) Accounts() int { return len(v.accounts) }

// Balances returns all accounts by id.
func (v *Verifier) Balances() map[string]Balance {
	out := make(map[string]Balance, len(v.accounts))
	for id, a := range maps.All(v.accounts) {
		out[id] = *a
	}
	return out
}

// Finish compares the end of the records with the one that was claimed, by a
// checkpoint or by the file they came in, and adds up all balances.
func (v *Verifier) Finish(size uint64, head crypto.Hash) error {
	if v.failed != nil {
		return v.failed
	}
	if size != v.seq || head != v.head {
		return &RecordError{Seq: v.seq, Code: FaultHead, Detail: fmt.Sprintf("%d records end in %s, claimed are %d that end in %s", v.seq, v.head, size, head)}
	}
	if v.paying != nil {
		return &RecordError{Seq: v.seq, Code: FaultRule, Detail: "the records end in the middle of an epoch's shares"}
	}
	var sum int64 // may wrap around, and comes back
	for _, a := range v.accounts {
		sum += a.Balance
	}
	if sum != 0 {
		return &RecordError{Seq: v.seq, Code: FaultSum, Detail: fmt.Sprintf("the balances sum up to %d", sum)}
	}
	return nil
}
