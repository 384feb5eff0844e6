package fsm

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// model is what the promises say of admissions and bans, written down as
// naively as can be: lists that are walked, nothing forgotten, no buckets, no
// windows, no digests. It learns of a command's fate only where the fate is not
// its subject (was this token created?), and says itself what every claim gets
// and who is banned.
type model struct {
	t         *rapid.T
	clockMs   int64
	floorMs   int64
	policy    Policy
	agents    map[string]*modelAgent
	keys      map[string]bool // every public key ever bound
	tokens    map[string]*modelToken
	events    []modelEvent
	used      []modelUse
	spent     map[string][]int64 // admission times that an agent's window remembers
	asked     map[string][]int64 // times at which an agent asked for itself
	closed    []TimeRange        // every range that a clock recovery ever closed
	members   map[string]bool
	manifests modelManifests
	ledger    *modelLedger
	differs   map[string]Divergence // by node, or "" when nobody knows who is right
}

type modelAgent struct {
	state AgentState
	key   KeyRef
}

type modelToken struct {
	role    Role
	expires int64
	uses    int64
	revoked bool
}

type modelEvent struct {
	agent   string
	lift    bool
	expires *int64
	over    bool // its end was seen at a mark
}

// modelUse is an admitted claim.
type modelUse struct {
	claim     Claim
	index     uint64
	clockMs   int64
	forgotten bool
}

func newModel(t *rapid.T) *model {
	return &model{t: t, policy: DefaultPolicy(), agents: map[string]*modelAgent{}, keys: map[string]bool{},
		tokens: map[string]*modelToken{}, spent: map[string][]int64{}, asked: map[string][]int64{}, members: map[string]bool{}, differs: map[string]Divergence{}, ledger: newModelLedger()}
}

// follow takes in one entry of the log and checks the answer against its own.
func (m *model) follow(l logged) {
	if l.res.Code == CodeClockAhead {
		return
	}
	m.advance(l.cmd.AtMs)
	if l.cmd.Kind == KindClockRecover && l.res.OK() && !l.res.Repeated {
		m.setBack(l.cmd.AtMs)
	}
	if l.res.ClockMs != m.clockMs {
		m.t.Fatalf("index %d: the clock is %d, want %d", l.index, l.res.ClockMs, m.clockMs)
	}
	body, err := decodeBody(l.cmd)
	if err != nil {
		m.t.Fatalf("index %d: %v", l.index, err)
	}
	if b, ok := body.(ManifestAccept); ok && l.res.Repeated && l.cmd.Idem == nil {
		m.followManifest(l, b) // not from memory: it was asked all over
	}
	if l.res.Repeated {
		return // answered from memory: nothing happened
	}
	switch b := body.(type) {
	case Tick:
		if b.Round != nil {
			m.judge(l.index, *b.Round)
		}
		if b.Mark {
			m.forgetBans()
			m.forgetSpent()
			m.ledger.release(m.clockMs)
		}
	case AdmitBatch:
		m.followBatch(l, b)
	case LedgerBatch:
		m.followLedgerBatch(l, b)
	case LedgerReports:
		m.followReports(l, b)
	case LedgerConfirm:
		m.followConfirm(l, b)
	case ManifestAccept:
		m.followManifest(l, b)
	case BlacklistAppend:
		if l.res.OK() {
			m.events = append(m.events, modelEvent{agent: b.Event.AgentID, lift: b.Lift, expires: b.Event.ExpiresAtMs})
		}
	default:
		if l.res.OK() {
			m.believe(l, body)
		}
	}
}

// believe takes over what other tests check.
func (m *model) believe(l logged, body any) {
	switch b := body.(type) {
	case Genesis:
		m.tokens[b.AdminToken.ID] = &modelToken{role: b.AdminToken.Role, uses: -1}
		m.own(b.Coordinator.SigningKey.String())
		m.members[b.Coordinator.ID] = true
	case TokenCreate:
		m.tokens[b.ID] = &modelToken{role: b.Role, expires: b.ExpiresMs, uses: b.Uses}
	case TokenRevoke:
		m.tokens[b.ID].revoked = true
	case AgentEnroll:
		m.own(b.PublicKey.String())
		m.use(l.cmd.Actor.TokenID)
		state := AgentPending
		if m.policy.AutoApprove {
			state = AgentActive
		}
		if m.agents[b.AgentID] != nil {
			m.t.Fatalf("index %d: agent %s is enrolled twice", l.index, b.AgentID)
		}
		m.agents[b.AgentID] = &modelAgent{state: state, key: b.PublicKey.Fingerprint()}
	case AgentSetState:
		if m.agents[b.AgentID].state == AgentRevoked && b.State != AgentRevoked {
			m.t.Fatalf("index %d: agent %s came back from revocation", l.index, b.AgentID)
		}
		m.agents[b.AgentID].state = b.State
	case PolicySet:
		m.policy = b.Policy
	case ManifestTrustSet:
		m.trusts(b.Trust)
	case ManifestRevoke:
		m.manifests.revoke(b)
	case CoordinatorJoin:
		m.own(b.Coordinator.SigningKey.String())
		m.use(l.cmd.Actor.TokenID)
		m.remove(b.ReplaceID)
		m.members[b.Coordinator.ID] = true
	case CoordinatorRemove:
		m.remove(b.ID)
	case LedgerPolicySet, LedgerAccountSet, LedgerEpochClose:
		m.believeLedger(l, body)
	}
}

func (m *model) remove(id string) {
	delete(m.members, id)
	if id != "" {
		delete(m.differs, id)
	}
}

// setBack: the clock ran ahead and is set right. What was forgotten up to the
// floor is refused for ever, admissions pause until all that the right time
// could have signed is past, what was spent ahead counts as spent now, and
// tokens of single use are void.
func (m *model) setBack(toMs int64) {
	if toMs >= m.clockMs {
		m.t.Fatalf("the clock of %d is set back to %d", m.clockMs, toMs)
	}
	m.closed = append(m.closed, TimeRange{FromMs: toMs, ToMs: m.floorMs})
	was := m.clockMs
	m.clockMs, m.floorMs = toMs, toMs+m.policy.MaxSkewMs
	m.ledger.setBack(was, toMs, m.floorMs)
	for _, times := range m.spent {
		for i := range times {
			times[i] = min(times[i], toMs)
		}
	}
	for id, t := range m.tokens {
		if t.role == RoleCoordinator || t.role == RoleObserver || t.role == RoleEdge || t.role == RoleAgent {
			delete(m.tokens, id)
		}
	}
}

// shut tells whether a clock recovery closed a timestamp.
func (m *model) shut(timestampMs int64) bool {
	return slices.ContainsFunc(m.closed, func(r TimeRange) bool { return r.FromMs <= timestampMs && timestampMs <= r.ToMs })
}

// paused tells whether what is signed at a time could not be admitted then.
func (m *model) paused(nowMs int64) bool { return nowMs <= m.floorMs || m.shut(nowMs) }

// judge walks over all pairs of reports instead of counting.
func (m *model) judge(index uint64, r Round) {
	if r.Voters < 1 || r.Mark >= index {
		return
	}
	var zero crypto.Hash
	word := map[string]crypto.Hash{} // of each member, zero when it has two
	votes := map[string]bool{}
	for _, a := range r.Reports {
		if !m.members[a.NodeID] {
			continue
		}
		word[a.NodeID] = a.Digest
		for _, b := range r.Reports {
			if a.NodeID == b.NodeID && a.Digest != b.Digest {
				word[a.NodeID] = zero
			}
		}
		votes[a.NodeID] = votes[a.NodeID] || a.Votes
	}
	var heard []crypto.Hash
	for id, digest := range word {
		if votes[id] && digest != zero {
			heard = append(heard, digest)
		}
	}
	set := func(id string, d *Divergence) {
		switch {
		case m.differs[id].Mark > r.Mark:
		case d == nil:
			delete(m.differs, id)
		default:
			m.differs[id] = *d
		}
	}
	for _, truth := range heard {
		n := 0
		for _, other := range heard {
			if other == truth {
				n++
			}
		}
		if 2*n <= r.Voters || 2*n <= len(heard) {
			continue
		}
		set("", nil)
		for id, digest := range word {
			if digest == truth {
				set(id, nil)
			} else {
				set(id, &Divergence{NodeID: id, Mark: r.Mark, Digest: digest, Majority: truth})
			}
		}
		return
	}
	for _, digest := range heard {
		if digest != heard[0] {
			set("", &Divergence{Mark: r.Mark})
		}
	}
}

func (m *model) own(key string) {
	if m.keys[key] {
		m.t.Fatalf("the key %s is bound twice", key)
	}
	m.keys[key] = true
}

func (m *model) use(token string) {
	t := m.tokens[token]
	if t == nil || !m.inForce(t) {
		m.t.Fatalf("the token %q is used and not in force", token)
	}
	if t.uses > 0 {
		t.uses--
	}
}

func (m *model) inForce(t *modelToken) bool {
	return !t.revoked && t.uses != 0 && (t.expires == 0 || m.clockMs <= t.expires)
}

// advance forgets an admission once the whole second of its timestamp lies
// before the window; nothing at or below that second is ever admitted again.
func (m *model) advance(atMs int64) {
	if atMs <= m.clockMs {
		return
	}
	m.clockMs = atMs
	for i := range m.used {
		u := &m.used[i]
		lastOfSecond := u.claim.TimestampMs/1000*1000 + 999
		if !u.forgotten && lastOfSecond < m.clockMs-m.policy.MaxSkewMs {
			u.forgotten = true
			m.floorMs = max(m.floorMs, lastOfSecond)
		}
	}
	m.ledger.advance(m.clockMs)
}

func (m *model) limit(agent string) RateLimit {
	if l, ok := m.policy.Overrides[agent]; ok {
		return l
	}
	return m.policy.RateLimit
}

func (m *model) recent(agent string) []int64 {
	var out []int64
	for _, at := range m.spent[agent] {
		if at >= m.clockMs-m.limit(agent).WindowMs {
			out = append(out, at)
		}
	}
	return out
}

// forgetSpent: a window remembers what was in it at the last admission or mark;
// only a later widening of the window could tell the difference.
func (m *model) forgetSpent() {
	for agent := range m.spent {
		m.spent[agent] = m.recent(agent)
	}
}

// forgetBans: a ban whose end has come is dropped at a mark, and a clock that
// is set back later does not bring it back.
func (m *model) forgetBans() {
	for i := range m.events {
		if e := &m.events[i]; e.expires != nil && m.clockMs > *e.expires {
			e.over = true
		}
	}
}

func (m *model) banned(agent string) bool {
	for i := len(m.events) - 1; i >= 0; i-- {
		if e := m.events[i]; e.agent == agent {
			return !e.lift && !e.over && (e.expires == nil || m.clockMs <= *e.expires)
		}
	}
	return false
}

func (m *model) followBatch(l logged, b AdmitBatch) {
	if !l.res.OK() {
		if l.cmd.Idem == nil {
			m.t.Fatalf("index %d: a batch is %s", l.index, l.res.Code)
		}
		return
	}
	for i, c := range b.Claims {
		got := l.res.Claims[i]
		code, first := m.expect(b, c)
		if got.Code != code || got.Repeated != (first != nil) {
			m.t.Fatalf("index %d, claim %d of %s, nonce %s, %+d ms: %s repeated=%t, the model says %s repeated=%t",
				l.index, i, c.AgentID, c.Nonce, c.TimestampMs-m.clockMs, got.Code, got.Repeated, code, first != nil)
		}
		if first != nil && (got.Index != first.index || got.ClockMs != first.clockMs) {
			m.t.Fatalf("index %d, claim %d: the repeated answer names index %d, the first was %d", l.index, i, got.Index, first.index)
		}
		if code == CodeUnavailable && (got.RetryAfterMs < 1 || m.paused(m.clockMs+got.RetryAfterMs) || !m.paused(m.clockMs+got.RetryAfterMs-1)) {
			m.t.Fatalf("index %d: come back after %d ms, the floor is %d ms away, closed are %v", l.index, got.RetryAfterMs, m.floorMs-m.clockMs, m.closed)
		}
		if code == CodeRateLimited {
			m.checkRetryAfter(c.AgentID, got.RetryAfterMs)
		}
		if code == CodeOK && first == nil {
			m.admitted(l, c)
		}
	}
}

// expect is the order of DESIGN.md "Admission".
func (m *model) expect(b AdmitBatch, c Claim) (Code, *modelUse) {
	if int(c.Caller) >= len(b.Callers) {
		return CodeUnauthorized, nil
	}
	switch t := m.tokens[b.Callers[c.Caller]]; {
	case t == nil || !m.inForce(t):
		return CodeUnauthorized, nil
	case t.role != RoleVerifier && t.role != RoleOperator && t.role != RoleAdmin:
		return CodeForbidden, nil
	}
	return m.expectClaim(c, int64(len(m.recent(c.AgentID))) >= m.limit(c.AgentID).Requests)
}

// expectClaim is the word on what an agent signed, whoever asks; spent says that its
// requests are used up.
func (m *model) expectClaim(c Claim, spent bool) (Code, *modelUse) {
	if code := m.mayAct(c.AgentID, c.Key); code != CodeOK {
		return code, nil
	}
	if m.paused(m.clockMs) {
		return CodeUnavailable, nil
	}
	if m.shut(c.TimestampMs) {
		return CodeTimestampSkew, nil
	}
	d := m.clockMs - c.TimestampMs
	if d > m.policy.MaxSkewMs || -d > m.policy.MaxSkewMs || c.TimestampMs <= m.floorMs {
		return CodeTimestampSkew, nil
	}
	for i := range m.used {
		if u := &m.used[i]; !u.forgotten && u.claim.Key == c.Key && u.claim.Nonce == c.Nonce {
			if u.claim.Tag == c.Tag {
				return CodeOK, u
			}
			return CodeReplay, nil
		}
	}
	if rule, own := m.policy.AgentProfiles[c.AgentID]; c.Profile == crypto.ProfileFiveHeader && (own && rule == ProfilesRFC9421 || !own && m.policy.Profiles == ProfilesRFC9421) {
		return CodeProfileRefused, nil
	}
	if c.ExpiresMs > 0 && m.clockMs > c.ExpiresMs {
		return CodeTimestampSkew, nil
	}
	for _, u := range m.used {
		if !u.forgotten && c.ClaimID != (ClaimTag{}) && u.claim.ClaimID == c.ClaimID {
			return CodeConflict, nil
		}
	}
	if spent {
		return CodeRateLimited, nil
	}
	return CodeOK, nil
}

func (m *model) mayAct(agentID string, key KeyRef) Code {
	switch a := m.agents[agentID]; {
	case a == nil:
		return CodeUnknownAgent
	case a.state != AgentActive:
		return CodeAgentNotActive
	case a.key != key:
		return CodeInvalidSignature
	case m.banned(agentID):
		return CodeBlacklisted
	}
	return CodeOK
}

// admitted records the claim. The promise itself, apart from all rules above:
// the same key, nonce and timestamp are admitted once and never again.
func (m *model) admitted(l logged, c Claim) {
	for _, u := range m.used {
		if u.claim.Key == c.Key && u.claim.Nonce == c.Nonce && u.claim.TimestampMs == c.TimestampMs {
			m.t.Fatalf("index %d: nonce %s of %s with one timestamp is admitted again, first at index %d", l.index, c.Nonce, c.AgentID, u.index)
		}
	}
	m.used = append(m.used, modelUse{claim: c, index: l.index, clockMs: m.clockMs})
	if c.Self {
		m.asked[c.AgentID] = append(m.asked[c.AgentID], m.clockMs)
		return
	}
	m.spent[c.AgentID] = append(m.recent(c.AgentID), m.clockMs)
}

// checkRetryAfter: one millisecond before the time named there is no slot, then there is.
func (m *model) checkRetryAfter(agent string, retryMs int64) {
	limit := m.limit(agent)
	slots := func(nowMs int64) int64 {
		n := limit.Requests
		for _, at := range m.spent[agent] {
			if at >= nowMs-limit.WindowMs {
				n--
			}
		}
		return n
	}
	if retryMs < 1 || slots(m.clockMs+retryMs-1) > 0 || slots(m.clockMs+retryMs) < 1 {
		m.t.Fatalf("agent %s may retry after %d ms, but the slots are %d then and %d just before",
			agent, retryMs, slots(m.clockMs+retryMs), slots(m.clockMs+retryMs-1))
	}
}

// checkState compares what the state says of bans and sizes with the model.
func (m *model) checkState(s *State) error {
	if s.ClockMs() != m.clockMs || s.Meta().NonceFloorMs != m.floorMs {
		return fmt.Errorf("clock %d and floor %d, want %d and %d", s.ClockMs(), s.Meta().NonceFloorMs, m.clockMs, m.floorMs)
	}
	remembered := 0
	for _, u := range m.used {
		if !u.forgotten {
			remembered++
		}
	}
	if n := s.Sizes()["nonces"]; n != remembered {
		return fmt.Errorf("%d nonces are remembered, want %d", n, remembered)
	}
	listed := map[string]bool{}
	for _, b := range s.Bans("", 100, m.clockMs) {
		listed[b.AgentID] = true
	}
	for _, agent := range genAgents {
		_, in := s.Ban(agent, m.clockMs)
		if want := m.banned(agent); in != want || listed[agent] != want {
			return fmt.Errorf("agent %s banned: %t, listed: %t, want %t", agent, in, listed[agent], want)
		}
	}
	if err := m.checkManifests(s); err != nil {
		return err
	}
	if err := m.checkLedger(s); err != nil {
		return err
	}
	rows := s.Divergences()
	for _, d := range rows {
		if m.differs[d.NodeID] != d {
			return fmt.Errorf("node %q is said to differ: %+v, want %+v", d.NodeID, d, m.differs[d.NodeID])
		}
	}
	if len(rows) != len(m.differs) {
		return fmt.Errorf("%d nodes differ, want %d", len(rows), len(m.differs))
	}
	if _, size := s.Chain(); size != uint64(len(m.events)) {
		return fmt.Errorf("a chain of %d, want %d", size, len(m.events))
	}
	return nil
}
