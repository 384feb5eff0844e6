package client

// The wire types of an edge, the verifier beside a service (see EdgeClient).

// Codes of an edge's answers, in AllowedAnswer.Code.
const (
	AllowedOK          = "ok"
	AllowedListed      = "allow_listed"      // the operator's own list outranks the ban
	AllowedBlacklisted = "agent_blacklisted" // a ban is in force
	AllowedStale       = "stale"             // strict: no majority vouched for the list lately enough
	AllowedHalted      = "halted"            // strict: the edge saw two lists that contradict each other
	AllowedUnknown     = "no_list"           // no list was ever verified
)

// Modes of an edge.
const (
	EdgeStrict     = "strict"      // denies once its lease ran out
	EdgeBestEffort = "best_effort" // answers on, and marks it
)

// AllowedAnswer says whether an agent may act, as far as the blacklist decides it. It is no admission: signature, nonce and limits are for
// POST /v1/admissions.
type AllowedAnswer struct {
	AgentID     string `json:"agent_id"`
	Allowed     bool   `json:"allowed"`
	Code        string `json:"code"`
	Seq         uint64 `json:"seq,omitempty"`           // of the ban in the chain
	ExpiresAtMs int64  `json:"expires_at_ms,omitempty"` // of the ban; absent: permanent
}

// Freshness says what an edge's answers rest on.
type Freshness struct {
	Mode        string `json:"mode"`
	Fresh       bool   `json:"fresh"`         // a majority vouched for the list within the lease; answers of best_effort go on without
	LeaseLeftMs int64  `json:"lease_left_ms"` // 0: it ran out
	AgeMs       int64  `json:"age_ms"`        // since the majority vouched, by the edge's clock; -1: not since the edge started
	ClockMs     int64  `json:"clock_ms"`      // the time that expiries are held against
	Epoch       uint64 `json:"epoch"`
	Size        uint64 `json:"size"` // events in the chain
	Root        string `json:"root"` // of the tree over them
	ChainHead   string `json:"chain_head"`
	Halted      string `json:"halted,omitempty"`
}

// Allowed is the answer of GET /v1/allowed/{agent}.
type Allowed struct {
	AllowedAnswer
	Freshness Freshness `json:"freshness"`
}

// AllowedBatch is the body of POST /v1/allowed: at most MaxBatch agents.
type AllowedBatch struct {
	AgentIDs []string `json:"agent_ids"`
}

// AllowedResults answers it in the same order, all from one position.
type AllowedResults struct {
	Results   []AllowedAnswer `json:"results"`
	Freshness Freshness       `json:"freshness"`
}

// EdgeStatus is the answer of an edge's GET /v1/status.
type EdgeStatus struct {
	Node        NodeRef   `json:"node"`
	ClusterID   string    `json:"cluster_id"`
	Version     string    `json:"version"`
	Freshness   Freshness `json:"freshness"`
	Bans        int       `json:"bans"`   // held, those that expired lately included
	Wanted      uint64    `json:"wanted"` // size that somebody told of; above size the edge lags
	Cosigners   []string  `json:"cosigners"`
	CosignerSet uint64    `json:"cosigner_set"` // version
	AllowListed int       `json:"allow_listed"`
	Source      string    `json:"source"` // that answered last
	Error       string    `json:"error,omitempty"`
}
