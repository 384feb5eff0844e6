package judge

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// This file verifies a chain from WIRE.md section 9 alone: it shares no code
// with the server's verifier, so that one mistake cannot hide in both.

// genesis is what the first event names as its predecessor.
const genesis = "BLACKLIST_GENESIS"

// chainEvent is a record of WIRE.md 9.1.
type chainEvent struct {
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
	ExpiresAtMs               *int64 `json:"expiresAtMs,omitempty"`
	PrevEventHash             string `json:"prevEventHash"`
	EventHash                 string `json:"eventHash"`
	CoordinatorSignature      string `json:"coordinatorSignature"`
}

// lifts tells whether the event supersedes a ban: it expired before it began.
func (e *chainEvent) lifts() bool { return e.ExpiresAtMs != nil && *e.ExpiresAtMs < e.TimestampMs }

// preimage is the compact JSON of the eleven hashed members in their order.
func (e *chainEvent) preimage() []byte {
	b := append([]byte{}, `{"eventId":`...)
	b = quoteJS(b, e.EventID)
	for _, m := range [][2]string{
		{"agentId", e.AgentID}, {"reasonCode", e.ReasonCode}, {"reason", e.Reason}, {"evidenceHashSha256", e.EvidenceHashSHA256},
		{"reporterId", e.ReporterID}, {"sourceCoordinatorId", e.SourceCoordinatorID},
	} {
		b = append(b, `,"`+m[0]+`":`...)
		b = quoteJS(b, m[1])
	}
	expires := "null"
	if e.ExpiresAtMs != nil {
		expires = strconv.FormatInt(*e.ExpiresAtMs, 10)
	}
	b = append(b, `,"timestampMs":`+strconv.FormatInt(e.TimestampMs, 10)+`,"expiresAtMs":`+expires+`,"prevEventHash":`...)
	b = quoteJS(b, e.PrevEventHash)
	return append(b, `,"evidenceSignatureVerified":`+strconv.FormatBool(e.EvidenceSignatureVerified)+`}`...)
}

// evidence is the text that a reporter signs (WIRE.md 9.2).
func (e *chainEvent) evidence() []byte {
	b := append([]byte{}, `{"agentId":`...)
	b = quoteJS(b, e.AgentID)
	for _, m := range [][2]string{
		{"reasonCode", e.ReasonCode}, {"reason", e.Reason}, {"evidenceHashSha256", e.EvidenceHashSHA256}, {"reporterId", e.ReporterID},
	} {
		b = append(b, `,"`+m[0]+`":`...)
		b = quoteJS(b, m[1])
	}
	return append(b, `,"timestampMs":`+strconv.FormatInt(e.TimestampMs, 10)+`}`...)
}

// wire is the record as it is served, and the leaf of the Merkle tree.
func (e *chainEvent) wire() []byte {
	var b bytes.Buffer
	text := func(name, value string, optional bool) {
		if optional && value == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + name + `":`)
		b.Write(quoteJS(nil, value))
	}
	raw := func(name, value string) { b.WriteString(`,"` + name + `":` + value) }
	text("eventId", e.EventID, false)
	text("agentId", e.AgentID, false)
	text("reasonCode", e.ReasonCode, false)
	text("reason", e.Reason, false)
	text("evidenceHashSha256", e.EvidenceHashSHA256, false)
	text("reporterId", e.ReporterID, false)
	text("reporterPublicKeyPem", e.ReporterPublicKeyPEM, true)
	text("reporterSignature", e.ReporterSignature, true)
	raw("evidenceSignatureVerified", strconv.FormatBool(e.EvidenceSignatureVerified))
	text("evidenceRef", e.EvidenceRef, true)
	text("sourceCoordinatorId", e.SourceCoordinatorID, false)
	text("reportedBy", e.ReportedBy, false)
	raw("timestampMs", strconv.FormatInt(e.TimestampMs, 10))
	if e.ExpiresAtMs != nil {
		raw("expiresAtMs", strconv.FormatInt(*e.ExpiresAtMs, 10))
	}
	text("prevEventHash", e.PrevEventHash, false)
	text("eventHash", e.EventHash, false)
	text("coordinatorSignature", e.CoordinatorSignature, false)
	return []byte("{" + b.String() + "}")
}

var shortEscapes = map[byte]byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r', '"': '"', '\\': '\\'}

// quoteJS appends s as JSON.stringify prints it (WIRE.md 0.2): only quotes,
// backslashes and control characters below U+0020 are escaped.
func quoteJS(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		ch := s[i]
		if esc, ok := shortEscapes[ch]; ok {
			b = append(b, '\\', esc)
		} else if ch < 0x20 {
			b = fmt.Appendf(b, `\u%04x`, ch)
		} else {
			b = append(b, ch)
		}
	}
	return append(b, '"')
}

// verifyEvent checks one event against its predecessor's hash and the keys. It
// returns what is wrong, or "".
func verifyEvent(e *chainEvent, prev string, keys map[string]crypto.PublicKey) string {
	if e.PrevEventHash != prev {
		return fmt.Sprintf("hash_chain_break: it names %.12s as its predecessor, not %.12s", e.PrevEventHash, prev)
	}
	sum := sha256.Sum256(e.preimage())
	if hex.EncodeToString(sum[:]) != e.EventHash {
		return "event_hash_mismatch"
	}
	key, ok := keys[e.SourceCoordinatorID]
	if !ok {
		return "missing_coordinator_key: " + e.SourceCoordinatorID
	}
	if !signed(key, []byte(e.EventHash), e.CoordinatorSignature) {
		return "coordinator_signature_invalid"
	}
	if e.EvidenceSignatureVerified {
		reporter, err := crypto.ParsePublicKeyPEM(e.ReporterPublicKeyPEM)
		if err != nil || !signed(reporter, e.evidence(), e.ReporterSignature) {
			return "reporter_signature_invalid: the event claims that it was verified"
		}
	}
	return ""
}

func signed(key crypto.PublicKey, text []byte, signature string) bool {
	sig, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && len(sig) == ed25519.SignatureSize && ed25519.Verify(key[:], text, sig)
}

// parseChain reads the events of an audit.
func parseChain(events []json.RawMessage) ([]chainEvent, error) {
	out := make([]chainEvent, len(events))
	for i, text := range events {
		if err := strictJSON(text, &out[i]); err != nil {
			return out[:i], fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	return out, nil
}

// chainIndex is the longest chain that a node showed in the end.
type chainIndex struct {
	node   string
	events []chainEvent
	seqs   map[string]uint64 // by agent and reason
}

func (ci *chainIndex) seqOf(agent, reason string) uint64 { return ci.seqs[agent+"\x00"+reason] }

// chain returns the longest final chain, or nil when no node showed one.
func (r *Run) chain() *chainIndex {
	var best *chainIndex
	for _, node := range r.About.replicas() {
		f := r.final(node)
		if f == nil {
			continue
		}
		events, _ := parseChain(f.Audit.Events) // checkChains reports what does not parse
		if best == nil || len(events) > len(best.events) {
			best = &chainIndex{node: node, events: events}
		}
	}
	if best == nil {
		return nil
	}
	best.seqs = map[string]uint64{}
	for i := range best.events {
		where := best.events[i].AgentID + "\x00" + best.events[i].Reason
		if best.seqs[where] == 0 {
			best.seqs[where] = uint64(i + 1)
		}
	}
	return best
}
