package fsm

import (
	"fmt"

	"github.com/edgecoder/edgecoder/ledger"
)

// PendingReport is a contribution report until its time is over: long enough to be
// confirmed, and for a confirmation that is asked for again to get its first answer.
type PendingReport struct {
	ID        ledger.ID     `cbor:"1,keyasint"`
	Account   string        `cbor:"2,keyasint"`
	Payer     string        `cbor:"3,keyasint"`
	Weight    int64         `cbor:"4,keyasint"` // millionths of a second
	ExpiresMs int64         `cbor:"5,keyasint"` // last moment
	Verdict   ReportVerdict `cbor:"6,keyasint"`
	Index     uint64        `cbor:"7,keyasint"` // entry that made or decided it
	DecidedMs int64         `cbor:"8,keyasint"` // cluster clock at the verdict
}

// ReportVerdict is what became of a report.
type ReportVerdict uint8

// The verdicts.
const (
	ReportPending   ReportVerdict = 0
	ReportConfirmed ReportVerdict = 1
	ReportRejected  ReportVerdict = 2
)

// applyLedgerReports takes in reports, each decided by itself.
func (s *State) applyLedgerReports(c *change, b LedgerReports) Result {
	if len(b.Reports) > MaxLedgerEntries {
		return refuse(CodeTooLarge, "reports", "%d reports, at most %d", len(b.Reports), MaxLedgerEntries)
	}
	if res, ok := s.ledgerOpen(); !ok {
		return res
	}
	out := make([]LedgerResult, len(b.Reports))
	for i := range b.Reports {
		out[i] = s.takeReport(c, &b.Reports[i])
	}
	return Result{Code: CodeOK, Ledger: out}
}

func (s *State) takeReport(c *change, signed *ledger.SignedReport) LedgerResult {
	answer := func(code Code, field string) LedgerResult {
		return LedgerResult{Code: code, Field: field, Index: c.index, ClockMs: c.atMs}
	}
	r := &signed.Report
	if field, fault := r.Fault(); fault != "" {
		return answer(CodeInvalid, field)
	}
	if code := s.mayAct(r.AgentID, signed.Key.Fingerprint(), c.atMs); code != CodeOK {
		return answer(code, "agent_id")
	}
	if first, taken := s.ReportTaken(r); taken {
		return first
	}
	if code, field := s.ledgerIDCode(r.ID, c.atMs); code != CodeOK {
		return answer(code, field)
	}
	if code, field := s.reportCode(r); code != CodeOK {
		return answer(code, field)
	}
	s.ledger.ids.insert(r.ID.TimeMs(), nonceRow{key: nonceKey(r.ID), tag: reportTag(r), index: c.index, clockMs: c.atMs})
	actor := "agent:" + r.AgentID
	s.seal(c, &ledger.Record{Kind: ledger.KindReport, Actor: actor, Report: signed})
	pending := PendingReport{ID: r.ID, Account: r.Account, Payer: r.Payer, Weight: r.Weight(),
		ExpiresMs: c.atMs + s.ledger.book.v.Policy.ReportKeepMs, Index: c.index}
	if s.ledger.book.v.Policy.Confirm == ledger.ConfirmNobody {
		s.count(c, &pending, actor)
	}
	s.ledger.reports.put(string(r.ID[:]), pending)
	s.expireAt(pending.ExpiresMs, expireReport, string(r.ID[:]))
	return answer(CodeOK, "")
}

// reportTag stands for the content of a report.
func reportTag(r *ledger.Report) ClaimTag {
	content := r.Sum()
	return ClaimTag(content[:16])
}

// ReportTaken returns the first answer to a report that was taken in before. It is
// that of every replica which has it: nobody need ask the log again.
func (s *State) ReportTaken(r *ledger.Report) (first LedgerResult, taken bool) {
	row, used := s.ledger.ids.find(nonceKey(r.ID))
	if !used || row.tag != reportTag(r) {
		return LedgerResult{}, false
	}
	return LedgerResult{Code: CodeOK, Index: row.index, ClockMs: row.clockMs, Repeated: true}, true
}

// reportCode asks what depends on the accounts that a report names, and for room.
func (s *State) reportCode(r *ledger.Report) (Code, string) {
	l := s.ledger
	account, payer := l.accounts.get(r.Account), l.accounts.get(r.Payer)
	switch {
	case account == nil:
		return CodeNotFound, "account"
	case account.Kind != ledger.KindAgent || account.Owner != r.AgentID:
		return CodeForbidden, "account"
	case payer == nil:
		return CodeNotFound, "payer"
	case payer.Kind == ledger.KindAgent && payer.Owner == r.AgentID:
		return CodeInvalid, "payer" // nobody confirms its own work
	case l.ids.full():
		return CodeOverloaded, "id"
	case l.reports.full():
		return CodeOverloaded, "reports"
	case l.book.v.Policy.Confirm == ledger.ConfirmNobody:
		return s.countCode(r.Account, r.Weight())
	}
	return CodeOK, ""
}

// applyLedgerConfirm has reports count or rejects them, each by itself.
func (s *State) applyLedgerConfirm(c *change, b LedgerConfirm) Result {
	if len(b.IDs) > MaxLedgerEntries {
		return refuse(CodeTooLarge, "ids", "%d reports, at most %d", len(b.IDs), MaxLedgerEntries)
	}
	by := b.By
	if by.AgentID == "" {
		by = LedgerCaller{TokenID: c.actor.TokenID}
	}
	caller := s.ledgerCaller(by, c.atMs)
	if caller.code != CodeOK {
		return refuse(caller.code, "", "whoever asks may not act at all")
	}
	if res, ok := s.ledgerOpen(); !ok {
		return res
	}
	out := make([]LedgerResult, len(b.IDs))
	for i, id := range b.IDs {
		out[i] = s.confirm(c, &caller, id, b.Reject)
	}
	return Result{Code: CodeOK, Ledger: out}
}

func (s *State) confirm(c *change, caller *standing, id ledger.ID, reject bool) LedgerResult {
	answer := func(code Code, field string) LedgerResult {
		return LedgerResult{Code: code, Field: field, Index: c.index, ClockMs: c.atMs}
	}
	key := string(id[:])
	r, ok := s.ledger.reports.get(key)
	if !ok || r.ExpiresMs < c.atMs {
		return answer(CodeNotFound, "id")
	}
	if !s.mayConfirm(caller, &r, reject) {
		return answer(CodeForbidden, "id")
	}
	want := ReportConfirmed
	if reject {
		want = ReportRejected
	}
	switch {
	case r.Verdict == want:
		return LedgerResult{Code: CodeOK, Index: r.Index, ClockMs: r.DecidedMs, Repeated: true}
	case r.Verdict != ReportPending:
		return answer(CodeConflict, "id")
	case reject:
		r.Verdict, r.Index, r.DecidedMs = ReportRejected, c.index, c.atMs
		s.seal(c, &ledger.Record{Kind: ledger.KindReject, Actor: caller.name, ID: id})
	default:
		if code, field := s.countCode(r.Account, r.Weight); code != CodeOK {
			return answer(code, field)
		}
		s.count(c, &r, caller.name)
	}
	s.ledger.reports.put(key, r)
	return answer(CodeOK, "")
}

// mayConfirm: operators may, and whoever pays for the work unless policy leaves it
// to operators; to reject it is the payer's right under every policy.
func (s *State) mayConfirm(caller *standing, r *PendingReport, reject bool) bool {
	if caller.operator {
		return true
	}
	payer := s.ledger.accounts.get(r.Payer)
	return caller.owns(payer) && (reject || s.ledger.book.v.Policy.Confirm != ledger.ConfirmOperator)
}

func (s *State) reportFault(key string, r PendingReport) error {
	switch {
	case key != string(r.ID[:]):
		return fmt.Errorf("it says that it is %s", r.ID)
	case s.ledger.accounts.get(r.Account) == nil || s.ledger.accounts.get(r.Payer) == nil:
		return fmt.Errorf("of %s for %s: no two accounts", shown(r.Account), shown(r.Payer))
	case r.Weight < 1 || r.Weight > ledger.MaxMicro:
		return fmt.Errorf("a weight of %d", r.Weight)
	case r.Verdict > ReportRejected:
		return fmt.Errorf("unknown verdict %d", r.Verdict)
	}
	return timeFault(lastTimeMs+ledger.MaxLifeMs, "its end", r.ExpiresMs, "its verdict", r.DecidedMs)
}

// PendingReports counts the reports that wait for a verdict.
func (s *State) PendingReports() (n int) {
	for _, r := range s.ledger.reports.m {
		if r.Verdict == ReportPending {
			n++
		}
	}
	return n
}

// LedgerReport returns a report that can still be asked about at nowMs.
func (s *State) LedgerReport(id ledger.ID, nowMs int64) (PendingReport, bool) {
	r, ok := s.ledger.reports.get(string(id[:]))
	return r, ok && nowMs <= r.ExpiresMs
}
