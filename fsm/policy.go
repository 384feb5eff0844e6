package fsm

import (
	"fmt"
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// LevelProfiles is the feature level from which Apply holds events, epochs and
// clock recoveries to rules that older logs may not keep.
const LevelProfiles = 3

// Policy is what operators may tune; it is replicated and versioned.
type Policy struct {
	Version     uint64               `cbor:"1,keyasint"`
	RateLimit   RateLimit            `cbor:"2,keyasint"`
	MaxSkewMs   int64                `cbor:"3,keyasint"`
	AutoApprove bool                 `cbor:"4,keyasint"`
	Overrides   map[string]RateLimit `cbor:"5,keyasint,omitempty"` // by agent id
}

// RateLimit allows Requests in any sliding window of WindowMs.
type RateLimit struct {
	_        struct{} `cbor:",toarray"`
	Requests int64
	WindowMs int64
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
	return "", ""
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
	next := b.Policy
	next.Version = s.policy.v.Version + 1
	s.policy.v = next
	s.record(c, "policy_set", fmt.Sprint(next.Version), fmt.Sprintf("rate_limit=%d/%dms max_skew_ms=%d auto_approve=%t overrides=%d",
		next.RateLimit.Requests, next.RateLimit.WindowMs, next.MaxSkewMs, next.AutoApprove, len(next.Overrides)))
	return Result{Code: CodeOK, ID: fmt.Sprint(next.Version)}
}

// Policy returns the policy; its maps must not be changed.
func (s *State) Policy() Policy { return s.policy.v }
