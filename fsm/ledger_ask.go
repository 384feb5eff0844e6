package fsm

import "github.com/edgecoder/edgecoder/ledger"

// AskReport is what Apply would answer to a report at nowMs, as this replica has it:
// who proposes asks first, so that what is refused costs no entry of the log. Nothing
// changes.
func (s *State) AskReport(signed *ledger.SignedReport, nowMs int64) LedgerResult {
	r := &signed.Report
	if !s.ledger.book.known {
		return LedgerResult{Code: CodeConflict}
	}
	if field, fault := r.Fault(); fault != "" {
		return LedgerResult{Code: CodeInvalid, Field: field}
	}
	if signed.ClusterID != s.meta.v.ClusterID {
		return LedgerResult{Code: CodeInvalidSignature, Field: "signature"}
	}
	if code := s.mayAct(r.AgentID, signed.Key.Fingerprint(), nowMs); code != CodeOK {
		return LedgerResult{Code: code, Field: "agent_id"}
	}
	if first, taken := s.ReportTaken(r); taken {
		return first
	}
	by := &standing{agentID: r.AgentID, ids: idCallerOf(agentName(r.AgentID))}
	if code, field := s.ledgerIDCode(r.ID, by.ids.key(r.ID), nowMs); code != CodeOK {
		return LedgerResult{Code: code, Field: field}
	}
	code, field := s.reportCode(r, by)
	return LedgerResult{Code: code, Field: field}
}
