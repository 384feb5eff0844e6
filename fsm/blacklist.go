package fsm

import (
	"fmt"
	"unicode/utf8"

	"github.com/edgecoder/edgecoder/crypto"
)

// Ban is a ban in force. The event itself is in history, under Seq.
type Ban struct {
	AgentID     string      `cbor:"1,keyasint"`
	EventID     string      `cbor:"2,keyasint"`
	EventHash   crypto.Hash `cbor:"3,keyasint"`
	Seq         uint64      `cbor:"4,keyasint"`
	ReasonCode  string      `cbor:"5,keyasint"`
	TimestampMs int64       `cbor:"6,keyasint"`
	ExpiresMs   int64       `cbor:"7,keyasint"` // 0: permanent
}

func (b Ban) inForce(nowMs int64) bool { return b.ExpiresMs == 0 || nowMs <= b.ExpiresMs }

func (s *State) banned(agentID string, nowMs int64) bool {
	b, ok := s.bans.get(agentID)
	return ok && b.inForce(nowMs)
}

// applyBlacklistAppend appends a linked and signed event. The signature of the
// coordinator is the leader's own and the reporter's was verified before the
// proposal; who may sign and report is asked here, at this index.
func (s *State) applyBlacklistAppend(c *change, b BlacklistAppend) Result {
	if res, ok := s.actorCan(c, CapOperate); !ok {
		return res
	}
	if res, ok := s.checkEvent(c, b); !ok {
		return res
	}
	e := &b.Event
	if err := e.Check(); err != nil {
		// What every verifier refuses to parse would spoil the chain for ever.
		return refuse(CodeInvalid, "event", "%v", err)
	}
	if e.PrevEventHash != s.meta.v.ChainHead && !plantStaleHead { // planted: accepted unseen
		return refuse(CodeStale, "prevEventHash", "the head is %s", s.meta.v.ChainHead)
	}
	hash := e.ComputeHash()
	wire := e.WireJSON()
	if e.EventHash != hash.String() || len(wire) > MaxEventBytes {
		return refuse(CodeInvalid, "eventHash", "the event does not hash to %s or exceeds %d bytes", e.EventHash, MaxEventBytes)
	}
	s.meta.v.ChainHead = e.EventHash
	s.meta.v.ChainSize++
	s.enforce(b, hash)
	c.records = append(c.records, Record{Stream: StreamBlacklist, Seq: s.meta.v.ChainSize, Index: c.index, Data: wire})
	action := "ban"
	if b.Lift {
		action = "lift"
	}
	s.record(c, action, e.AgentID, "event="+e.EventID+" reason_code="+e.ReasonCode)
	return Result{Code: CodeOK, ID: e.EventID, Chain: &ChainResult{Event: wire, Head: e.EventHash, Size: s.meta.v.ChainSize}}
}

// enforce changes the set in force: the newest event on an agent decides.
func (s *State) enforce(b BlacklistAppend, hash crypto.Hash) {
	e := &b.Event
	if b.Lift {
		s.bans.remove(e.AgentID)
		return
	}
	ban := Ban{AgentID: e.AgentID, EventID: e.EventID, EventHash: hash, Seq: s.meta.v.ChainSize,
		ReasonCode: e.ReasonCode, TimestampMs: e.TimestampMs}
	if e.ExpiresAtMs != nil {
		ban.ExpiresMs = *e.ExpiresAtMs
	}
	s.bans.put(e.AgentID, ban)
	s.expireAt(ban.ExpiresMs, expireBan, e.AgentID)
}

func (s *State) checkEvent(c *change, b BlacklistAppend) (Result, bool) {
	e := &b.Event
	if field, fault := EventFault(e); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault), false
	}
	if d := e.TimestampMs - c.atMs; d > s.policy.v.MaxSkewMs || d < -s.policy.v.MaxSkewMs {
		return refuse(CodeInvalid, "timestamp_ms", "%d is %d ms from the cluster clock %d, at most %d", e.TimestampMs, d, c.atMs, s.policy.v.MaxSkewMs), false
	}
	key, ok := s.signingKeys.get(e.SourceCoordinatorID)
	if !ok || !s.Signs(key, c.atMs) {
		return refuse(CodeInvalid, "sourceCoordinatorId", "%q is no coordinator that may sign", e.SourceCoordinatorID), false
	}
	if b.Lift {
		return s.checkLift(c, e)
	}
	if e.ExpiresAtMs != nil && *e.ExpiresAtMs <= c.atMs {
		return refuse(CodeInvalid, "expires_at_ms", "%d is not after the cluster clock %d", *e.ExpiresAtMs, c.atMs), false
	}
	if e.EndsBeforeItBegins() && s.meta.v.Level >= LevelProfiles {
		return refuse(CodeInvalid, "expires_at_ms", "%d is not after timestamp_ms %d: such an event lifts a ban", *e.ExpiresAtMs, e.TimestampMs), false
	}
	if res, ok := s.checkReporter(c, b); !ok {
		return res, false
	}
	have, banned := s.bans.get(e.AgentID)
	if banned && have.EventID == e.EventID {
		return refuse(CodeConflict, "event_id", "the event %s is in the chain already", e.EventID), false
	}
	if !banned && s.bans.full() {
		return refuse(CodeOverloaded, "", "%d bans are in force, no room for one more", MaxBans), false
	}
	return Result{}, true
}

// Signs tells whether a coordinator's key verifies at a time.
func (s *State) Signs(key SigningKey, nowMs int64) bool {
	n, member := s.coordinators.get(key.NodeID)
	return member && key.RetiredAt == 0 && n.Ring().Verifies(key.Public, nowMs)
}

// checkReporter asks at this index what the proposer could not know for sure:
// the reporter is an enrolled, active agent and the key that verified is its own.
func (s *State) checkReporter(c *change, b BlacklistAppend) (Result, bool) {
	e := &b.Event
	if e.EvidenceSignatureVerified != (b.ReporterKey != nil) {
		return refuse(CodeInvalid, "reporter_signature", "verified without a key, or a key without verification"), false
	}
	if b.ReporterKey != nil {
		// The chain carries the key for others to verify with: it must be the one that did.
		carried, err := crypto.ParsePublicKeyPEM(e.ReporterPublicKeyPEM)
		if err != nil || carried.Fingerprint() != *b.ReporterKey || e.ReporterSignature == "" {
			return refuse(CodeInvalid, "reporter_public_key", "the event does not carry the key and signature that were verified"), false
		}
		if code := s.mayAct(e.ReporterID, *b.ReporterKey, c.atMs); code != CodeOK {
			return refuse(CodeInvalid, "reporter_id", "reporter %q does not qualify: %s", e.ReporterID, code), false
		}
		return Result{}, true
	}
	if e.ReasonCode != crypto.ReasonManualReview {
		return refuse(CodeInvalid, "reporter_signature", "reason code %s needs a reporter's signature by its enrolled key; only %s does not",
			e.ReasonCode, crypto.ReasonManualReview), false
	}
	return Result{}, true
}

// checkLift holds the form of a superseding record (DESIGN.md "Blacklist").
func (s *State) checkLift(c *change, e *crypto.BlacklistEvent) (Result, bool) {
	ban, ok := s.bans.get(e.AgentID)
	switch {
	case !ok || !ban.inForce(c.atMs):
		return refuse(CodeNotFound, "agent_id", "no ban is in force on %q", e.AgentID), false
	case e.EvidenceHashSHA256 != ban.EventHash.String():
		return refuse(CodeStale, "evidence", "the ban in force is %s", ban.EventHash), false
	case e.ReasonCode != crypto.ReasonManualReview || e.ExpiresAtMs == nil || *e.ExpiresAtMs != e.TimestampMs-1 || e.EvidenceSignatureVerified:
		return refuse(CodeInvalid, "event", "a lift is a %s that expired before it began", crypto.ReasonManualReview), false
	}
	return Result{}, true
}

// EventFault returns the first member of an event that is out of form and why,
// or "". The link and the signature are not looked at.
func EventFault(e *crypto.BlacklistEvent) (field, fault string) {
	for _, f := range []struct{ name, v string }{
		{"event_id", e.EventID}, {"agent_id", e.AgentID}, {"reporter_id", e.ReporterID},
	} {
		if err := crypto.CheckID(f.v); err != nil {
			return f.name, err.Error()
		}
	}
	if !crypto.KnownReasonCode(e.ReasonCode) {
		return "reason_code", fmt.Sprintf("%q is not one of %v", e.ReasonCode, crypto.ReasonCodes())
	}
	if n := utf8.RuneCountInString(e.Reason); n < 3 || len(e.Reason) > MaxReasonBytes || !utf8.ValidString(e.Reason) {
		return "reason", fmt.Sprintf("give 3 characters to %d bytes of valid UTF-8", MaxReasonBytes)
	}
	if _, err := crypto.ParseHash(e.EvidenceHashSHA256); err != nil {
		return "evidence_sha256", err.Error()
	}
	if len(e.EvidenceRef) > MaxEvidenceRefBytes || !utf8.ValidString(e.EvidenceRef) {
		return "evidence_ref", fmt.Sprintf("at most %d bytes of valid UTF-8", MaxEvidenceRefBytes)
	}
	if err := crypto.CheckID(e.ReportedBy); err != nil {
		return "reported_by", err.Error()
	}
	if e.TimestampMs < 1 || e.TimestampMs > MaxTimeMs {
		return "timestamp_ms", "must be positive Unix milliseconds"
	}
	if e.ExpiresAtMs != nil && (*e.ExpiresAtMs < 0 || *e.ExpiresAtMs > MaxTimeMs) {
		return "expires_at_ms", fmt.Sprintf("%d is outside 0..%d", *e.ExpiresAtMs, int64(MaxTimeMs))
	}
	return "", ""
}

// Ban returns the ban in force on an agent at nowMs.
func (s *State) Ban(agentID string, nowMs int64) (Ban, bool) {
	b, ok := s.bans.get(agentID)
	return b, ok && b.inForce(nowMs)
}

// Bans returns up to limit bans in force with agent ids after the given one, in order.
func (s *State) Bans(after string, limit int, nowMs int64) []Ban {
	return s.bans.pageWhere(after, limit, func(b Ban) bool { return b.inForce(nowMs) })
}

// Chain returns the head of the chain and its length.
func (s *State) Chain() (head string, size uint64) { return s.meta.v.ChainHead, s.meta.v.ChainSize }
