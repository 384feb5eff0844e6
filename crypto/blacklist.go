package crypto

import (
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strconv"
)

// BlacklistGenesis is the previous hash of the first event of a chain (WIRE 9.1).
const BlacklistGenesis = "BLACKLIST_GENESIS"

// ReasonManualReview is the one reason code that needs no reporter signature (WIRE 9.2). Lifts use it too.
const ReasonManualReview = "manual_review"

// reasonCodes are those that API and gossip accept (WIRE 9.3), in alphabetical order.
var reasonCodes = []string{
	"abuse_malware", "abuse_spam", "credential_abuse", "dos_behavior",
	"forged_results", ReasonManualReview, "policy_violation",
}

// KnownReasonCode reports whether code is one of [ReasonCodes].
func KnownReasonCode(code string) bool { return slices.Contains(reasonCodes, code) }

// ReasonCodes returns the accepted reason codes in alphabetical order (WIRE 9.3).
func ReasonCodes() []string { return slices.Clone(reasonCodes) }

// BlacklistEvent is one record of the blacklist chain, with the members of WIRE 9.1 in their order there. Optional
// strings are absent when empty.
//
// The reporter's key and signature, EvidenceRef and ReportedBy are carried but not covered by EventHash: the wire
// form leaves them open, and whoever serves a chain could change them. [ChainVerifier] therefore checks the
// reporter's signature again, and the Merkle leaf above the chain covers the whole record.
type BlacklistEvent struct {
	EventID                   string `json:"eventId"`
	AgentID                   string `json:"agentId"`
	ReasonCode                string `json:"reasonCode"`
	Reason                    string `json:"reason"`
	EvidenceHashSHA256        string `json:"evidenceHashSha256"`
	ReporterID                string `json:"reporterId"`
	ReporterPublicKeyPEM      string `json:"reporterPublicKeyPem,omitempty"`
	ReporterSignature         string `json:"reporterSignature,omitempty"`
	EvidenceSignatureVerified bool   `json:"evidenceSignatureVerified"`
	EvidenceRef               string `json:"evidenceRef,omitempty"`
	SourceCoordinatorID       string `json:"sourceCoordinatorId"`
	ReportedBy                string `json:"reportedBy"`
	TimestampMs               int64  `json:"timestampMs"`
	ExpiresAtMs               *int64 `json:"expiresAtMs,omitempty"` // nil is permanent; zero is a time like any other
	PrevEventHash             string `json:"prevEventHash"`
	EventHash                 string `json:"eventHash"`
	CoordinatorSignature      string `json:"coordinatorSignature"`
}

// HashPreimage returns the text whose SHA-256 is the event hash: compact JSON of the eleven hashed members in the
// order of WIRE 9.1, with null for no expiry.
func (e *BlacklistEvent) HashPreimage() []byte {
	dst := make([]byte, 0, 512+len(e.Reason))
	dst = appendStringMember(dst, '{', "eventId", e.EventID)
	dst = appendStringMember(dst, ',', "agentId", e.AgentID)
	dst = appendStringMember(dst, ',', "reasonCode", e.ReasonCode)
	dst = appendStringMember(dst, ',', "reason", e.Reason)
	dst = appendStringMember(dst, ',', "evidenceHashSha256", e.EvidenceHashSHA256)
	dst = appendStringMember(dst, ',', "reporterId", e.ReporterID)
	dst = appendStringMember(dst, ',', "sourceCoordinatorId", e.SourceCoordinatorID)
	dst = appendIntMember(dst, "timestampMs", e.TimestampMs)
	if e.ExpiresAtMs == nil {
		dst = append(dst, `,"expiresAtMs":null`...)
	} else {
		dst = appendIntMember(dst, "expiresAtMs", *e.ExpiresAtMs)
	}
	dst = appendStringMember(dst, ',', "prevEventHash", e.PrevEventHash)
	dst = appendBoolMember(dst, "evidenceSignatureVerified", e.EvidenceSignatureVerified)
	return append(dst, '}')
}

// ComputeHash returns the SHA-256 of [BlacklistEvent.HashPreimage]. It does not look at EventHash.
func (e *BlacklistEvent) ComputeHash() Hash { return Sum(e.HashPreimage()) }

// Link puts the event behind prev, the hash of the head or [BlacklistGenesis], and signs it: it sets
// PrevEventHash, SourceCoordinatorID, EventHash and CoordinatorSignature. The signature is over the hex text of
// the hash (WIRE 9.1). All other members must be final.
func (e *BlacklistEvent) Link(prev string, priv PrivateKey) {
	e.PrevEventHash = prev
	e.SourceCoordinatorID = PublicOf(priv).CoordinatorID()
	e.EventHash = e.ComputeHash().String()
	e.CoordinatorSignature = base64.StdEncoding.EncodeToString(ed25519.Sign(priv, []byte(e.EventHash)))
}

// VerifyCoordinator reports whether EventHash is the hash of the event and signed by the coordinator's key. It
// does not ask whether pub is the key of SourceCoordinatorID.
func (e *BlacklistEvent) VerifyCoordinator(pub PublicKey) bool {
	return e.ComputeHash().String() == e.EventHash && e.signedBy(pub)
}

// signedBy checks the coordinator's signature over the text of EventHash alone.
func (e *BlacklistEvent) signedBy(pub PublicKey) bool {
	var sig [SignatureSize]byte
	return decodeBase64(sig[:], e.CoordinatorSignature) == nil && Verify(pub, []byte(e.EventHash), sig[:])
}

// InForce reports whether the event bans its agent at nowMs, the expiry itself included (WIRE 9.5).
func (e *BlacklistEvent) InForce(nowMs int64) bool {
	return e.ExpiresAtMs == nil || nowMs <= *e.ExpiresAtMs
}

// EndsBeforeItBegins reports whether the event expired at or before its own time. Only a lift does: whoever follows
// the chain would take a ban like that for one.
func (e *BlacklistEvent) EndsBeforeItBegins() bool {
	return e.ExpiresAtMs != nil && *e.ExpiresAtMs <= e.TimestampMs
}

// WireJSON returns the record as the reference serialises it: members in the order of WIRE 9.1, strings as
// JavaScript prints them, absent optionals omitted. [ParseBlacklistEvent] reads it back.
func (e *BlacklistEvent) WireJSON() []byte {
	dst := make([]byte, 0, 1024+len(e.Reason))
	dst = appendStringMember(dst, '{', "eventId", e.EventID)
	dst = appendStringMember(dst, ',', "agentId", e.AgentID)
	dst = appendStringMember(dst, ',', "reasonCode", e.ReasonCode)
	dst = appendStringMember(dst, ',', "reason", e.Reason)
	dst = appendStringMember(dst, ',', "evidenceHashSha256", e.EvidenceHashSHA256)
	dst = appendStringMember(dst, ',', "reporterId", e.ReporterID)
	dst = appendOptionalMember(dst, "reporterPublicKeyPem", e.ReporterPublicKeyPEM)
	dst = appendOptionalMember(dst, "reporterSignature", e.ReporterSignature)
	dst = appendBoolMember(dst, "evidenceSignatureVerified", e.EvidenceSignatureVerified)
	dst = appendOptionalMember(dst, "evidenceRef", e.EvidenceRef)
	dst = appendStringMember(dst, ',', "sourceCoordinatorId", e.SourceCoordinatorID)
	dst = appendStringMember(dst, ',', "reportedBy", e.ReportedBy)
	dst = appendIntMember(dst, "timestampMs", e.TimestampMs)
	if e.ExpiresAtMs != nil {
		dst = appendIntMember(dst, "expiresAtMs", *e.ExpiresAtMs)
	}
	dst = appendStringMember(dst, ',', "prevEventHash", e.PrevEventHash)
	dst = appendStringMember(dst, ',', "eventHash", e.EventHash)
	dst = appendStringMember(dst, ',', "coordinatorSignature", e.CoordinatorSignature)
	return append(dst, '}')
}

// appendStringMember appends before (a brace or comma), the name and the value. Names are our own and need no escape.
func appendStringMember(dst []byte, before byte, name, value string) []byte {
	dst = append(dst, before, '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return AppendJSONString(dst, value)
}

func appendOptionalMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendStringMember(dst, ',', name, value)
}

// appendIntMember prints in full; times stay far below 2^53, where JavaScript would begin to round.
func appendIntMember(dst []byte, name string, value int64) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return strconv.AppendInt(dst, value, 10)
}

func appendBoolMember(dst []byte, name string, value bool) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return strconv.AppendBool(dst, value)
}
