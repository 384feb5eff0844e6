package fsm

import (
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// SubjectKind is what kind of owner keys have.
type SubjectKind string

// The kinds. Of the last two there is one subject each, which has their name.
const (
	SubjectAgent       SubjectKind = "agent"
	SubjectCoordinator SubjectKind = "coordinator"
	SubjectCertificate SubjectKind = "certificate"
	SubjectManifest    SubjectKind = "manifest"
	SubjectGossip      SubjectKind = "gossip"
	SubjectCA          SubjectKind = "ca"
)

// SubjectKinds lists the kinds in the order in which they are shown.
func SubjectKinds() []SubjectKind {
	return []SubjectKind{SubjectCoordinator, SubjectCertificate, SubjectAgent, SubjectManifest, SubjectGossip, SubjectCA}
}

// Shared tells whether keys of the kind are held by all coordinators together.
func (k SubjectKind) Shared() bool { return k == SubjectGossip || k == SubjectCA }

// Named tells whether keys of the kind are no Ed25519 keys: 32 bytes name them.
func (k SubjectKind) Named() bool { return k.Shared() || k == SubjectCertificate }

// Subject is whose keys: coordinator/NODE ID (what it signs with), certificate/NODE
// ID (what its TLS certificates are for), agent/AGENT ID, manifest/SIGNER, gossip or ca.
type Subject struct {
	Kind SubjectKind
	ID   string // empty of gossip and ca
}

// AgentSubject is the subject of an agent's keys.
func AgentSubject(id string) Subject { return Subject{SubjectAgent, id} }

// CoordinatorSubject is the subject of a coordinator's signing keys.
func CoordinatorSubject(nodeID string) Subject { return Subject{SubjectCoordinator, nodeID} }

// String returns the text of the subject, which ParseSubject reads.
func (s Subject) String() string {
	if s.ID == "" {
		return string(s.Kind)
	}
	return string(s.Kind) + "/" + s.ID
}

// ParseSubject reads the text of a subject. The text of a kind alone names one
// only where there is one subject of the kind.
func ParseSubject(text string) (Subject, error) {
	kind, id, named := strings.Cut(text, "/")
	s := Subject{SubjectKind(kind), id}
	switch s.Kind {
	case SubjectGossip, SubjectCA:
		if named {
			return s, fmt.Errorf("%s: %s has no names below it", shown(text), kind)
		}
		return s, nil
	case SubjectAgent, SubjectCoordinator, SubjectCertificate, SubjectManifest:
		if err := crypto.CheckID(id); err != nil {
			return s, fmt.Errorf("%s: name one, as %s/ID: %w", shown(text), kind, err)
		}
		return s, nil
	}
	return s, fmt.Errorf("%s names no keys: want coordinator/NODE, certificate/NODE, agent/AGENT, manifest/SIGNER, gossip or ca", shown(text))
}

// ParseScheduled reads what a schedule is set for: a subject, or a kind for all
// of its subjects that have none of their own.
func ParseScheduled(text string) (Subject, error) {
	switch kind := SubjectKind(text); kind {
	case SubjectAgent, SubjectCoordinator, SubjectCertificate, SubjectManifest:
		return Subject{Kind: kind}, nil
	}
	return ParseSubject(text)
}

// ring returns the keys of a subject; known is false if there is no such subject.
func (s *State) ring(of Subject) (r Ring, known bool) {
	switch of.Kind {
	case SubjectAgent:
		a, ok := s.agents.get(of.ID)
		return a.Keys, ok
	case SubjectCoordinator:
		n, ok := s.coordinators.get(of.ID)
		return n.Ring(), ok
	case SubjectCertificate:
		n, ok := s.coordinators.get(of.ID)
		return n.TLSRing(), ok
	case SubjectManifest:
		g, ok := s.ManifestTrust().signer(of.ID)
		return g.Ring(), ok
	}
	r, _ = s.keyRings.get(of.String())
	return r, of.Kind.Shared()
}

// putRing replaces the keys of a subject that is known.
func (s *State) putRing(c *change, of Subject, r Ring) {
	switch of.Kind {
	case SubjectAgent:
		a, _ := s.agents.get(of.ID)
		a.Keys, a.UpdatedMs, a.Index = r, c.atMs, c.index
		s.agents.put(a.ID, a)
	case SubjectCoordinator:
		n, _ := s.coordinators.get(of.ID)
		n.Keys = r
		s.coordinators.put(n.ID, n)
	case SubjectCertificate:
		n, _ := s.coordinators.get(of.ID)
		n.TLSKeys = r
		s.coordinators.put(n.ID, n)
	case SubjectManifest:
		s.putSignerRing(of.ID, r)
	default:
		s.keyRings.put(of.String(), r)
	}
}

// bind makes a public key the subject's for ever, where keys are bound at all.
func (s *State) bind(c *change, of Subject, key crypto.PublicKey) {
	ref := key.Fingerprint()
	switch of.Kind {
	case SubjectAgent:
		s.keyOwners.put(string(ref[:]), ownerAgent+of.ID)
	case SubjectCoordinator:
		n, _ := s.coordinators.get(of.ID)
		s.keyOwners.put(string(ref[:]), ownerCoordinator+of.ID)
		s.signingKeys.put(key.CoordinatorID(), SigningKey{Public: key, NodeID: of.ID, API: n.API, Since: c.index})
	case SubjectCertificate:
		n, _ := s.coordinators.get(of.ID)
		s.bindName(of, crypto.PublicKey(n.TLSKey)) // it may leave the ring now
		s.bindName(of, key)
	case SubjectGossip, SubjectCA:
		s.bindName(of, key)
	}
}

// bindable refuses a key that is bound already, or that there is no room for: an
// agent's must leave some for others.
func (s *State) bindable(of Subject, key crypto.PublicKey, kept int) (Result, bool) {
	if !of.Kind.Named() {
		if err := crypto.CheckPublicKey(key); err != nil {
			return refuse(CodeInvalid, "public_key", "%v", err), false
		}
	}
	ref := key.Fingerprint()
	_, taken := s.keyOwners.get(string(ref[:]))
	_, signs := s.signingKeys.get(key.CoordinatorID())
	switch {
	case of.Kind == SubjectAgent && taken, of.Kind == SubjectCoordinator && (taken || signs):
		return refuse(CodeConflict, "public_key", "this public key belongs to another id, or was replaced"), false
	case of.Kind.Shared() && taken:
		return refuse(CodeConflict, "public_key", "%s has or had this key: a key never comes back", of), false
	case of.Kind == SubjectCertificate && s.HadTLSKey(crypto.Hash(key)):
		return refuse(CodeConflict, "public_key", "a node has or had this TLS key: a key never comes back"), false
	case of.Kind == SubjectManifest && s.ManifestTrust().has(key):
		return refuse(CodeConflict, "public_key", "this public key is a signer's already: one signer counts once"), false
	case of.Kind == SubjectAgent && s.ownersFull(kept), of.Kind == SubjectCoordinator && s.keyOwners.full(), of.Kind.Named() && s.ownersFull(1):
		return refuse(CodeOverloaded, "", "%d public keys are known, no room for one more", s.keyOwners.size()), false
	case of.Kind == SubjectCoordinator && s.signersFull(of):
		return refuse(CodeOverloaded, "", "%d signing keys are known of at most %d: the last tenth is for those that join, and for keys that somebody asks for (edgecoder keys rotate %s)", s.signingKeys.size(), s.signingKeys.cap, of), false
	}
	return Result{}, true
}

// ownersFull tells whether there is no room for one more agent's key that leaves some
// for others; before LevelKeys agents leave none.
func (s *State) ownersFull(kept int) bool {
	if s.meta.v.Level < LevelKeys {
		kept = 0
	}
	return s.keyOwners.size() >= s.keyOwners.cap-kept
}

// signersFull tells whether there is no room for one more signing key of a node. What
// nobody asked for leaves a tenth: a schedule must not keep others from joining, nor a
// node whose key was revoked, which is asked for its next one, from ever signing again.
func (s *State) signersFull(of Subject) bool {
	kept := s.signingKeys.cap / 10
	if _, asked := s.keyRequests.get(of.String()); asked {
		kept = 0
	}
	return s.signingKeys.size() >= s.signingKeys.cap-kept
}

// mostKeys is how many keys a ring of the kind holds.
func (k SubjectKind) mostKeys() int {
	switch k {
	case SubjectAgent:
		return MaxAgentKeys
	case SubjectManifest:
		return MaxSignerKeys
	}
	return MaxRingKeys
}
