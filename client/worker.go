package client

import "encoding/json"

// Wire types of the routes by which existing agents speak for themselves
// (WIRE.md 7). Members that this cluster has no use for are read and dropped.

// RegisterRequest is the body of POST /register (WIRE.md 7.1).
type RegisterRequest struct {
	AgentID            string          `json:"agentId"`
	DeviceID           string          `json:"deviceId,omitempty"`
	OS                 string          `json:"os"`
	Version            string          `json:"version"`
	Mode               string          `json:"mode"` // swarm-only or ide-enabled
	RegistrationToken  string          `json:"registrationToken,omitempty"`
	LocalModelProvider string          `json:"localModelProvider,omitempty"`
	ClientType         string          `json:"clientType,omitempty"`
	MaxConcurrentTasks *int64          `json:"maxConcurrentTasks,omitempty"`
	PowerTelemetry     json.RawMessage `json:"powerTelemetry,omitempty"`
	PublicKeyPEM       string          `json:"publicKeyPem,omitempty"`
	X25519PublicKey    string          `json:"x25519PublicKey,omitempty"` // base64 raw
	// Additions to the protocol, base64 of signatures by PublicKeyPEM. The first comes
	// with a key that is to replace the agent's current one (crypto.SignKeyChange);
	// the second lets others seal to X25519PublicKey (crypto.SignEncryptionKey).
	PublicKeyProof  string          `json:"publicKeyProof,omitempty"`
	X25519Proof     string          `json:"x25519Proof,omitempty"`
	SandboxMode     string          `json:"sandboxMode,omitempty"`
	BinaryIntegrity json.RawMessage `json:"binaryIntegrity,omitempty"`
}

// WorkerPolicy is what an agent is told of how much it may use.
type WorkerPolicy struct {
	CPUCapPercent      int64        `json:"cpuCapPercent"`
	MemoryLimitMB      int64        `json:"memoryLimitMb"`
	IdleOnly           bool         `json:"idleOnly"`
	MaxConcurrentTasks int64        `json:"maxConcurrentTasks"`
	AllowedHours       AllowedHours `json:"allowedHours"`
}

// AllowedHours is a time of day in UTC; it may pass midnight.
type AllowedHours struct {
	StartHourUTC int64 `json:"startHourUtc"`
	EndHourUTC   int64 `json:"endHourUtc"`
}

// Registered is the answer of POST /register.
type Registered struct {
	Accepted  bool         `json:"accepted"`
	Policy    WorkerPolicy `json:"policy"`
	Mode      string       `json:"mode"`
	MeshToken string       `json:"meshToken,omitempty"` // only where policy says so
}

// AgentCall is what is read of the bodies of POST /heartbeat and POST /pull
// (WIRE.md 7.3, 7.4).
type AgentCall struct {
	AgentID string `json:"agentId"`
}

// Heartbeat is the answer of POST /heartbeat to an agent that is not banned.
// Work and models are not this cluster's business: their lists are empty.
type Heartbeat struct {
	OK                 bool              `json:"ok"`
	Requeued           int64             `json:"requeued"`
	Policy             WorkerPolicy      `json:"policy"`
	Orchestration      *struct{}         `json:"orchestration"`
	TunnelInvites      []json.RawMessage `json:"tunnelInvites"`
	TunnelCloseNotices []json.RawMessage `json:"tunnelCloseNotices"`
	DirectWorkOffers   []json.RawMessage `json:"directWorkOffers"`
	Blacklist          HeartbeatBans     `json:"blacklist"`
}

// HeartbeatBans names the agents with a ban in force. Version counts the events
// of the chain; a list that was cut off says so.
type HeartbeatBans struct {
	Version   uint64   `json:"version"`
	Agents    []string `json:"agents"`
	Truncated bool     `json:"truncated,omitempty"`
}

// HeartbeatBanned is the answer of POST /heartbeat to a banned agent.
type HeartbeatBanned struct {
	OK               bool   `json:"ok"`
	Blacklisted      bool   `json:"blacklisted"`
	Reason           string `json:"reason"`
	BlacklistVersion uint64 `json:"blacklistVersion"`
}

// Pulled is the answer of POST /pull: this cluster hands out no work.
type Pulled struct {
	Subtask *struct{} `json:"subtask"`
	Blocked bool      `json:"blocked,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// RegisterPeerRequest is the body of POST /mesh/register-peer (WIRE.md 8.3).
type RegisterPeerRequest struct {
	PeerID            string `json:"peerId"`
	PublicKeyPEM      string `json:"publicKeyPem"`
	CoordinatorURL    string `json:"coordinatorUrl"`
	NetworkMode       string `json:"networkMode"`
	Role              string `json:"role,omitempty"`
	RegistrationToken string `json:"registrationToken,omitempty"`
}

// PeerRegistered is the answer of POST /mesh/register-peer.
type PeerRegistered struct {
	OK        bool  `json:"ok"`
	PeerCount int64 `json:"peerCount"`
}

// MeshMessage is the body of POST /mesh/ingest (WIRE.md 8.1).
type MeshMessage struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	FromPeerID string          `json:"fromPeerId"`
	IssuedAtMs int64           `json:"issuedAtMs"`
	TTLMs      int64           `json:"ttlMs"`
	Payload    json.RawMessage `json:"payload"`
	Signature  string          `json:"signature"`
}

// MeshIngested is the answer of POST /mesh/ingest, with StatusCode and Error
// when the message was refused.
type MeshIngested struct {
	OK         bool   `json:"ok"`
	Skipped    string `json:"skipped,omitempty"` // why nothing was done with it
	Added      *int64 `json:"added,omitempty"`   // of a peer_exchange
	StatusCode int    `json:"statusCode,omitempty"`
	Error      string `json:"error,omitempty"`
	Detail     string `json:"detail,omitempty"`
}
