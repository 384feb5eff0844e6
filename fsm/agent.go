package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// AgentState is where an agent stands.
type AgentState string

// The states. A revoked agent never comes back.
const (
	AgentPending   AgentState = "pending"
	AgentActive    AgentState = "active"
	AgentSuspended AgentState = "suspended"
	AgentRevoked   AgentState = "revoked"
)

// Agent is an enrolled agent. Its keys are a list so that rotation can overlap.
type Agent struct {
	ID            string     `cbor:"1,keyasint"`
	State         AgentState `cbor:"2,keyasint"`
	Keys          Ring       `cbor:"3,keyasint"`
	EncryptionKey []byte     `cbor:"4,keyasint,omitempty"`
	EnrolledMs    int64      `cbor:"5,keyasint"`
	UpdatedMs     int64      `cbor:"6,keyasint"`
	TokenID       string     `cbor:"7,keyasint"` // enrolment token it came by
	Index         uint64     `cbor:"8,keyasint"` // entry that changed it last
	// EncryptionProof lets whoever seals to EncryptionKey check that the agent named
	// it: the signature of its newest key; empty of agents that gave none.
	EncryptionProof []byte `cbor:"9,keyasint,omitempty"`
	// KeysSignedMs is the signed timestamp of the request that changed the keys last,
	// 0 if none did. It never falls: no older request changes them again.
	KeysSignedMs int64 `cbor:"10,keyasint,omitempty"`
}

// Key returns the newest key that was not revoked, which may be still to begin; if all
// were, the newest.
func (a Agent) Key() crypto.PublicKey {
	if len(a.Keys) == 0 {
		return crypto.PublicKey{}
	}
	return a.Keys[a.Keys.newestAt()].Public
}

// KeyAt returns the key that is active at a time, or the newest if none verifies.
func (a Agent) KeyAt(nowMs int64) crypto.PublicKey {
	if k, ok := a.Keys.Active(nowMs); ok {
		return k.Public
	}
	return a.Key()
}

// EncryptionProofAt returns the signature of the key that KeyAt returns on the
// encryption key, nil if it made none.
func (a Agent) EncryptionProofAt(nowMs int64) []byte {
	if k, ok := a.Keys.Active(nowMs); ok && (k.Succession != nil || k.EncryptionProof != nil) {
		return k.EncryptionProof
	}
	return a.EncryptionProof
}

// keyCode tells whether the key that verified is the agent's and valid now.
func (a Agent) keyCode(ref KeyRef, nowMs int64) Code {
	for _, k := range a.Keys {
		if k.Public.Fingerprint() != ref {
			continue
		}
		if !k.verifies(nowMs) {
			return CodeKeyExpired
		}
		return CodeOK
	}
	return CodeInvalidSignature
}

// applyAgentEnroll binds an id to a key once and for all: neither can be bound
// again, whatever token is shown (WEAKNESSES C2).
func (s *State) applyAgentEnroll(c *change, b AgentEnroll) Result {
	if res, done := s.repeatedEnrolment(c, b); done {
		return res
	}
	if res, ok := s.actorCan(c, CapEnroll); !ok {
		return res
	}
	if err := crypto.CheckID(b.AgentID); err != nil {
		return refuse(CodeInvalid, "agent_id", "%v", err)
	}
	if err := crypto.CheckPublicKey(b.PublicKey); err != nil {
		return refuse(CodeInvalid, "public_key", "%v", err)
	}
	if n := len(b.EncryptionKey); n != 0 && n != 32 {
		return refuse(CodeInvalid, "encryption_key", "%d bytes, an X25519 key has 32", n)
	}
	if n := len(b.EncryptionProof); n != 0 && (n != crypto.SignatureSize || len(b.EncryptionKey) == 0) {
		return refuse(CodeInvalid, "encryption_proof", "%d bytes, a signature on an encryption key has %d", n, crypto.SignatureSize)
	}
	ref := b.PublicKey.Fingerprint()
	switch _, taken := s.keyOwners.get(string(ref[:])); {
	case s.hasAgent(b.AgentID):
		return refuse(CodeConflict, "agent_id", "%q is enrolled already: its key is changed only by a request signed with the current key", b.AgentID)
	case taken:
		return refuse(CodeConflict, "public_key", "this public key belongs to another id")
	case s.agents.full() || s.ownersFull(ownersKept):
		return refuse(CodeOverloaded, "", "%d agents are enrolled, no room for one more", s.agents.size())
	}
	a := Agent{ID: b.AgentID, State: AgentPending, EncryptionKey: b.EncryptionKey, EnrolledMs: c.atMs, UpdatedMs: c.atMs,
		TokenID: c.actor.TokenID, Index: c.index, EncryptionProof: b.EncryptionProof, Keys: Ring{{Public: b.PublicKey, NotBeforeMs: 0}}}
	if s.policy.v.AutoApprove {
		a.State = AgentActive
	}
	s.useToken(c)
	s.agents.put(a.ID, a)
	s.keyOwners.put(string(ref[:]), "agent:"+a.ID)
	s.record(c, "agent_enroll", a.ID, "state="+string(a.State)+" key_id="+b.PublicKey.KeyID())
	return Result{Code: CodeOK, ID: a.ID}
}

// repeatedEnrolment answers a retry of the very enrolment that took effect:
// same id, key and token, the answer to which was lost.
func (s *State) repeatedEnrolment(c *change, b AgentEnroll) (Result, bool) {
	a, ok := s.agents.get(b.AgentID)
	if !ok || a.Key() != b.PublicKey || a.TokenID != c.actor.TokenID || c.actor.TokenID == "" {
		return Result{}, false
	}
	if s.meta.v.Level >= LevelClients && !a.EncryptsAs(b) { // older logs were applied without
		return refuse(CodeConflict, "encryption_key", "%s", OtherEncryptionKey(a.ID)), true
	}
	return Result{Code: CodeOK, ID: a.ID, Repeated: true}, true
}

// EncryptsAs tells whether an enrolment names the encryption key, and its proof,
// that the agent has.
func (a Agent) EncryptsAs(b AgentEnroll) bool {
	return bytes.Equal(a.EncryptionKey, b.EncryptionKey) && bytes.Equal(a.EncryptionProof, b.EncryptionProof)
}

// OtherEncryptionKey says what a second enrolment by the same key and token
// means: somebody saw the first one, changed it and was faster.
func OtherEncryptionKey(id string) string {
	return fmt.Sprintf("%.128q is enrolled with another encryption key, or without its proof: if you did not do that, somebody changed the enrolment on its way; revoke the agent and enrol a new id with a new key", id)
}

// needsLevel returns the feature level that the members of the row need.
func (a Agent) needsLevel() uint32 {
	if slices.ContainsFunc(a.Keys, Key.scheduled) {
		return LevelKeys
	}
	if a.KeysSignedMs != 0 || len(a.EncryptionProof) > 0 {
		return LevelClients
	}
	return 0
}

func (s *State) hasAgent(id string) bool { _, ok := s.agents.get(id); return ok }

func (s *State) applyAgentSetState(c *change, b AgentSetState) Result {
	need := CapOperate
	if b.State == AgentRevoked {
		need = CapAdmin
	}
	if res, ok := s.actorCan(c, need); !ok {
		return res
	}
	a, ok := s.agents.get(b.AgentID)
	switch {
	case !ok:
		return refuse(CodeNotFound, "agent_id", "there is no agent %q", b.AgentID)
	case b.State != AgentActive && b.State != AgentSuspended && b.State != AgentRevoked:
		return refuse(CodeInvalid, "state", "an agent cannot be made %q", b.State)
	case a.State == b.State:
		return Result{Code: CodeOK, ID: a.ID}
	case a.State == AgentRevoked:
		return refuse(CodeConflict, "state", "%q is revoked for good: enrol a new id", a.ID)
	case a.State == AgentPending && b.State == AgentSuspended:
		return refuse(CodeConflict, "state", "%q is pending: approve or revoke it", a.ID)
	}
	a.State, a.UpdatedMs, a.Index = b.State, c.atMs, c.index
	s.agents.put(a.ID, a)
	if a.State == AgentRevoked {
		s.keyRequests.remove(AgentSubject(a.ID).String())
	}
	s.record(c, "agent_"+string(b.State), a.ID, "")
	return Result{Code: CodeOK, ID: a.ID}
}

// Agent returns an agent by id.
func (s *State) Agent(id string) (Agent, bool) { return s.agents.get(id) }

// Agents returns up to limit agents with ids after the given one, in order.
func (s *State) Agents(after string, limit int) []Agent { return s.agents.page(after, limit) }
