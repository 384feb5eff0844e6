package fsm

import (
	"bytes"

	"github.com/edgecoder/edgecoder/crypto"
)

// LevelClients is the feature level from which agents ask for themselves, their
// keys change, and the policy may name agents that do not sign.
const LevelClients = 4

// Pauses between the changes of one agent's keys, in milliseconds. Every public
// key is remembered for ever (MaxKeyOwners), so an agent must not make them at will.
const (
	RekeyPauseMs      = 3_600_000
	EncryptionPauseMs = 60_000
)

// AgentRekey changes the keys of an active agent on its own word (from
// LevelClients on): the node that proposes it has verified a request of which
// these keys are a part and that By signed. The agent needs no token for it.
type AgentRekey struct {
	AgentID       string           `cbor:"1,keyasint"`
	By            KeyRef           `cbor:"2,keyasint"` // the agent's newest key
	PublicKey     crypto.PublicKey `cbor:"3,keyasint"` // the newest from now on; may be the same
	EncryptionKey []byte           `cbor:"4,keyasint,omitempty"`
}

// applyAgentRekey replaces what the newest key vouches for (WEAKNESSES C2). The
// key that is replaced verifies for one more window, so that requests under way
// and their repetitions are not refused.
func (s *State) applyAgentRekey(c *change, b AgentRekey) Result {
	a, ok := s.agents.get(b.AgentID)
	switch {
	case !ok:
		return refuse(CodeNotFound, "agent_id", "there is no agent %q", b.AgentID)
	case a.State != AgentActive:
		return refuse(CodeConflict, "state", "%q is %s: only an active agent changes its keys", a.ID, a.State)
	case s.banned(a.ID, c.atMs):
		return refuse(CodeForbidden, "agent_id", "a ban is in force on %q", a.ID)
	case a.Key() == b.PublicKey && bytes.Equal(a.EncryptionKey, b.EncryptionKey):
		return Result{Code: CodeOK, ID: a.ID, Repeated: true}
	case a.Key().Fingerprint() != b.By:
		return refuse(CodeConflict, "public_key", "the keys of %q are changed by its newest key alone, which is %s", a.ID, a.Key().KeyID())
	case len(b.EncryptionKey) != 0 && len(b.EncryptionKey) != 32:
		return refuse(CodeInvalid, "encryption_key", "%d bytes, an X25519 key has 32", len(b.EncryptionKey))
	}
	was := a.Key().KeyID()
	if a.Key() != b.PublicKey {
		if res, ok := s.takeKey(c, &a, b.PublicKey); !ok {
			return res
		}
	} else if c.atMs-a.UpdatedMs < EncryptionPauseMs {
		return refuse(CodeOverloaded, "", "%q was changed less than %d ms ago", a.ID, EncryptionPauseMs)
	}
	a.EncryptionKey, a.UpdatedMs, a.Index = b.EncryptionKey, c.atMs, c.index
	s.agents.put(a.ID, a)
	s.record(c, "agent_rekey", a.ID, "key_id="+a.Key().KeyID()+" by="+was)
	return Result{Code: CodeOK, ID: a.ID}
}

// takeKey gives the agent a new key, which must never have been anybody's.
func (s *State) takeKey(c *change, a *Agent, key crypto.PublicKey) (Result, bool) {
	if err := crypto.CheckPublicKey(key); err != nil {
		return refuse(CodeInvalid, "public_key", "%v", err), false
	}
	ref := key.Fingerprint()
	newest := a.Keys[len(a.Keys)-1]
	switch _, taken := s.keyOwners.get(string(ref[:])); {
	case taken:
		return refuse(CodeConflict, "public_key", "this public key belongs to another id, or was replaced"), false
	case newest.NotBeforeMs != 0 && c.atMs-newest.NotBeforeMs < RekeyPauseMs:
		return refuse(CodeOverloaded, "", "the key of %q was changed less than %d ms ago", a.ID, RekeyPauseMs), false
	case s.keyOwners.full():
		return refuse(CodeOverloaded, "", "%d public keys are known, no room for one more", s.keyOwners.size()), false
	}
	var keys []AgentKey // a new list: rows are never changed in place
	for _, k := range a.Keys[:len(a.Keys)-1] {
		if k.NotAfterMs == 0 || k.NotAfterMs >= c.atMs {
			keys = append(keys, k)
		}
	}
	if len(keys)+2 > MaxAgentKeys {
		return refuse(CodeOverloaded, "", "%d keys of %q verify, at most %d", len(keys)+1, a.ID, MaxAgentKeys), false
	}
	newest.NotAfterMs = c.atMs + s.policy.v.MaxSkewMs
	a.Keys = append(keys, newest, AgentKey{Public: key, NotBeforeMs: max(c.atMs, 1)})
	s.keyOwners.put(string(ref[:]), ownerAgent+a.ID)
	return Result{}, true
}
