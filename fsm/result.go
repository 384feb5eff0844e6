package fsm

import "github.com/edgecoder/edgecoder/crypto"

// Code tells how a command or a claim ended. Codes are data: they survive the
// log, the wire between nodes, and JSON. The empty code is not used.
type Code string

// Codes of commands. Their HTTP statuses live in one table in package client.
const (
	CodeOK           Code = "ok"
	CodeUnauthorized Code = "unauthorized" // the acting token is unknown, expired, used up or revoked
	CodeForbidden    Code = "forbidden"    // the acting token lacks the capability
	CodeNotFound     Code = "not_found"
	CodeConflict     Code = "conflict"
	CodeInvalid      Code = "invalid"
	CodeTooLarge     Code = "too_large"
	CodeOverloaded   Code = "overloaded" // a collection is at its cap
	CodeUnavailable  Code = "unavailable"
	// CodeStale refuses a blacklist event that does not link to the head; the
	// leader links it again. It never leaves the node.
	CodeStale Code = "stale"
	// CodeClockAhead refuses a command stamped too far ahead of the state's clock.
	CodeClockAhead Code = "clock_ahead"
)

// Codes of the ledger's entries, besides those of commands and of agents that may
// not act.
const (
	CodeInsufficient  Code = "insufficient_credits" // less than that is available
	CodeAccountFrozen Code = "account_frozen"
	CodeHoldExpired   Code = "hold_expired"
	CodeOverflow      Code = "overflow"      // beyond the largest amount
	CodeIDExpired     Code = "id_expired"    // too old to know whether it was used: look it up in the records
	CodeIDAhead       Code = "id_ahead"      // its time is too far ahead of the cluster clock
	CodeLinkedFailed  Code = "linked_failed" // an entry that it is linked with was refused
)

// Codes of claims (CONTRACT.md "Verdict codes"), besides CodeOK,
// CodeConflict (a claim id reused for another request), CodeUnauthorized,
// CodeForbidden and CodeOverloaded.
const (
	CodeTimestampSkew    Code = "timestamp_skew"
	CodeUnknownAgent     Code = "unknown_agent"
	CodeAgentNotActive   Code = "agent_not_active"
	CodeInvalidSignature Code = "invalid_signature"
	CodeKeyExpired       Code = "key_expired"
	CodeBlacklisted      Code = "agent_blacklisted"
	CodeReplay           Code = "replay"
	CodeRateLimited      Code = "rate_limited"
	// CodeProfileRefused denies a request whose signature is good, but of a
	// profile that policy does not take from its agent. On the API it is
	// invalid_signature, told apart by its detail; from LevelProfiles on.
	CodeProfileRefused Code = "profile_refused"
)

// NeverAdmitted tells whether a claim refused with the code was certainly not
// admitted by an earlier entry either: its nonce was looked up, and is unused or
// another claim's. What is refused before that may have been admitted while time,
// policy, token and agent still allowed it.
func (c Code) NeverAdmitted() bool {
	switch c {
	case CodeReplay, CodeProfileRefused, CodeConflict, CodeRateLimited, CodeOverloaded:
		return true
	}
	return false
}

// NeverMoved tells whether an entry of the ledger refused with the code certainly
// took no effect in an earlier entry of the log either: its id was looked up, and was
// unused or another entry's. What is refused before that, or once ids are forgotten,
// may have taken effect.
func (c Code) NeverMoved() bool {
	switch c {
	case CodeInsufficient, CodeAccountFrozen, CodeHoldExpired, CodeOverflow, CodeIDAhead, CodeInvalid, CodeConflict, CodeNotFound, CodeForbidden, CodeOverloaded,
		CodeReplay, CodeRateLimited: // of an agent's request: its nonce was looked up
		return true
	}
	return false
}

// Result is what Apply answers. It is a pure function of the log, so every
// replica computes the same one; the node that proposed hands it to the caller.
type Result struct {
	Code     Code          `cbor:"1,keyasint"`
	Detail   string        `cbor:"2,keyasint,omitempty"`
	Field    string        `cbor:"3,keyasint,omitempty"`
	Index    uint64        `cbor:"4,keyasint"`
	ClockMs  int64         `cbor:"5,keyasint"`
	ID       string        `cbor:"6,keyasint,omitempty"` // the id of what was made or changed
	Repeated bool          `cbor:"7,keyasint,omitempty"` // answered from the idempotency table
	Claims   []ClaimResult `cbor:"8,keyasint,omitempty"` // of an AdmitBatch, in order
	Chain    *ChainResult  `cbor:"9,keyasint,omitempty"` // of a BlacklistAppend
	// Tokens is of a CoordinatorRemove of a compromised node; from LevelThrough on.
	Tokens *TokensRevoked `cbor:"10,keyasint,omitempty"`
	// Ledger answers the entries of a LedgerBatch, or reports, or confirmations, in order.
	Ledger []LedgerResult `cbor:"11,keyasint,omitempty"`
	// Ended is of a KeyRevoke, and of a CoordinatorRemove of a compromised node; from
	// LevelKeys on.
	Ended *KeysEnded `cbor:"12,keyasint,omitempty"`
}

// KeysEnded tells what else a command ended: of the keys that coordinators share, or
// with a key that was revoked.
type KeysEnded struct {
	Keys []string `cbor:"1,keyasint,omitempty"` // subject and key id, with a space between
	// JoinTokens counts the tokens of joins and enrolments that went with a CA: they
	// name it, so whoever has its key could have taken them from who uses them.
	JoinTokens int `cbor:"2,keyasint,omitempty"`
	// Left are keys that a revoked one ordered and that count on, named as in Keys.
	Left []string `cbor:"3,keyasint,omitempty"`
	// EncryptionKey: the agent has none any more, since the revoked key may have named it.
	EncryptionKey bool `cbor:"4,keyasint,omitempty"`
}

// ClaimResult is the decision on one claim.
type ClaimResult struct {
	_            struct{} `cbor:",toarray"`
	Code         Code
	Index        uint64 // of the entry that decided it first
	ClockMs      int64  // the state's clock at that entry
	Repeated     bool
	RetryAfterMs int64 // with CodeRateLimited, and CodeUnavailable while a recovery pauses admissions
}

// ChainResult describes the chain right after an append.
type ChainResult struct {
	_     struct{} `cbor:",toarray"`
	Event []byte   // wire JSON, the leaf of the log
	Head  string
	Size  uint64
}

// OK tells whether the command took effect, now or in an earlier identical call.
func (r Result) OK() bool { return r.Code == CodeOK }

// Stream names a sequence of history records.
type Stream uint8

// The streams. Numbers are part of stored formats and never reused.
const (
	StreamBlacklist Stream = 1 // one record an event, its wire JSON
	StreamAdmin     Stream = 2 // one record an administrative action, CBOR of AdminRecord
	StreamLedger    Stream = 3 // one record a change of the ledger, see package ledger
)

// Record is one entry of history: it only grows, Apply never reads it.
type Record struct {
	_      struct{} `cbor:",toarray"`
	Stream Stream
	Seq    uint64 // 1, 2, 3 … within the stream, without gaps
	Index  uint64 // log index it came from
	Data   []byte
}

// AdminRecord is the history of one administrative action.
type AdminRecord struct {
	Index   uint64 `cbor:"1,keyasint" json:"index"`
	AtMs    int64  `cbor:"2,keyasint" json:"at_ms"`
	Actor   Actor  `cbor:"3,keyasint" json:"actor"`
	Action  string `cbor:"4,keyasint" json:"action"`
	Subject string `cbor:"5,keyasint" json:"subject"`
	Detail  string `cbor:"6,keyasint,omitempty" json:"detail,omitempty"`
}

// Actor is who stands behind a command: an API token, or a coordinator that
// proved itself by its certificate.
type Actor struct {
	TokenID string `cbor:"1,keyasint,omitempty" json:"token_id,omitempty"`
	NodeID  string `cbor:"2,keyasint,omitempty" json:"node_id,omitempty"`
	// Via is the node that authenticated the caller. The leader writes it; from
	// LevelThrough on.
	Via string `cbor:"3,keyasint,omitempty" json:"via,omitempty"`
}

// KeyRef names a public key in the state: the SHA-256 of its raw bytes.
type KeyRef = crypto.Hash
