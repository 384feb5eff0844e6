package client

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// KeySchedule says how often keys are rotated (GET and PUT /v1/keys/{subject}/schedule).
type KeySchedule struct {
	Version   uint64 `json:"version"`    // 0: none was set, it is the default
	PeriodMs  int64  `json:"period_ms"`  // from one key to the next; 0: only when somebody asks
	OverlapMs int64  `json:"overlap_ms"` // how long the one before verifies beside it
	LeadMs    int64  `json:"lead_ms"`    // how long before it is due the next one is asked for
}

// KeyScheduleUpdate replaces a schedule. Members that are absent stay.
type KeyScheduleUpdate struct {
	PeriodMs  *int64 `json:"period_ms,omitempty"`
	OverlapMs *int64 `json:"overlap_ms,omitempty"`
	LeadMs    *int64 `json:"lead_ms,omitempty"`
}

// KeyScheduleSet is a schedule as it is after a change.
type KeyScheduleSet struct {
	Subject string `json:"subject"`
	KeySchedule
	Index uint64 `json:"index"`
}

// States of a key.
const (
	KeyNext     = "next"
	KeyActive   = "active"
	KeyRetiring = "retiring"
	KeyRetired  = "retired"
	KeyRevoked  = "revoked"
)

// Key is one key of a subject.
type Key struct {
	KeyID       string   `json:"key_id"`
	State       string   `json:"state"`
	PublicKey   string   `json:"public_key,omitempty"`  // PEM SPKI, of Ed25519 keys
	PeerID      string   `json:"peer_id,omitempty"`     // of coordinators' keys
	Certificate string   `json:"certificate,omitempty"` // PEM, of ca
	NotBeforeMs int64    `json:"not_before_ms"`         // 0 with state next: it begins when the cluster switches
	UntilMs     int64    `json:"until_ms,omitempty"`    // last moment; absent: no end yet
	RevokedAt   uint64   `json:"revoked_at,omitempty"`  // log index from which on it verifies nothing
	Index       uint64   `json:"index,omitempty"`       // log index that made it known
	Successor   string   `json:"successor,omitempty"`   // key id of the one that it named
	Predecessor string   `json:"predecessor,omitempty"` // key id of the one that named it
	OrderMs     int64    `json:"order_ms,omitempty"`    // not_before_ms as the predecessor signed it; absent: at once
	SignedMs    int64    `json:"signed_ms,omitempty"`   // when it signed
	Signature   string   `json:"signature,omitempty"`   // the predecessor's, base64 (crypto.Succession)
	Ready       []string `json:"ready,omitempty"`       // members that have a key that they share
}

// KeyUse is who still signs with a key that has a successor, as one node saw it
// since it started.
type KeyUse struct {
	KeyID  string `json:"key_id"`
	Node   string `json:"node"`         // id of the node that saw it
	By     string `json:"by,omitempty"` // id of the token that asked; absent: the agent asked for itself
	Count  uint64 `json:"count"`
	LastMs int64  `json:"last_ms"`
}

// Keys is one subject's keys (GET /v1/keys/{subject}).
type Keys struct {
	Subject  string      `json:"subject"`
	Name     string      `json:"name,omitempty"` // of the node, where a node is the subject
	Schedule KeySchedule `json:"schedule"`
	KeyID    string      `json:"key_id,omitempty"`   // of the active key; absent: none verifies
	DueMs    int64       `json:"due_ms,omitempty"`   // when the next key should begin; absent: only when somebody asks
	AskedMs  int64       `json:"asked_ms,omitempty"` // since when a rotation that somebody asked for waits
	Due      bool        `json:"due"`                // the owner is to prepare the next key now
	Overdue  bool        `json:"overdue"`
	Keys     []Key       `json:"keys"` // in the order in which they begin
	// Uses are of keys that retire, the last use first; of all nodes but those in
	// Unreachable. Only a question for one subject asks for them.
	Uses        []KeyUse       `json:"uses,omitempty"`
	Unreachable []AuditMissing `json:"unreachable,omitempty"`
}

// KeyAlarm is a subject whose keys somebody should look at (GET /v1/status).
type KeyAlarm struct {
	Subject string `json:"subject"`
	State   string `json:"state"` // overdue: asked for long ago; expired: older than its schedule allows, or none verifies
	DueMs   int64  `json:"due_ms,omitempty"`
}

// KeyList is a page of GET /v1/keys.
type KeyList struct {
	Keys []Keys `json:"keys"`
	Next string `json:"next,omitempty"` // after=… of the next page
}

// RotateRequest is the body of POST /v1/keys/{subject}/rotate. Empty, with a token:
// the owner is asked for its next key. With public_key: here it is, ordered by the
// current key. With recover as well: an operator's word for an agent that lost its
// key.
type RotateRequest struct {
	PublicKey   string `json:"public_key,omitempty"`    // PEM SPKI
	NotBeforeMs int64  `json:"not_before_ms,omitempty"` // as signed; absent: at once
	SignedMs    int64  `json:"signed_ms,omitempty"`     // as signed
	Signature   string `json:"signature,omitempty"`     // base64, of the current key (crypto.Succession.Order)
	Proof       string `json:"proof,omitempty"`         // base64, of the new key (crypto.Succession.Prove)
	// EncryptionProof is the new key's signature on the agent's encryption key.
	EncryptionProof string `json:"encryption_proof,omitempty"`
	Recover         bool   `json:"recover,omitempty"`
	Reason          string `json:"reason,omitempty"` // with recover
}

// RevokeKeyRequest is the body of POST /v1/keys/{subject}/revoke.
type RevokeKeyRequest struct {
	KeyID  string `json:"key_id"`
	Reason string `json:"reason,omitempty"`
	// WithSuccessors ends all keys that it ordered as well, and those that these did;
	// also of a key that is revoked already. Of agents, coordinators and signers.
	WithSuccessors bool `json:"with_successors,omitempty"`
}

// KeysChanged is the answer to a change.
type KeysChanged struct {
	Keys
	Index    uint64     `json:"index"`
	Repeated bool       `json:"repeated,omitempty"`
	Ended    *KeysEnded `json:"ended,omitempty"` // of a revocation
}

// KeysEnded tells what else a command ended: of the keys that coordinators share, or
// with a key that was revoked.
type KeysEnded struct {
	Keys []string `json:"keys,omitempty"` // subject and key id, with a space between
	// JoinTokens counts the tokens of joins and enrolments that were revoked with a CA:
	// they name it, so whoever has its key could have taken them from who uses them.
	JoinTokens int `json:"join_tokens,omitempty"`
	// Left are keys that the revoked one ordered and that count on, named as in Keys:
	// whoever had that may have made them.
	Left []string `json:"left,omitempty"`
	// EncryptionKey: the agent's is forgotten, since whoever had the revoked key may have
	// registered it. The agent registers one again.
	EncryptionKey bool `json:"encryption_key,omitempty"`
}

// SignRotation makes the request by which a subject's current key names the next
// one, as of a time in Unix milliseconds; notBeforeMs 0: from now on. The cluster id
// is in every enrolment token.
func SignRotation(clusterID, subject string, current, next crypto.PrivateKey, notBeforeMs, signedMs int64) RotateRequest {
	st := crypto.Succession{ClusterID: clusterID, Subject: subject, Predecessor: crypto.PublicOf(current), Successor: crypto.PublicOf(next),
		NotBeforeMs: notBeforeMs, SignedMs: signedMs}
	return RotateRequest{PublicKey: st.Successor.PEM(), NotBeforeMs: notBeforeMs, SignedMs: signedMs,
		Signature: base64.StdEncoding.EncodeToString(st.Order(current)), Proof: base64.StdEncoding.EncodeToString(st.Prove(next))}
}

// SignRecovery makes the request by which an operator gives an agent that lost its
// key the next one, which its holder signs here.
func SignRecovery(clusterID, subject string, next crypto.PrivateKey, signedMs int64, reason string) RotateRequest {
	st := crypto.Succession{ClusterID: clusterID, Subject: subject, Successor: crypto.PublicOf(next), SignedMs: signedMs}
	return RotateRequest{PublicKey: st.Successor.PEM(), SignedMs: signedMs, Proof: base64.StdEncoding.EncodeToString(st.Prove(next)), Recover: true, Reason: reason}
}

func keyPath(subject string) string { return "/v1/keys/" + url.PathEscape(subject) }

// KeyList returns a page of the keys of a kind, or of all kinds if it is empty.
func (c *Client) KeyList(ctx context.Context, kind string, opts ...Option) (out KeyList, err error) {
	if kind != "" {
		opts = append(opts, func(q *call) { q.query.Set("kind", kind) })
	}
	err = c.get(ctx, "/v1/keys", &out, opts)
	return out, err
}

// Keys returns the keys of a subject.
func (c *Client) Keys(ctx context.Context, subject string, opts ...Option) (out Keys, err error) {
	err = c.get(ctx, keyPath(subject), &out, opts)
	return out, err
}

// RotateKey asks for a rotation, or makes one.
func (c *Client) RotateKey(ctx context.Context, subject string, req RotateRequest, opts ...Option) (out KeysChanged, err error) {
	err = c.change(ctx, http.MethodPost, keyPath(subject)+"/rotate", req, &out, opts)
	return out, err
}

// RevokeKey ends a key at the log index of the answer.
func (c *Client) RevokeKey(ctx context.Context, subject string, req RevokeKeyRequest, opts ...Option) (out KeysChanged, err error) {
	err = c.change(ctx, http.MethodPost, keyPath(subject)+"/revoke", req, &out, opts)
	return out, err
}

// KeySchedule returns the schedule that is set for a subject, or for a kind of
// subjects.
func (c *Client) KeySchedule(ctx context.Context, subject string, opts ...Option) (out KeySchedule, err error) {
	err = c.get(ctx, keyPath(subject)+"/schedule", &out, opts)
	return out, err
}

// SetKeySchedule changes a schedule that is still at ifVersion.
func (c *Client) SetKeySchedule(ctx context.Context, subject string, ifVersion uint64, update KeyScheduleUpdate, opts ...Option) (out KeyScheduleSet, err error) {
	opts = append(opts, func(q *call) { q.header.Set("If-Match", strconv.Quote(strconv.FormatUint(ifVersion, 10))) })
	err = c.change(ctx, http.MethodPut, keyPath(subject)+"/schedule", update, &out, opts)
	return out, err
}
