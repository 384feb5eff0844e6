package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// change is one command being applied: where it stands, who asked, and the
// history records it makes.
type change struct {
	index   uint64
	atMs    int64 // the state's clock after this command's stamp
	stampMs int64 // the stamp itself
	kind    Kind
	actor   Actor
	records []Record
	sealed  []byte // memory of the ledger's records
	keyed   bool   // under an idempotency key

	released int // holds of the ledger that were given back
}

// refuse is a Result that changes nothing.
func refuse(code Code, field, format string, args ...any) Result {
	return Result{Code: code, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// Apply applies one command at a log index. Every refusal is data in the
// result; a command that cannot be understood is an error, on which the node
// must stop, because skipping what others applied is divergence.
func (s *State) Apply(index uint64, cmd Command) (Result, []Record, error) {
	if index <= s.meta.v.Index {
		return Result{}, nil, fmt.Errorf("fsm: log index %d after %d: the log ran backwards", index, s.meta.v.Index)
	}
	body, err := decodeBody(cmd)
	if err != nil {
		return Result{}, nil, fmt.Errorf("fsm: log index %d, kind %d: %w", index, cmd.Kind, err)
	}
	s.meta.v.Index = index
	res, records := s.apply(index, cmd, body)
	if res.Index == 0 {
		res.Index = index
	}
	res.ClockMs = s.meta.v.ClockMs
	return res, records, nil
}

func (s *State) apply(index uint64, cmd Command, body any) (Result, []Record) {
	if s.meta.v.ClusterID == "" && cmd.Kind != KindGenesis {
		return refuse(CodeUnavailable, "", "the cluster has no genesis yet"), nil
	}
	if cmd.AtMs > MaxTimeMs {
		return refuse(CodeClockAhead, "", "stamped %d, beyond any time", cmd.AtMs), nil
	}
	if tick, ok := body.(Tick); ok {
		c := &change{index: index, kind: cmd.Kind}
		return s.applyTick(c, cmd, tick), c.records
	}
	if !s.stampAllowed(cmd.AtMs) {
		return refuse(CodeClockAhead, "", "stamped %d ms ahead of the cluster clock, at most %d: check the leader's clock",
			cmd.AtMs-s.meta.v.ClockMs, MaxAheadMs), nil
	}
	if plantLocalTime {
		cmd.AtMs = plantedNowMs() // planted: what the leader stamped is passed over
	}
	s.advance(cmd.AtMs)
	if cmd.Idem != nil && cmd.Kind == KindAdmitBatch {
		// Claims have ids of their own; a remembered batch would have no verdicts.
		return refuse(CodeInvalid, "", "admissions take claim ids, not an idempotency key"), nil
	}
	if cmd.Idem != nil && cmd.Kind.answersEach() && cmd.Kind != KindLedgerBatch {
		return refuse(CodeInvalid, "", "reports and confirmations are told apart by their ids, they take no idempotency key"), nil
	}
	if cmd.Idem != nil {
		if res, seen := s.remembered(*cmd.Idem, cmd.Actor); seen {
			return res, nil
		}
	}
	if res, ok := s.checkVia(cmd.Actor); !ok {
		return res, nil
	}
	c := &change{index: index, atMs: s.meta.v.ClockMs, stampMs: cmd.AtMs, kind: cmd.Kind, actor: cmd.Actor, keyed: cmd.Idem != nil}
	res := tenants[cmd.Kind].apply(s, c, body)
	s.ledger.accounts.settle()
	if cmd.Idem != nil && res.OK() {
		s.remember(*cmd.Idem, c, res)
	}
	return res, c.records
}

// stampAllowed holds the clock rule: one bad stamp would age everything for good.
func (s *State) stampAllowed(atMs int64) bool {
	clock := s.meta.v.ClockMs
	return clock == 0 || atMs <= clock || atMs-clock <= MaxAheadMs // in this order nothing overflows
}

// advance moves the clock to max(clock, atMs) and drops what it closed.
func (s *State) advance(atMs int64) {
	if atMs <= s.meta.v.ClockMs {
		return
	}
	s.meta.v.ClockMs = atMs
	floor := s.nonces.dropBefore(atMs - s.policy.v.MaxSkewMs)
	s.meta.v.NonceFloorMs = max(s.meta.v.NonceFloorMs, floor)
	s.dropIDs()
}

// applyTick moves the clock. The first tick of a term may pass MaxAheadMs when
// the wall times it carries, of a majority of voters, support its stamp.
func (s *State) applyTick(c *change, cmd Command, t Tick) Result {
	if cmd.Term != 0 && t.Term > cmd.Term {
		return refuse(CodeInvalid, "term", "a tick of term %d in term %d", t.Term, cmd.Term)
	}
	first := t.Term > s.meta.v.TickTerm
	if !s.stampAllowed(cmd.AtMs) && !(first && majoritySupports(cmd.AtMs, t)) {
		return refuse(CodeClockAhead, "", "tick %d ms ahead of the cluster clock without a majority of wall times", cmd.AtMs-s.meta.v.ClockMs)
	}
	if !s.stampAllowed(cmd.AtMs) {
		s.rememberJump(cmd.AtMs)
	}
	s.meta.v.TickTerm = max(s.meta.v.TickTerm, t.Term)
	s.advance(cmd.AtMs)
	if t.Round != nil {
		s.judgeRound(*t.Round)
	}
	s.hearAuditHeads(t.Heads)
	if t.Mark {
		c.atMs = s.meta.v.ClockMs
		s.releaseHolds(c, MaxReleases)
		s.purgeExpired()
		s.ledger.purgeReports(s.meta.v.ClockMs)
		s.settleKeys(c.index)
		s.windows.prune(s.meta.v.ClockMs, s.policy.v.limitOf)
		s.selves.prune(s.meta.v.ClockMs, func(string) RateLimit { return s.policy.v.SelfLimit() })
		marks := append(slices.Clone(s.marks.v), Mark{Index: c.index, Digest: s.Digest()})
		s.marks.v = marks[max(0, len(marks)-MaxMarks):]
	}
	return Result{Code: CodeOK}
}

func majoritySupports(atMs int64, t Tick) bool {
	seen := map[string]bool{}
	for _, w := range t.Walls {
		if d := w.WallMs - atMs; d >= -MaxClockSpreadMs && d <= MaxClockSpreadMs {
			seen[w.NodeID] = true
		}
	}
	return t.Voters > 0 && len(seen) > t.Voters/2
}

// actorCan checks, at this index, that the token behind a command is in force
// and allows it. Nothing is decided on what the proposing node saw earlier.
func (s *State) actorCan(c *change, need Capability) (Result, bool) {
	t, ok := s.tokens.get(c.actor.TokenID)
	if !ok || !t.inForce(c.atMs) {
		return refuse(CodeUnauthorized, "", "the token is unknown, expired, used up or revoked"), false
	}
	if !t.Role.Can(need) {
		return refuse(CodeForbidden, "", "a token of role %s may not do this", t.Role), false
	}
	return Result{}, true
}

// record adds an administrative action to history.
func (s *State) record(c *change, action, subject, detail string) {
	data, err := Encode(AdminRecord{Index: c.index, AtMs: c.atMs, Actor: c.actor, Action: action, Subject: subject, Detail: detail})
	if err != nil {
		panic(fmt.Sprintf("fsm: encode admin record: %v", err)) // plain strings and integers always encode
	}
	s.meta.v.AdminSize++
	c.records = append(c.records, Record{Stream: StreamAdmin, Seq: s.meta.v.AdminSize, Index: c.index, Data: data})
}

func (s *State) applyGenesis(c *change, g Genesis) Result {
	if s.meta.v.ClusterID != "" {
		return refuse(CodeConflict, "cluster_id", "the cluster %s exists already", s.meta.v.ClusterID)
	}
	if res, ok := s.checkGenesis(c, g); !ok {
		return res
	}
	s.meta.v.ClusterID, s.meta.v.Epoch, s.meta.v.Level, s.meta.v.CACert = g.ClusterID, 1, g.Level, g.CACert
	c.actor = Actor{NodeID: g.Coordinator.ID}
	s.putToken(c, g.AdminToken)
	s.putCoordinator(c, g.Coordinator)
	s.record(c, "genesis", g.ClusterID, "")
	return Result{Code: CodeOK, ID: g.ClusterID}
}

// checkGenesis holds the first records to the rules of all later ones: nobody
// could mend them, and without an admin token nobody could do anything.
func (s *State) checkGenesis(c *change, g Genesis) (Result, bool) {
	if err := crypto.CheckID(g.ClusterID); err != nil {
		return refuse(CodeInvalid, "cluster_id", "%v", err), false
	}
	if len(g.CACert) > MaxCACertBytes {
		return refuse(CodeTooLarge, "ca_cert", "%d bytes, at most %d", len(g.CACert), MaxCACertBytes), false
	}
	if c.atMs < 1 {
		return refuse(CodeInvalid, "at_ms", "genesis carries no time"), false
	}
	if res, ok := s.checkToken(c, g.AdminToken); !ok {
		return res, false
	}
	if g.AdminToken.Role != RoleAdmin {
		return refuse(CodeInvalid, "role", "the first token has role %q, it must be %s", g.AdminToken.Role, RoleAdmin), false
	}
	if field, fault := g.Coordinator.Fault(); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault), false
	}
	if g.Coordinator.Role != RoleCoordinator {
		return refuse(CodeInvalid, "role", "the first node has role %q, it must be %s", g.Coordinator.Role, RoleCoordinator), false
	}
	return Result{}, true
}
