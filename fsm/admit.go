package fsm

import "github.com/edgecoder/edgecoder/crypto"

// applyAdmitBatch decides each claim in order. The tokens that asked are
// checked once each at this index.
func (s *State) applyAdmitBatch(c *change, b AdmitBatch) Result {
	if len(b.Claims) > MaxClaims || len(b.Callers) > MaxCallers {
		return refuse(CodeTooLarge, "claims", "%d claims of %d callers, at most %d of %d", len(b.Claims), len(b.Callers), MaxClaims, MaxCallers)
	}
	callers := make([]Code, len(b.Callers))
	for i, id := range b.Callers {
		callers[i] = s.callerCode(id, c.atMs)
	}
	out := make([]ClaimResult, len(b.Claims))
	for i := range b.Claims {
		claim := &b.Claims[i]
		claim.Self = int(claim.Caller) < len(b.Callers) && b.Callers[claim.Caller] == SelfCaller
		out[i] = s.admit(c, callers, claim)
	}
	return Result{Code: CodeOK, Claims: out}
}

func (s *State) callerCode(tokenID string, nowMs int64) Code {
	if tokenID == SelfCaller && s.meta.v.Level >= LevelClients {
		return CodeOK // whether the agent may act is asked of each claim
	}
	t, ok := s.tokens.get(tokenID)
	switch {
	case !ok || !t.inForce(nowMs):
		return CodeUnauthorized
	case !t.Role.Can(CapAdmit):
		return CodeForbidden
	}
	return CodeOK
}

func (s *State) admit(c *change, callers []Code, claim *Claim) ClaimResult {
	refused := func(code Code) ClaimResult { return ClaimResult{Code: code, Index: c.index, ClockMs: c.atMs} }
	if int(claim.Caller) >= len(callers) {
		return refused(CodeUnauthorized)
	}
	if code := callers[claim.Caller]; code != CodeOK {
		return refused(code)
	}
	return s.takeClaim(c, claim)
}

// takeClaim admits a claim, once.
func (s *State) takeClaim(c *change, claim *Claim) ClaimResult {
	refused := func(code Code) ClaimResult { return ClaimResult{Code: code, Index: c.index, ClockMs: c.atMs} }
	d := s.decide(claim, c.atMs)
	switch {
	case d.repeated:
		return ClaimResult{Code: CodeOK, Index: d.first.index, ClockMs: d.first.clockMs, Repeated: true}
	case d.retryAfterMs > 0:
		res := refused(d.code)
		res.RetryAfterMs = d.retryAfterMs
		return res
	case d.code != CodeOK:
		return refused(d.code)
	case s.nonces.full(), claim.Self && s.selves.total >= MaxSelfNonces, !claim.Self && s.windows.full():
		return refused(CodeOverloaded)
	}
	keptFrom := claim.TimestampMs
	if plantReceiptTime {
		keptFrom = c.atMs // planted: forgotten while its timestamp is still good
	}
	s.nonces.insert(keptFrom, nonceRow{key: d.key, tag: claim.Tag, claim: claim.ClaimID, index: c.index, clockMs: c.atMs})
	windows, limit := s.windowsOf(claim)
	windows.take(claim.AgentID, c.atMs, limit)
	return ClaimResult{Code: CodeOK, Index: c.index, ClockMs: c.atMs}
}

// decision is what the state says of a claim, before anything changes.
type decision struct {
	code         Code
	key          nonceKey
	repeated     bool     // the same claim was admitted before
	first        nonceRow // as it was then
	retryAfterMs int64
}

// decide asks the rules in their fixed order (DESIGN.md "Admission"): a replay
// never costs its victim quota, and a rate-limited request keeps its nonce unused.
// What is refused after the nonce was looked up was certainly never admitted
// (Code.NeverAdmitted).
func (s *State) decide(claim *Claim, nowMs int64) decision {
	if code := s.mayAct(claim.AgentID, claim.Key, nowMs); code != CodeOK {
		return decision{code: code}
	}
	if until := s.recoveringAt(nowMs); until != 0 {
		return decision{code: CodeUnavailable, retryAfterMs: until - nowMs}
	}
	if !s.inWindow(claim.TimestampMs, nowMs) {
		return decision{code: CodeTimestampSkew}
	}
	key := nonceKeyOf(claim.Key, claim.Nonce)
	if row, used := s.nonces.find(key); used {
		if row.tag == claim.Tag || plantTagIgnored { // planted: a replay gets the first answer
			return decision{code: CodeOK, key: key, repeated: true, first: row}
		}
		return decision{code: CodeReplay, key: key}
	}
	// Only now: how a request may be signed and when its signature ends is asked of
	// its admission, and never takes a first answer back.
	if !s.policy.v.accepts(claim.AgentID, claim.Profile) {
		return decision{code: CodeProfileRefused, key: key}
	}
	if claim.expired(nowMs) {
		return decision{code: CodeTimestampSkew, key: key}
	}
	if s.nonces.claimTaken(claim.ClaimID, key) {
		return decision{code: CodeConflict, key: key}
	}
	windows, limit := s.windowsOf(claim)
	if ok, retry := windows.check(claim.AgentID, nowMs, limit); !ok {
		return decision{code: CodeRateLimited, key: key, retryAfterMs: retry}
	}
	return decision{code: CodeOK, key: key}
}

// windowsOf returns what bounds a claim: what services ask of an agent has windows
// of its own, so neither side uses up the other's.
func (s *State) windowsOf(claim *Claim) (*rateWindows, RateLimit) {
	if claim.Self {
		return s.selves, s.policy.v.SelfLimit()
	}
	return s.windows, s.policy.v.limitOf(claim.AgentID)
}

// expired tells whether the signature's own end has come, equality accepted.
// Its nonce is kept for as long as its timestamp could be accepted, as always.
func (c *Claim) expired(nowMs int64) bool { return c.ExpiresMs != 0 && nowMs > c.ExpiresMs }

// mayAct asks whether the agent may act at all with this key.
func (s *State) mayAct(agentID string, key KeyRef, nowMs int64) Code {
	a, ok := s.agents.get(agentID)
	if !ok {
		return CodeUnknownAgent
	}
	if a.State != AgentActive {
		return CodeAgentNotActive
	}
	if code := a.keyCode(key, nowMs); code != CodeOK {
		return code
	}
	if s.banned(agentID, nowMs) {
		return CodeBlacklisted
	}
	return CodeOK
}

// inWindow tells whether a signed timestamp is acceptable: within the skew,
// equality accepted, and above the floor below which nonces were forgotten.
func (s *State) inWindow(timestampMs, nowMs int64) bool {
	d := nowMs - timestampMs
	skew := s.policy.v.MaxSkewMs
	return d >= -skew && d <= skew && timestampMs > s.meta.v.NonceFloorMs && !s.closedAt(timestampMs)
}

// Check answers a claim from this replica without changing anything, at the
// given cluster time. A denial stands only if the replica had applied what was
// committed when the request arrived; CodeOK means that Apply must decide.
func (s *State) Check(claim *Claim, nowMs int64) ClaimResult {
	d := s.decide(claim, nowMs)
	return ClaimResult{Code: d.code, Index: s.meta.v.Index, ClockMs: nowMs, Repeated: d.repeated, RetryAfterMs: d.retryAfterMs}
}

// CheckCaller tells whether a token may ask for admissions.
func (s *State) CheckCaller(tokenID string, nowMs int64) Code { return s.callerCode(tokenID, nowMs) }

// IsReplay tells whether the nonce is used by another claim than this one: a
// refusal that is final on any replica, however old.
func (s *State) IsReplay(claim *Claim) bool {
	row, used := s.nonces.find(nonceKeyOf(claim.Key, claim.Nonce))
	return used && row.tag != claim.Tag && !plantTagIgnored
}

// AgentKeys returns the public keys of an agent, expired ones too: whether one
// is valid at the clock is for Apply.
func (s *State) AgentKeys(agentID string) ([]crypto.PublicKey, bool) {
	a, ok := s.agents.get(agentID)
	if !ok {
		return nil, false
	}
	keys := make([]crypto.PublicKey, 0, len(a.Keys))
	for _, k := range a.Keys {
		keys = append(keys, k.Public)
	}
	return keys, true
}
