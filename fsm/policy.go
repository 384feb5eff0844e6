package fsm

import (
	"fmt"
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// LevelProfiles is the feature level from which the log may carry manifests,
// claims with a profile and an expiry, and a policy of profiles; and from which
// Apply holds events, epochs and clock recoveries to rules that older logs may
// not keep.
const LevelProfiles = 3

// Policy is what operators may tune; it is replicated and versioned.
type Policy struct {
	Version     uint64               `cbor:"1,keyasint"`
	RateLimit   RateLimit            `cbor:"2,keyasint"`
	MaxSkewMs   int64                `cbor:"3,keyasint"`
	AutoApprove bool                 `cbor:"4,keyasint"`
	Overrides   map[string]RateLimit `cbor:"5,keyasint,omitempty"` // by agent id
	// Profiles says which signature profiles are taken from agents without a rule
	// of their own in AgentProfiles, by agent id. Both from LevelProfiles on.
	Profiles      ProfileRule            `cbor:"6,keyasint,omitempty"`
	AgentProfiles map[string]ProfileRule `cbor:"7,keyasint,omitempty"`
	// UnsignedAgents names the agents that speak for themselves without a
	// signature, each with the id of the token that it shows instead. LegacyMesh is
	// the text of a token that every agent is told, for use among agents; "": none.
	// Both from LevelClients on.
	UnsignedAgents map[string]string `cbor:"8,keyasint,omitempty"`
	LegacyMesh     string            `cbor:"9,keyasint,omitempty"`
}

// ProfileRule says which signature profiles are taken. Numbers are part of the
// log and never reused.
type ProfileRule uint8

// The rules. Of two the higher one takes less.
const (
	ProfilesAny     ProfileRule = 0 // either: existing agents sign with the five headers
	ProfilesRFC9421 ProfileRule = 1 // HTTP message signatures alone
)

// RateLimit allows Requests in any sliding window of WindowMs.
type RateLimit struct {
	_        struct{} `cbor:",toarray"`
	Requests int64
	WindowMs int64
}

var ruleNames = [...]string{ProfilesAny: "any", ProfilesRFC9421: "rfc9421"}

// String returns the rule's name, as the API and the command line spell it.
func (r ProfileRule) String() string {
	if int(r) < len(ruleNames) {
		return ruleNames[r]
	}
	return fmt.Sprintf("rule %d", uint8(r))
}

// ParseProfileRule reads what String prints.
func ParseProfileRule(s string) (ProfileRule, error) {
	for r, name := range ruleNames {
		if s == name {
			return ProfileRule(r), nil
		}
	}
	return 0, fmt.Errorf("unknown rule %.32q: want any or rfc9421", s)
}

// DefaultPolicy is the policy of a new cluster (CONTRACT.md "Defaults").
func DefaultPolicy() Policy {
	return Policy{
		Version:   1,
		RateLimit: RateLimit{Requests: DefaultRateRequests, WindowMs: DefaultRateWindowMs},
		MaxSkewMs: DefaultSkewMs,
	}
}

func (p *Policy) limitOf(agentID string) RateLimit {
	if l, ok := p.Overrides[agentID]; ok {
		return l
	}
	return p.RateLimit
}

// SelfLimit is what one agent may ask for itself in the whole cluster.
func (p *Policy) SelfLimit() RateLimit {
	window := max(2*p.MaxSkewMs, DefaultRateWindowMs)
	return RateLimit{Requests: window * SelfPerSecond / 1000, WindowMs: window}
}

func (p *Policy) profilesOf(agentID string) ProfileRule {
	if rule, ok := p.AgentProfiles[agentID]; ok {
		return rule
	}
	return p.Profiles
}

// accepts tells whether requests of the agent may be signed in a profile.
func (p *Policy) accepts(agentID string, profile crypto.Profile) bool {
	return p.profilesOf(agentID) == ProfilesAny || profile == crypto.ProfileRFC9421
}

// ruled tells whether the policy says anything of profiles.
func (p *Policy) ruled() bool { return p.Profiles != ProfilesAny || len(p.AgentProfiles) > 0 }

// level returns the feature level that the members of the policy need.
func (p *Policy) level() uint32 {
	switch {
	case p.lenient():
		return LevelClients
	case p.ruled():
		return LevelProfiles
	}
	return 0
}

// LevelOf returns the feature level from which a cluster's log may carry a
// command: that of its kind, or of what its body has come to hold since.
func LevelOf(cmd Command) uint32 {
	level := cmd.Kind.Level()
	if cmd.Actor.Via != "" {
		level = max(level, LevelThrough)
	}
	switch cmd.Kind { // what does not decode is never logged
	case KindPolicySet:
		if b, err := BodyOf[PolicySet](cmd); err == nil {
			level = max(level, b.Policy.level())
		}
	case KindCoordinatorRemove:
		if b, err := BodyOf[CoordinatorRemove](cmd); err == nil && len(b.Next) > 0 {
			level = max(level, LevelKeys)
		}
	case KindAgentEnroll:
		if b, err := BodyOf[AgentEnroll](cmd); err == nil && len(b.EncryptionProof) > 0 {
			level = max(level, LevelClients)
		}
	case KindCoordinatorJoin:
		if b, err := BodyOf[CoordinatorJoin](cmd); err == nil && len(b.Coordinator.Through) > 0 {
			level = max(level, LevelCheckpoints)
		}
	}
	return level
}

// Validate returns the first member that is out of bounds and why, or "".
func (p *Policy) Validate() (field, fault string) {
	if f := p.RateLimit.fault(); f != "" {
		return "rate_limit", f
	}
	if p.MaxSkewMs < MinSkewMs || p.MaxSkewMs > MaxSkewMs {
		return "max_skew_ms", fmt.Sprintf("%d is outside %d..%d", p.MaxSkewMs, MinSkewMs, MaxSkewMs)
	}
	if len(p.Overrides) > MaxOverrides {
		return "overrides", fmt.Sprintf("%d overrides, at most %d", len(p.Overrides), MaxOverrides)
	}
	for _, id := range slices.Sorted(maps.Keys(p.Overrides)) {
		if err := crypto.CheckID(id); err != nil {
			return "overrides", err.Error()
		}
		limit := p.Overrides[id]
		if f := limit.fault(); f != "" {
			return "overrides." + id, f
		}
	}
	return p.profilesFault()
}

func (p *Policy) profilesFault() (field, fault string) {
	if p.Profiles > ProfilesRFC9421 {
		return "signature_profiles", fmt.Sprintf("unknown rule %d", p.Profiles)
	}
	if len(p.AgentProfiles) > MaxOverrides {
		return "agent_profiles", fmt.Sprintf("rules for %d agents, at most %d", len(p.AgentProfiles), MaxOverrides)
	}
	for _, id := range slices.Sorted(maps.Keys(p.AgentProfiles)) {
		if err := crypto.CheckID(id); err != nil {
			return "agent_profiles", err.Error()
		}
		if rule := p.AgentProfiles[id]; rule > ProfilesRFC9421 {
			return "agent_profiles." + id, fmt.Sprintf("unknown rule %d", rule)
		}
	}
	return p.clientsFault()
}

func (r RateLimit) fault() string {
	if r.Requests < 1 || r.Requests > MaxRateRequests {
		return fmt.Sprintf("requests %d is outside 1..%d", r.Requests, MaxRateRequests)
	}
	if r.WindowMs < MinRateWindowMs || r.WindowMs > MaxRateWindowMs {
		return fmt.Sprintf("window_ms %d is outside %d..%d", r.WindowMs, MinRateWindowMs, MaxRateWindowMs)
	}
	return ""
}

func (s *State) applyPolicySet(c *change, b PolicySet) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	if have := s.policy.v.Version; b.IfVersion != have {
		return refuse(CodeConflict, "version", "the policy is at version %d, not %d: read it again", have, b.IfVersion)
	}
	if field, fault := b.Policy.Validate(); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	if field, fault := s.clientTokensFault(&b.Policy, c.atMs); fault != "" {
		return refuse(CodeInvalid, field, "%s", fault)
	}
	was, next := s.policy.v, b.Policy
	next.Version = was.Version + 1
	s.policy.v = next
	s.tellToken()
	detail := next.summary(was)
	if s.meta.v.Level < LevelClients { // older logs were applied with this text
		detail = next.firstSummary()
	}
	s.record(c, "policy_set", fmt.Sprint(next.Version), detail)
	return Result{Code: CodeOK, ID: fmt.Sprint(next.Version)}
}

// maxRecorded bounds the agents that a record of LevelProfiles names.
const maxRecorded = 32

// firstSummary is what history keeps of a policy below LevelClients.
func (p *Policy) firstSummary() string {
	text := p.limitSummary()
	if !p.ruled() {
		return text
	}
	text += fmt.Sprintf(" signature_profiles=%s agent_profiles=%d", p.Profiles, len(p.AgentProfiles))
	named := 0
	for _, id := range slices.Sorted(maps.Keys(p.AgentProfiles)) {
		if rule := p.AgentProfiles[id]; rule != p.Profiles && named < maxRecorded {
			text += fmt.Sprintf(" %q=%s", id, rule)
			named++
		}
	}
	return text
}

func (p *Policy) limitSummary() string {
	return fmt.Sprintf("rate_limit=%d/%dms max_skew_ms=%d auto_approve=%t overrides=%d",
		p.RateLimit.Requests, p.RateLimit.WindowMs, p.MaxSkewMs, p.AutoApprove, len(p.Overrides))
}

// summary is what history keeps of a policy that follows another. It is part of
// the records that replicas compare, so between policies that say nothing of
// profiles it is the text that it always was.
func (p *Policy) summary(was Policy) string {
	return p.ruleSummary(was) + p.clientSummary()
}

func (p *Policy) ruleSummary(was Policy) string {
	text := p.limitSummary()
	if !p.ruled() && !was.ruled() {
		return text
	}
	text += fmt.Sprintf(" signature_profiles=%s agent_profiles=%d", p.Profiles, len(p.AgentProfiles))
	for _, change := range ruleChanges(was, *p) {
		text += " " + change
	}
	return text
}

// Policy returns the policy; its maps must not be changed.
func (s *State) Policy() Policy { return s.policy.v }
