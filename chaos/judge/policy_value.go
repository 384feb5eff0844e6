package judge

import (
	"encoding/json"
	"maps"

	"github.com/edgecoder/edgecoder/client"
)

// Policy is what the judge needs to know of a policy.
type Policy struct {
	RateLimit   client.RateLimit            `json:"rate_limit"`
	MaxSkewMs   int64                       `json:"max_skew_ms"`
	AutoApprove bool                        `json:"auto_approve"`
	Overrides   map[string]client.RateLimit `json:"overrides,omitempty"`
}

// PolicyOf takes over what the API answered.
func PolicyOf(p client.Policy) Policy {
	return Policy{RateLimit: p.RateLimit, MaxSkewMs: p.MaxSkewMs, AutoApprove: p.AutoApprove, Overrides: maps.Clone(p.Overrides)}
}

func (p Policy) limitOf(agent string) client.RateLimit {
	if l, ok := p.Overrides[agent]; ok {
		return l
	}
	return p.RateLimit
}

// text is equal for equal policies: maps are printed in order of their keys.
func (p Policy) text() string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // plain types always encode
	}
	return string(text)
}
