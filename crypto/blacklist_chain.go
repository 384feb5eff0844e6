package crypto

import (
	"fmt"
	"maps"
	"strings"
)

// Codes of [ChainError]. The first five are those of the independent verifier of WIRE 9.6.
const (
	ChainBreak                  = "hash_chain_break"
	ChainHashMismatch           = "event_hash_mismatch"
	ChainMissingKey             = "missing_coordinator_key"
	ChainSignatureInvalid       = "coordinator_signature_invalid"
	ChainHeadMismatch           = "chain_head_mismatch"
	ChainDuplicateEvent         = "duplicate_event_id"
	ChainReporterSignatureWrong = "reporter_signature_invalid"
)

// ChainError says which event breaks a chain, and how. It means that somebody is lying or something is damaged,
// never that a request was wrong.
type ChainError struct {
	Seq     int    // position in the chain, from 0; of chain_head_mismatch the number of events
	EventID string // empty for chain_head_mismatch
	Code    string // one of the Chain constants
	Detail  string // for people
}

// Error names position, event, code and detail.
func (e *ChainError) Error() string {
	if e.Code == ChainHeadMismatch {
		return fmt.Sprintf("blacklist chain of %d events: %s: %s", e.Seq, e.Code, e.Detail)
	}
	return fmt.Sprintf("blacklist chain: event %d (%s): %s: %s", e.Seq, quote(e.EventID), e.Code, e.Detail)
}

// ChainVerifier walks a blacklist chain from its genesis (WIRE 9.6). After a failure it stays failed: nothing
// behind a broken link can be vouched for.
type ChainVerifier struct {
	keys     map[string]PublicKey
	seen     map[eventKey]struct{}
	head     string
	size     int
	unproven int
	lenient  bool // see CountWrongReporters
	failed   *ChainError
}

// eventKey stands for an event id: chains have millions, and half a SHA-256 takes a fraction of an id's memory. Who
// can find two ids with the same one only has its own chain refused.
type eventKey [16]byte

func eventKeyOf(id string) eventKey {
	sum := Sum([]byte(id))
	return eventKey(sum[:16])
}

// NewChainVerifier takes the keys of all coordinators that ever signed, by coordinator id. The ids are taken on
// trust: chains of other implementations use ids that do not follow from the key.
func NewChainVerifier(keys map[string]PublicKey) *ChainVerifier {
	return &ChainVerifier{keys: maps.Clone(keys), seen: make(map[eventKey]struct{}), head: BlacklistGenesis}
}

// Add checks the next event and moves the head to it. The error is a *[ChainError].
func (v *ChainVerifier) Add(e BlacklistEvent) error {
	if v.failed != nil {
		return v.failed
	}
	if code, detail := v.check(&e); code != "" {
		v.failed = &ChainError{Seq: v.size, EventID: e.EventID, Code: code, Detail: detail}
		return v.failed
	}
	if e.EvidenceSignatureVerified && (!carriesEvidence(&e) || v.lenient && e.VerifyReporter() != nil) {
		v.unproven++
	}
	v.seen[eventKeyOf(e.EventID)] = struct{}{}
	v.head = strings.Clone(e.EventHash) // not the text that it was parsed from
	v.size++
	return nil
}

// check goes cheapest first, and in the order of WIRE 9.6, so that both verifiers name the same fault.
func (v *ChainVerifier) check(e *BlacklistEvent) (code, detail string) {
	if e.PrevEventHash != v.head {
		return ChainBreak, fmt.Sprintf("links to %s, the head is %s", quote(e.PrevEventHash), v.head)
	}
	if computed := e.ComputeHash().String(); computed != e.EventHash {
		return ChainHashMismatch, fmt.Sprintf("states %s, is %s", quote(e.EventHash), computed)
	}
	pub, known := v.keys[e.SourceCoordinatorID]
	if !known {
		return ChainMissingKey, "no key of coordinator " + quote(e.SourceCoordinatorID)
	}
	if !e.signedBy(pub) {
		return ChainSignatureInvalid, fmt.Sprintf("not signed by key %s of coordinator %s", pub.KeyID(), quote(e.SourceCoordinatorID))
	}
	if _, again := v.seen[eventKeyOf(e.EventID)]; again {
		return ChainDuplicateEvent, "an earlier event has the same id"
	}
	if e.EvidenceSignatureVerified && carriesEvidence(e) && !v.lenient {
		if err := e.VerifyReporter(); err != nil {
			return ChainReporterSignatureWrong, err.Error()
		}
	}
	return "", ""
}

func carriesEvidence(e *BlacklistEvent) bool {
	return e.ReporterPublicKeyPEM != "" && e.ReporterSignature != ""
}

// Head returns the hash of the last good event, or [BlacklistGenesis].
func (v *ChainVerifier) Head() string { return v.head }

// Size returns the number of good events.
func (v *ChainVerifier) Size() int { return v.size }

// CountWrongReporters has a reporter's signature that does not verify count as unproven instead of breaking the
// chain. Whoever could put a wrong one in could as well take it out. It is for backups: one event of a coordinator
// that lied must not make all that come after it worthless.
func (v *ChainVerifier) CountWrongReporters() { v.lenient = true }

// Unproven returns how many events claim a verified reporter signature without carrying key and signature. Their
// claim rests on the coordinator alone: the hash does not cover the two, so somebody may have taken them out.
func (v *ChainVerifier) Unproven() int { return v.unproven }

// Finish compares the head with the one that the chain's server claims. A chain that failed stays failed.
func (v *ChainVerifier) Finish(claimedHead string) error {
	if v.failed != nil {
		return v.failed
	}
	if claimedHead != v.head {
		return &ChainError{
			Seq: v.size, Code: ChainHeadMismatch,
			Detail: fmt.Sprintf("claimed head %s, the events end at %s", quote(claimedHead), quote(v.head)),
		}
	}
	return nil
}
