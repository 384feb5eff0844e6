package fsm

import (
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/ledger"
)

// PendingReport is a contribution report until its time is over: long enough to be
// confirmed, and for a confirmation that is asked for again to get its first answer.
type PendingReport struct {
	ledger.Report               // members 1 to 8
	ExpiresMs     int64         `cbor:"9,keyasint"` // last moment
	Verdict       ReportVerdict `cbor:"10,keyasint"`
	Index         uint64        `cbor:"11,keyasint"` // entry that made or decided it
	DecidedMs     int64         `cbor:"12,keyasint"` // cluster clock at the verdict
}

// reportKey is that of a report in the table: ids are each agent's own.
func reportKey(agentID string, id ledger.ID) string { return string(id[:]) + agentID }

func (r *PendingReport) key() string { return reportKey(r.AgentID, r.ID) }

// owedKey is that of a report among those that wait, which lie together by payer.
func (r *PendingReport) owedKey() string { return r.Payer + "\x00" + r.key() }

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
	s.ledger.purgeReports(c.atMs)
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
	if signed.ClusterID != s.meta.v.ClusterID {
		return answer(CodeInvalidSignature, "signature") // it is another cluster's
	}
	if code := s.mayAct(r.AgentID, signed.Key.Fingerprint(), c.atMs); code != CodeOK {
		return answer(code, "agent_id")
	}
	if first, taken := s.ReportTaken(r); taken {
		return first
	}
	by := &standing{agentID: r.AgentID, ids: idCallerOf(agentName(r.AgentID))}
	key := by.ids.key(r.ID)
	if code, field := s.ledgerIDCode(r.ID, key, c.atMs); code != CodeOK {
		return answer(code, field)
	}
	if code, field := s.reportCode(r, by); code != CodeOK {
		return answer(code, field)
	}
	s.ledger.ids.insert(r.ID.TimeMs(), nonceRow{key: key, tag: reportTag(r), index: c.index, clockMs: c.atMs})
	s.learnKey(c, r, signed.Key)
	s.seal(c, &ledger.Record{Kind: ledger.KindReport, Actor: agentName(r.AgentID), Report: signed})
	pending := PendingReport{Report: *r, ExpiresMs: c.atMs + s.ledger.book.v.Policy.ReportKeepMs, Index: c.index}
	if s.ledger.book.v.Policy.Confirm == ledger.ConfirmNobody {
		s.count(c, &pending, "")
	}
	s.ledger.putReport(pending)
	return answer(CodeOK, "")
}

// learnKey leaves a record of which key the reports for an account are signed with
// from here on, so that whoever has the records alone knows whose signature it is.
func (s *State) learnKey(c *change, r *ledger.Report, key crypto.PublicKey) {
	row := s.ledger.accounts.get(r.Account)
	if row.Key == key {
		return
	}
	row.Key = key
	s.ledger.accounts.changed(row)
	s.seal(c, &ledger.Record{Kind: ledger.KindKey, Actor: agentName(r.AgentID), Credit: r.Account, Key: key})
}

func (l *ledgerState) putReport(r PendingReport) {
	key := r.key()
	l.reports.put(key, r)
	l.indexReport(key, r)
	l.owe(&r)
}

func (l *ledgerState) dropReport(key string, r PendingReport) {
	l.reports.remove(key)
	l.reportEnds.drop(key)
	l.owed.remove(r.owedKey())
	l.accounts.get(r.Account).reports--
	l.accounts.get(r.Payer).pays--
}

func (l *ledgerState) indexReport(key string, r PendingReport) {
	account, payer := l.accounts.get(r.Account), l.accounts.get(r.Payer)
	if account != nil && payer != nil { // else of a damaged snapshot: Validate refuses it
		account.reports++
		payer.pays++
		l.reportEnds.add(key, r.ExpiresMs)
	}
}

// owe keeps the list of the reports that wait for a verdict.
func (l *ledgerState) owe(r *PendingReport) {
	l.owed.remove(r.owedKey())
	if r.Verdict == ReportPending {
		l.owed.add(r.owedKey())
	}
}

// reindexReports makes what is derived from the reports anew, after a restore.
func (l *ledgerState) reindexReports() {
	l.reportEnds, l.owed = newEndIndex(), idList{}
	for _, row := range l.accounts.m {
		row.reports, row.pays = 0, 0
	}
	for key, r := range l.reports.m {
		l.indexReport(key, r)
		l.owe(&r)
	}
}

// purgeReports forgets reports whose time is over, the earliest first, up to a bound.
// Those that wait for it are none any more already.
func (l *ledgerState) purgeReports(nowMs int64) {
	for range MaxReportPurges {
		key, ok := l.reportEnds.first(nowMs)
		if !ok {
			return
		}
		l.dropReport(key, l.reports.m[key])
	}
}

// decide gives a report its verdict. It is remembered for as long as the same verdict
// may be asked for again: what is decided makes room.
func (l *ledgerState) decide(r PendingReport, c *change, verdict ReportVerdict) PendingReport {
	r.Verdict, r.Index, r.DecidedMs = verdict, c.index, c.atMs
	r.ExpiresMs = min(r.ExpiresMs, c.atMs+l.book.v.Policy.IDWindowMs)
	return r
}

// reportTag stands for the content of a report.
func reportTag(r *ledger.Report) ClaimTag {
	content := r.Sum()
	return ClaimTag(content[:16])
}

// ReportTaken returns the first answer to a report that was taken in before. It is
// that of every replica which has it: nobody need ask the log again.
func (s *State) ReportTaken(r *ledger.Report) (first LedgerResult, taken bool) {
	row, used := s.ledger.ids.find(r.ID.TimeMs(), idCallerOf(agentName(r.AgentID)).key(r.ID))
	if !used || row.tag != reportTag(r) {
		return LedgerResult{}, false
	}
	return LedgerResult{Code: CodeOK, Index: row.index, ClockMs: row.clockMs, Repeated: true}, true
}

// reportCode asks what depends on the accounts that a report names, and for room.
func (s *State) reportCode(r *ledger.Report, by *standing) (Code, string) {
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
	case payer.Kind == ledger.KindSystem:
		return CodeInvalid, "payer" // whom nobody speaks for
	case r.Weight() > l.book.v.Policy.MaxWeight:
		return CodeInvalid, "duration_ms" // more than an account may count in an epoch: it is reported in parts
	case !l.ids.room(by, 1):
		return CodeOverloaded, "id"
	case !l.roomForReport(account, payer):
		return CodeOverloaded, "reports"
	case account.Frozen && l.book.v.Policy.Confirm == ledger.ConfirmNobody:
		return CodeAccountFrozen, "account"
	case l.book.v.Policy.Confirm == ledger.ConfirmNobody:
		return s.countCode(r.Account, r.Weight())
	}
	return CodeOK, ""
}

// applyLedgerConfirm has reports count or rejects them, each by itself.
func (s *State) applyLedgerConfirm(c *change, b LedgerConfirm) Result {
	if len(b.Reports) > MaxLedgerEntries {
		return refuse(CodeTooLarge, "reports", "%d reports, at most %d", len(b.Reports), MaxLedgerEntries)
	}
	by := b.By
	if by.AgentID == "" {
		by = LedgerCaller{TokenID: c.actor.TokenID}
	}
	if res, ok := s.ledgerOpen(); !ok {
		return res
	}
	caller := s.ledgerCaller(c, &by)
	if caller.code != CodeOK {
		return refuse(caller.code, "", "whoever asks may not act at all")
	}
	out := make([]LedgerResult, len(b.Reports))
	for i := range b.Reports {
		out[i] = s.confirm(c, &caller, &b.Reports[i], b.Reject)
	}
	return Result{Code: CodeOK, Ledger: out}
}

func (s *State) confirm(c *change, caller *standing, name *ReportName, reject bool) LedgerResult {
	answer := func(code Code, field string) LedgerResult {
		return LedgerResult{Code: code, Field: field, Index: c.index, ClockMs: c.atMs}
	}
	r, ok := s.ledger.reports.get(reportKey(name.AgentID, name.ID))
	if !ok || r.ExpiresMs < c.atMs {
		return answer(CodeNotFound, "id")
	}
	if r.Sum() != name.Sum {
		return answer(CodeConflict, "sum") // another report than the one that is meant
	}
	if code, field := s.mayConfirm(caller, &r, reject); code != CodeOK {
		return answer(code, field)
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
	case caller.replay: // its first answer was a refusal
		return answer(CodeReplay, "")
	case reject:
		r = s.ledger.decide(r, c, ReportRejected)
		s.seal(c, &ledger.Record{Kind: ledger.KindReject, Actor: caller.actor, ID: r.ID, Credit: r.Account})
	default:
		if code, field := s.countCode(r.Account, r.Weight()); code != CodeOK {
			return answer(code, field)
		}
		s.count(c, &r, caller.actor)
	}
	s.ledger.dropReport(r.key(), r)
	s.ledger.putReport(r)
	return answer(CodeOK, "")
}

// mayConfirm: operators may, and whoever pays for the work unless policy leaves it
// to operators; to reject it is the payer's right under every policy. A payer has
// nothing count for an agent that may not act, nor while an account of the two is
// frozen: that is for operators to decide.
func (s *State) mayConfirm(caller *standing, r *PendingReport, reject bool) (Code, string) {
	account, payer := s.ledger.accounts.get(r.Account), s.ledger.accounts.get(r.Payer)
	switch {
	case caller.operator:
		return CodeOK, ""
	case !caller.owns(payer):
		return CodeForbidden, "id"
	case reject:
		return CodeOK, ""
	case s.ledger.book.v.Policy.Confirm == ledger.ConfirmOperator:
		return CodeForbidden, "id"
	case r.Verdict == ReportConfirmed: // which is answered as it was
		return CodeOK, ""
	case payer.Frozen:
		return CodeAccountFrozen, "payer"
	case account.Frozen:
		return CodeAccountFrozen, "account"
	}
	return s.agentCode(account.Owner), "account"
}

// agentCode tells whether an agent may act at all, whichever its key.
func (s *State) agentCode(id string) Code {
	a, ok := s.agents.get(id)
	switch {
	case !ok:
		return CodeUnknownAgent
	case a.State != AgentActive:
		return CodeAgentNotActive
	case s.banned(id, s.meta.v.ClockMs):
		return CodeBlacklisted
	}
	return CodeOK
}

func (s *State) reportFault(key string, r PendingReport) error {
	if field, fault := r.Fault(); fault != "" {
		return fmt.Errorf("%s: %s", field, fault)
	}
	switch {
	case key != r.key():
		return fmt.Errorf("it says that it is %s of %s", r.ID, shown(r.AgentID))
	case s.ledger.accounts.get(r.Account) == nil || s.ledger.accounts.get(r.Payer) == nil:
		return fmt.Errorf("of %s for %s: no two accounts", shown(r.Account), shown(r.Payer))
	case r.Verdict > ReportRejected:
		return fmt.Errorf("unknown verdict %d", r.Verdict)
	}
	return timeFault(lastTimeMs+ledger.MaxLifeMs, "its end", r.ExpiresMs, "its verdict", r.DecidedMs)
}

// PendingReports counts the reports that wait for a verdict.
func (s *State) PendingReports() int { return s.ledger.owed.n }

// ReportsOwed returns up to limit reports that wait for a verdict on an account's money,
// in the order of their keys from the one after a report; none is nil.
func (s *State) ReportsOwed(payer string, after *ReportName, limit int) (out []PendingReport) {
	from := payer + "\x00"
	prefix := from
	if after != nil {
		from += reportKey(after.AgentID, after.ID)
	}
	for _, key := range s.ledger.owed.after(from, limit) {
		key, of := strings.CutPrefix(key, prefix)
		if !of {
			break
		}
		r, _ := s.ledger.reports.get(key)
		out = append(out, r)
	}
	return out
}

// LedgerReport returns a report that can still be asked about at nowMs.
func (s *State) LedgerReport(agentID string, id ledger.ID, nowMs int64) (PendingReport, bool) {
	r, ok := s.ledger.reports.get(reportKey(agentID, id))
	return r, ok && nowMs <= r.ExpiresMs
}
