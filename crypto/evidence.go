package crypto

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// ReporterEvidence is what the reporter of an offence signs (WIRE 9.2). The timestamp is the reporter's own, as the
// event carries it; whoever accepts a report bounds it by the skew.
type ReporterEvidence struct {
	AgentID            string
	ReasonCode         string
	Reason             string
	EvidenceHashSHA256 string
	ReporterID         string
	TimestampMs        int64
}

// Canonical returns the signed text: compact JSON of the six members in the order of WIRE 9.2.
func (r ReporterEvidence) Canonical() []byte {
	dst := make([]byte, 0, 256+len(r.Reason))
	dst = appendStringMember(dst, '{', "agentId", r.AgentID)
	dst = appendStringMember(dst, ',', "reasonCode", r.ReasonCode)
	dst = appendStringMember(dst, ',', "reason", r.Reason)
	dst = appendStringMember(dst, ',', "evidenceHashSha256", r.EvidenceHashSHA256)
	dst = appendStringMember(dst, ',', "reporterId", r.ReporterID)
	dst = appendIntMember(dst, "timestampMs", r.TimestampMs)
	return append(dst, '}')
}

// Sign returns the reporter's signature.
func (r ReporterEvidence) Sign(priv PrivateKey) []byte { return ed25519.Sign(priv, r.Canonical()) }

// Verify checks the reporter's signature by the rule of [Verify].
func (r ReporterEvidence) Verify(pub PublicKey, sig []byte) bool {
	return Verify(pub, r.Canonical(), sig)
}

// Evidence returns the evidence that the event's reporter signed.
func (e *BlacklistEvent) Evidence() ReporterEvidence {
	return ReporterEvidence{
		AgentID:            e.AgentID,
		ReasonCode:         e.ReasonCode,
		Reason:             e.Reason,
		EvidenceHashSHA256: e.EvidenceHashSHA256,
		ReporterID:         e.ReporterID,
		TimestampMs:        e.TimestampMs,
	}
}

// VerifyReporter checks the reporter's signature with the key that the event carries; both must be there. Whether
// that key is the reporter's is for the caller to know.
func (e *BlacklistEvent) VerifyReporter() error {
	if e.ReporterPublicKeyPEM == "" || e.ReporterSignature == "" {
		return errors.New("reporter evidence: no key or no signature")
	}
	pub, err := ParsePublicKeyPEM(e.ReporterPublicKeyPEM)
	if err != nil {
		return fmt.Errorf("reporter evidence: %w", err)
	}
	var sig [SignatureSize]byte
	if err := decodeBase64(sig[:], e.ReporterSignature); err != nil {
		return fmt.Errorf("reporter evidence: signature: %w", err)
	}
	if !e.Evidence().Verify(pub, sig[:]) {
		return fmt.Errorf("reporter evidence: not signed by key %s", pub.KeyID())
	}
	return nil
}
