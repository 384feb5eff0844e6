// Package client speaks the EdgeCoder HTTP API: its wire types, its error
// codes, and a Go client that retries safely. It depends on nothing of the
// server, so services can embed it at no cost.
package client

import "encoding/json"

// API levels of a read (query parameter "level").
const (
	LevelLocal  = "local"  // this replica's state, possibly stale; the default
	LevelStrong = "strong" // linearizable: reflects every write acknowledged before the call
)

// Header names of the API.
const (
	HeaderIndex          = "X-Edgecoder-Index" // log index that the answer reflects
	HeaderIdempotencyKey = "Idempotency-Key"
	HeaderMeshToken      = "X-Mesh-Token" // WIRE.md section 6
)

// VerdictAdmitted and VerdictDenied are the two verdicts of an admission.
const (
	VerdictAdmitted = "admitted"
	VerdictDenied   = "denied"
)

// AdmissionRequest asks whether one signed request may act. Headers carries,
// under lower-case names, the five signature headers (WIRE.md section 2), or
// signature-input, signature, content-digest and host (RFC 9421, see package
// httpsig). A header in several lines is their values joined by ", ". The host is
// the one that the caller answers for: the Host that arrived is the sender's word.
type AdmissionRequest struct {
	Method     string            `json:"method"`
	Path       string            `json:"path"` // with "?" and the query under RFC 9421; else what was signed
	Headers    map[string]string `json:"headers,omitempty"`
	BodySHA256 string            `json:"body_sha256,omitempty"` // when given, must equal the signed one
	ClaimID    string            `json:"claim_id,omitempty"`    // chosen by the caller; the server makes one if absent
}

// Admission is the verdict on one signed request.
type Admission struct {
	Verdict      string `json:"verdict,omitempty"` // absent in a batch's entry that could not be decided
	Code         string `json:"code"`
	AgentID      string `json:"agent_id,omitempty"`
	Index        uint64 `json:"index"`
	ClockMs      int64  `json:"clock_ms"`
	ClaimID      string `json:"claim_id"`
	Repeated     bool   `json:"repeated,omitempty"`       // the first answer to the same claim, given again
	RetryAfterMs int64  `json:"retry_after_ms,omitempty"` // with rate_limited: when the next slot frees
	MaxSkewMs    int64  `json:"max_skew_ms,omitempty"`    // with timestamp_skew
	NodeClocks   string `json:"node_clocks,omitempty"`    // with timestamp_skew: how far the coordinators' wall clocks were measured to be from clock_ms
	Detail       string `json:"detail,omitempty"`
}

// AdmissionBatch is the body of POST /v1/admissions/batch, at most MaxBatch requests.
type AdmissionBatch struct {
	Requests []AdmissionRequest `json:"requests"`
}

// MaxBatch bounds the requests of one admission batch.
const MaxBatch = 1024

// AdmissionResults answers a batch in the order of its requests. An entry that
// could not be decided has Code unavailable or unknown_outcome and no verdict.
type AdmissionResults struct {
	Results []Admission `json:"results"`
}

// Status is the answer of GET /v1/status.
type Status struct {
	Node         NodeRef  `json:"node"`
	ClusterID    string   `json:"cluster_id"`
	State        string   `json:"state"` // leader, follower, candidate, shutdown
	Leader       *Leader  `json:"leader"`
	Term         uint64   `json:"term"`
	CommitIndex  uint64   `json:"commit_index"`
	AppliedIndex uint64   `json:"applied_index"`
	Digest       string   `json:"digest"`
	DigestIndex  uint64   `json:"digest_index"`
	Digests      []Mark   `json:"digests"` // the last 16 marks, oldest first
	Epoch        uint64   `json:"epoch"`
	Recovery     string   `json:"recovery,omitempty"` // id of the last recovery, which tells two epochs of one number apart
	ClockMs      int64    `json:"clock_ms"`
	ClockSkewMs  int64    `json:"clock_skew_ms"` // this node's wall clock minus the median of the voters'
	Voters       []Server `json:"voters"`
	NonVoters    []Server `json:"non_voters"`
	FeatureLevel uint32   `json:"feature_level"`
	Version      string   `json:"version"`
	Disk         *Disk    `json:"disk,omitempty"`

	SupportedLevel uint32      `json:"supported_level"` // highest feature level that this node's binary knows
	KeyAlarms      []KeyAlarm  `json:"key_alarms,omitempty"`
	LevelWaits     []LevelWait `json:"level_waits_for,omitempty"` // while feature_level is below that: who holds it back, as this node sees it

	Backup   *BackupStatus   `json:"backup,omitempty"`   // of scheduled backups, where they are switched on
	Manifest *ManifestStatus `json:"manifest,omitempty"` // of this node's binary, with --require-manifest
	Logs     []LogStatus     `json:"logs,omitempty"`     // public proofs over history, as this node holds them
	Rivals   []Rival         `json:"rivals,omitempty"`   // other copies of this cluster that were recovered apart and run: stop one side for good
	Warnings []Warning       `json:"warnings,omitempty"` // what its operator should look at
}

// Warning is something that stops nothing and that an operator should look at.
type Warning struct {
	Code   string `json:"code"`           // WarnRemoved or WarnTiming
	Node   string `json:"node,omitempty"` // id of the other server that it is about
	Detail string `json:"detail"`
}

// What a server warns of.
const (
	WarnRemoved = "removed" // another coordinator says that this server was removed
	WarnTiming  = "timing"  // another server runs with another profile of timeouts
)

// LevelWait is a member that holds the cluster's feature level back.
type LevelWait struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Level   uint32 `json:"level"`   // what its binary knows; 0 while it is silent
	Version string `json:"version"` // of that binary
	Reason  string `json:"reason"`  // LevelOlder, LevelSilent or LevelRecord
}

// Why a member holds the feature level back.
const (
	LevelOlder  = "older_binary" // its running binary is older
	LevelSilent = "silent"       // it did not answer lately, and may be older than it was
	LevelRecord = "record"       // its record is of an older binary: it describes itself anew when it is up
)

// Rival is a former member that serves a recovery of this cluster which this
// side does not know.
type Rival struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	API      string `json:"api"`
	Recovery string `json:"recovery"`
	SeenMs   int64  `json:"seen_ms"`
}

// ManifestStatus is where the manifest of a node's binary stands.
type ManifestStatus struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	SHA256    string `json:"sha256"`
	ExpiresMs int64  `json:"expires_ms"`
	State     string `json:"state"` // as in ManifestVersion; unknown: this replica has no version with the digest
}

// BackupStatus is the last word on a node's scheduled backups.
type BackupStatus struct {
	LastMs    int64  `json:"last_ms"`    // when the newest one was written; 0: none yet
	LastIndex uint64 `json:"last_index"` // log index that it reflects
	Error     string `json:"error"`      // why the last try failed; empty when it did not
}

// Disk is a node's view of the disk that its data is on.
type Disk struct {
	FreeBytes    int64   `json:"free_bytes"`
	ReserveBytes int64   `json:"reserve_bytes"` // held back for what must be written on a full disk
	Low          bool    `json:"low"`           // the node refuses writes with disk_full
	StalledMs    int64   `json:"stalled_ms"`    // age of the oldest write of the log in flight
	WriteMs      float64 `json:"write_ms"`      // median of the log writes of the last 10 s; 0: none
}

// NodeRef names a coordinator: ID is random and for ever, Name a label.
type NodeRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Leader names the leader and where its API answers.
type Leader struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	API  string `json:"api"`
}

// Server is a member of the raft configuration.
type Server struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// ClockSkewMs is its wall clock minus the median of the voters', as the node
	// that answers measured it lately; absent: it did not report.
	ClockSkewMs *int64 `json:"clock_skew_ms,omitempty"`
}

// Mark is the digest of the whole state at one log index.
type Mark struct {
	Index  uint64 `json:"index"`
	Digest string `json:"digest"`
}

// Member is a row of the gossip view.
type Member struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      string `json:"role"`
	API       string `json:"api"`
	Raft      string `json:"raft"`
	Gossip    string `json:"gossip"`
	State     string `json:"state"`    // alive, suspect, dead, left, or untrusted: alive, and its key is not enrolled
	SinceMs   int64  `json:"since_ms"` // when State last changed, by the clock of the node that answers
	ChainSize uint64 `json:"chain_size"`
	ChainHead string `json:"chain_head"`
}

// Members is the answer of GET /v1/members.
type Members struct {
	Members []Member `json:"members"`
}

// Peer is a coordinator as the replicated state knows it.
type Peer struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      string `json:"role"`    // coordinator or observer
	PeerID    string `json:"peer_id"` // id of its signing key, DESIGN.md "Blacklist"
	API       string `json:"api"`
	Raft      string `json:"raft"`
	Gossip    string `json:"gossip"`
	Suffrage  string `json:"suffrage"` // voter, nonvoter, or none while it waits
	State     string `json:"state"`    // active or removed
	JoinedMs  int64  `json:"joined_ms"`
	RemovedMs int64  `json:"removed_ms,omitempty"`
	Reason    string `json:"reason,omitempty"`  // of a removal: compromised, or silent when the cluster cleaned up by itself
	Version   string `json:"version,omitempty"` // of its binary, as it last said

	// As the node that answers sees it: healthy, lagging, stuck (its disk takes no
	// entries), silent, or unknown when it has not answered since that node started.
	Health        string  `json:"health,omitempty"`
	LastContactMs *int64  `json:"last_contact_ms,omitempty"` // milliseconds since its last answer; absent: none yet
	Lag           *uint64 `json:"lag,omitempty"`             // log entries that it was behind then
}

// Peers is the answer of GET /v1/peers.
type Peers struct {
	Peers []Peer `json:"peers"`
}

// PeerRemoved is the answer of DELETE /v1/peers/{name or id}.
type PeerRemoved struct {
	ID       string         `json:"id"`
	Index    uint64         `json:"index"`
	Repeated bool           `json:"repeated,omitempty"`
	Tokens   *TokensRevoked `json:"tokens,omitempty"` // of a compromised node, from feature level 6 on
	Ended    *KeysEnded     `json:"ended,omitempty"`  // of a compromised node, from feature level 7 on
}

// TokensRevoked tells what became of the tokens that were made through a coordinator
// that was removed as compromised, or under such a token.
type TokensRevoked struct {
	Count int      `json:"count"`
	IDs   []string `json:"ids"`            // the first 64
	Kept  string   `json:"kept,omitempty"` // the token of this request, which is one of them: make another, then revoke it
	// Joined are the coordinators that joined through it, or under such a token, and stay: remove those that nobody
	// knows. At most 64, ids.
	Joined []string `json:"joined,omitempty"`
}

// LeaderTransfer is the body of POST /v1/leader/transfer: name or id of the
// node to lead; empty: the most caught-up voter.
type LeaderTransfer struct {
	Node string `json:"node,omitempty"`
}

// LeaderTransferred is its answer: id and name of who leads now, as far as the
// node that answers knows.
type LeaderTransferred struct {
	Node string `json:"node,omitempty"`
	Name string `json:"name,omitempty"`
}

// RateLimit allows Requests in any sliding window of WindowMs.
type RateLimit struct {
	Requests int64 `json:"requests"`
	WindowMs int64 `json:"window_ms"`
}

// Policy is the answer of GET /v1/policy.
type Policy struct {
	Version     uint64               `json:"version"`
	RateLimit   RateLimit            `json:"rate_limit"`
	MaxSkewMs   int64                `json:"max_skew_ms"`
	AutoApprove bool                 `json:"auto_approve"` // enrolled agents become active at once
	Overrides   map[string]RateLimit `json:"overrides"`    // per-agent limits by agent id

	SignatureProfiles string            `json:"signature_profiles"` // "any" or "rfc9421": which signatures are taken
	AgentProfiles     map[string]string `json:"agent_profiles"`     // per-agent rules by agent id

	UnsignedAgents  map[string]string `json:"unsigned_agents"`             // agents that need not sign, each with the id of its token
	LegacyMeshToken string            `json:"legacy_mesh_token,omitempty"` // id of the token that registered agents are told; absent: none

	Repeated bool `json:"repeated,omitempty"`
}

// PolicyUpdate is the body of PUT /v1/policy: absent members stay as they are.
type PolicyUpdate struct {
	Version     *uint64              `json:"version,omitempty"` // if given, must equal If-Match
	RateLimit   *RateLimit           `json:"rate_limit,omitempty"`
	MaxSkewMs   *int64               `json:"max_skew_ms,omitempty"`
	AutoApprove *bool                `json:"auto_approve,omitempty"`
	Overrides   map[string]RateLimit `json:"overrides,omitzero"` // replaces the whole map; empty: by none

	SignatureProfiles *string           `json:"signature_profiles,omitempty"`
	AgentProfiles     map[string]string `json:"agent_profiles,omitzero"` // likewise

	UnsignedAgents  map[string]string `json:"unsigned_agents,omitzero"`    // likewise; values are ids of tokens of role mesh
	LegacyMeshToken *string           `json:"legacy_mesh_token,omitempty"` // the text of a token of role mesh; empty: none
}

// TokenRequest is the body of POST /v1/tokens.
type TokenRequest struct {
	Role  string `json:"role"`
	TTLMs int64  `json:"ttl_ms,omitempty"` // 0: the default of the role
	TTL   string `json:"ttl,omitempty"`    // Go duration, an alternative to TTLMs
	Uses  int64  `json:"uses,omitempty"`   // 0: the default of the role; -1: unlimited
	Label string `json:"label,omitempty"`
}

// Token describes a token; Token.Token holds the secret once, at creation.
type Token struct {
	ID          string `json:"id"`
	Token       string `json:"token,omitempty"`
	Role        string `json:"role"`
	Label       string `json:"label,omitempty"`
	State       string `json:"state"`     // active, used, expired, revoked
	UsesLeft    int64  `json:"uses_left"` // -1: unlimited
	CreatedMs   int64  `json:"created_ms"`
	ExpiresMs   int64  `json:"expires_ms"` // 0: never
	Index       uint64 `json:"index,omitempty"`
	JoinCommand string `json:"join_command,omitempty"` // for join tokens: a copy-paste command line
	// Through lists the coordinators that made it for its maker, and those that made
	// the token it was made under; from feature level 6 on, in lists.
	Through  []string `json:"through,omitempty"`
	Repeated bool     `json:"repeated,omitempty"`
}

// Tokens is one page of GET /v1/tokens; Next continues it (query "after").
type Tokens struct {
	Tokens []Token `json:"tokens"`
	Next   string  `json:"next,omitempty"`
}

// TokenRevoked is the answer of DELETE /v1/tokens/{id}.
type TokenRevoked struct {
	ID       string `json:"id"`
	Index    uint64 `json:"index"`
	Repeated bool   `json:"repeated,omitempty"`
}

// EnrollRequest is the body of POST /v1/agents. Proof is the base64 Ed25519
// signature by the new key over EnrollProofText.
type EnrollRequest struct {
	AgentID       string `json:"agent_id"`
	PublicKey     string `json:"public_key"`               // PEM SPKI
	EncryptionKey string `json:"encryption_key,omitempty"` // base64 raw X25519
	// EncryptionProof is the base64 signature by the new key on the encryption key
	// (crypto.SignEncryptionKey). Without it `envelope seal --agent` refuses the key.
	EncryptionProof string `json:"encryption_proof,omitempty"`
	Token           string `json:"token"`
	Proof           string `json:"proof"`
}

// Agent describes an enrolled agent.
type Agent struct {
	AgentID         string `json:"agent_id"`
	State           string `json:"state"`               // pending, active, suspended, revoked
	KeyID           string `json:"key_id"`              // of the active key; empty if there is none
	PublicKey       string `json:"public_key"`          // PEM, the same
	KeyState        string `json:"key_state,omitempty"` // why none is active: how the newest stands (KeyRevoked and others)
	EncryptionKey   string `json:"encryption_key,omitempty"`
	EncryptionProof string `json:"encryption_proof,omitempty"` // base64; PublicKey's signature on EncryptionKey
	EnrolledMs      int64  `json:"enrolled_ms"`
	UpdatedMs       int64  `json:"updated_ms"`
	Index           uint64 `json:"index,omitempty"`
	Repeated        bool   `json:"repeated,omitempty"`
}

// Agents is one page of GET /v1/agents; Next continues it (query "after").
type Agents struct {
	Agents []Agent `json:"agents"`
	Next   string  `json:"next,omitempty"`
}

// BanRequest is the body of POST /v1/blacklist. The reporter signs
// crypto.ReporterEvidence (WIRE.md 9.2) with its enrolled key.
type BanRequest struct {
	AgentID           string `json:"agent_id"`
	ReasonCode        string `json:"reason_code"`
	Reason            string `json:"reason"`
	EvidenceSHA256    string `json:"evidence_sha256"`
	ReporterID        string `json:"reporter_id"`
	ReporterPublicKey string `json:"reporter_public_key,omitempty"` // PEM SPKI
	ReporterSignature string `json:"reporter_signature,omitempty"`  // base64
	TimestampMs       int64  `json:"timestamp_ms,omitempty"`
	ExpiresAtMs       int64  `json:"expires_at_ms,omitempty"` // 0: permanent
}

// LiftRequest is the body of DELETE /v1/blacklist/agents/{agent_id}.
type LiftRequest struct {
	Reason string `json:"reason"`
}

// BlacklistChange answers a ban or a lift. Event is the record in the wire
// form of WIRE.md 9.1; it is absent when Repeated.
type BlacklistChange struct {
	Event     json.RawMessage `json:"event,omitempty"`
	EventID   string          `json:"event_id"`
	ChainHead string          `json:"chain_head,omitempty"`
	Size      uint64          `json:"size,omitempty"`
	Index     uint64          `json:"index"`
	Repeated  bool            `json:"repeated,omitempty"`
}

// Ban is a ban in force.
type Ban struct {
	AgentID     string          `json:"agent_id"`
	EventID     string          `json:"event_id"`
	EventHash   string          `json:"event_hash"`
	Seq         uint64          `json:"seq"`
	ReasonCode  string          `json:"reason_code"`
	TimestampMs int64           `json:"timestamp_ms"`
	ExpiresAtMs int64           `json:"expires_at_ms,omitempty"`
	Event       json.RawMessage `json:"event,omitempty"`
}

// Bans is one page of GET /v1/blacklist; Next continues it (query "after").
type Bans struct {
	Size      uint64 `json:"size"` // events in the chain
	ChainHead string `json:"chain_head"`
	Bans      []Ban  `json:"bans"`
	Next      string `json:"next,omitempty"`
}

// ChainEvent is one event of the chain; Seq starts at 1.
type ChainEvent struct {
	Seq   uint64          `json:"seq"`
	Event json.RawMessage `json:"event"`
}

// ChainPage is one page of GET /v1/blacklist/events.
type ChainPage struct {
	Size      uint64       `json:"size"`
	ChainHead string       `json:"chain_head"`
	Events    []ChainEvent `json:"events"`
	Next      uint64       `json:"next,omitempty"` // seq to continue from; 0 at the end
}

// Identity is the answer of GET /identity (WIRE.md section 1).
type Identity struct {
	PeerID         string `json:"peerId"`
	PublicKeyPEM   string `json:"publicKeyPem"`
	CoordinatorURL string `json:"coordinatorUrl"`
	NetworkMode    string `json:"networkMode"`
}

// MeshPeer is a row of GET /mesh/peers (WIRE.md 8.3). Status is "retired" for
// a key that no longer signs.
type MeshPeer struct {
	PeerID         string `json:"peerId"`
	PublicKeyPEM   string `json:"publicKeyPem"`
	CoordinatorURL string `json:"coordinatorUrl"`
	NetworkMode    string `json:"networkMode"`
	Role           string `json:"role"`
	Status         string `json:"status"`
}

// MeshPeers is the answer of GET /mesh/peers.
type MeshPeers struct {
	Peers []MeshPeer `json:"peers"`
}

// Audit is the answer of GET /security/blacklist/audit (WIRE.md 9.4): the
// whole chain, as an existing verifier reads it.
type Audit struct {
	Version   uint64            `json:"version"`
	ChainHead string            `json:"chainHead"`
	Events    []json.RawMessage `json:"events"`
}

// MeshBlacklist is the answer of GET /security/blacklist (WIRE.md 9.4).
type MeshBlacklist struct {
	Version       uint64            `json:"version"` // events in the chain
	Records       []json.RawMessage `json:"records"`
	LastEventHash string            `json:"lastEventHash"`
}

// MeshBanRequest is the body of POST /security/blacklist (WIRE.md 9.4).
// TimestampMs is an addition: without it no reporter's signature can verify.
type MeshBanRequest struct {
	AgentID              string `json:"agentId"`
	ReasonCode           string `json:"reasonCode"`
	Reason               string `json:"reason"`
	ReportedBy           string `json:"reportedBy,omitempty"`
	ReporterID           string `json:"reporterId,omitempty"`
	ReporterPublicKeyPEM string `json:"reporterPublicKeyPem,omitempty"`
	ReporterSignature    string `json:"reporterSignature,omitempty"`
	EvidenceHashSHA256   string `json:"evidenceHashSha256"`
	EvidenceRef          string `json:"evidenceRef,omitempty"`
	ExpiresInMs          *int64 `json:"expiresInMs,omitempty"` // positive
	TimestampMs          int64  `json:"timestampMs,omitempty"`
}

// MeshBanned is the answer of POST /security/blacklist.
type MeshBanned struct {
	OK        bool            `json:"ok"`
	Record    json.RawMessage `json:"record"`
	Version   uint64          `json:"version"`
	ChainHead string          `json:"chainHead"`
}
