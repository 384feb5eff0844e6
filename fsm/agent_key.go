package fsm

import (
	"bytes"
	"cmp"
	"slices"

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
// LevelClients on). The node that proposes it has verified a request of which
// these keys are a part and that By signed, and two more signatures: that of a new
// PublicKey on the change (crypto.SignKeyChange), so that nobody takes a key that
// it does not hold, and EncryptionProof. The agent needs no token for it.
type AgentRekey struct {
	AgentID         string           `cbor:"1,keyasint"`
	By              KeyRef           `cbor:"2,keyasint"` // the agent's newest key
	PublicKey       crypto.PublicKey `cbor:"3,keyasint"` // the newest from now on; may be the same
	EncryptionKey   []byte           `cbor:"4,keyasint,omitempty"`
	TimestampMs     int64            `cbor:"5,keyasint"`           // that By signed, Unix milliseconds
	EncryptionProof []byte           `cbor:"6,keyasint,omitempty"` // PublicKey's, on EncryptionKey
}

// applyAgentRekey replaces what the newest key vouches for (WEAKNESSES C2). The
// key that is replaced verifies for one more window, so that requests under way
// and their repetitions are not refused. A proof of the encryption key counts for
// one pair of keys: it goes with either of them.
func (s *State) applyAgentRekey(c *change, b AgentRekey) Result {
	a, res := s.rekeyed(b, c.atMs)
	if !res.OK() || res.Repeated {
		return res
	}
	was, _ := s.agents.get(b.AgentID)
	if a.Key() != was.Key() {
		ref := a.Key().Fingerprint()
		s.keyOwners.put(string(ref[:]), ownerAgent+a.ID)
		s.keyRequests.remove(AgentSubject(a.ID).String()) // it did what it was asked for
	}
	a.KeysSignedMs, a.UpdatedMs, a.Index = b.TimestampMs, c.atMs, c.index
	s.agents.put(a.ID, a)
	detail := "key_id=" + a.Key().KeyID() + " by=" + was.Key().KeyID()
	if s.meta.v.Level >= LevelKeys { // older logs were applied without
		detail += " " + a.Keys.text()
	}
	s.record(c, "agent_rekey", a.ID, detail)
	return res
}

// CheckRekey returns what Apply would say of a change of keys at a clock, Unix
// milliseconds: a refusal that is known beforehand needs no place in the log.
func (s *State) CheckRekey(b AgentRekey, nowMs int64) Result {
	_, res := s.rekeyed(b, nowMs)
	return res
}

// rekeyed returns the agent with its keys changed, or why it keeps those it has.
func (s *State) rekeyed(b AgentRekey, nowMs int64) (Agent, Result) {
	a, ok := s.agents.get(b.AgentID)
	if !ok {
		return a, refuse(CodeNotFound, "agent_id", "there is no agent %q", b.AgentID)
	}
	if res, ok := s.mayRekey(a, nowMs); !ok {
		return a, res
	}
	if a.hasKeys(b) {
		return a, Result{Code: CodeOK, ID: a.ID, Repeated: true}
	}
	if res, ok := s.checkRekey(a, b, nowMs); !ok {
		return a, res
	}
	if s.meta.v.Level >= LevelKeys { // before, the newest key is the one that verifies
		if res, ok := s.mayOrder(a, nowMs); !ok {
			return a, res
		}
	}
	if a.Key() != b.PublicKey {
		if res, ok := s.takeKey(&a, b.PublicKey, nowMs); !ok {
			return a, res
		}
	} else if nowMs-a.UpdatedMs < EncryptionPauseMs {
		return a, refuse(CodeOverloaded, "", "%q was changed less than %d ms ago", a.ID, EncryptionPauseMs)
	}
	a.EncryptionKey, a.EncryptionProof = b.EncryptionKey, b.EncryptionProof
	if newest := a.Keys.newestAt(); a.Keys[newest].Succession != nil { // its proof stands with it
		a.Keys = slices.Clone(a.Keys)
		a.Keys[newest].EncryptionProof = b.EncryptionProof
	}
	return a, Result{Code: CodeOK, ID: a.ID}
}

// mayRekey asks whether the agent may act at all, now that the change takes its
// place in the log: a ban or a suspension may have been faster.
func (s *State) mayRekey(a Agent, nowMs int64) (Result, bool) {
	switch {
	case a.State != AgentActive:
		return refuse(CodeAgentNotActive, "state", "%q is %s: only an active agent changes its keys", a.ID, a.State), false
	case s.banned(a.ID, nowMs):
		return refuse(CodeBlacklisted, "agent_id", "a ban is in force on %q", a.ID), false
	case s.recoveringAt(nowMs) != 0:
		return refuse(CodeUnavailable, "", "the cluster was recovered or restored: keys change again once admissions do"), false
	}
	return Result{}, true
}

// hasKeys tells whether the change is made already.
func (a Agent) hasKeys(b AgentRekey) bool {
	return a.Key() == b.PublicKey && bytes.Equal(a.EncryptionKey, b.EncryptionKey) &&
		(len(b.EncryptionProof) == 0 || bytes.Equal(a.EncryptionProof, b.EncryptionProof))
}

// checkRekey holds a change to the key and the time that it was signed with. It
// uses up no nonce: that each change is signed later than the one before, and
// than the enrolment, keeps a captured request from taking one back.
func (s *State) checkRekey(a Agent, b AgentRekey, nowMs int64) (Result, bool) {
	after := a.KeysSignedMs
	if s.meta.v.Level >= LevelKeys && !s.signable(after, nowMs) {
		after = 0 // see lastOrderMs
	}
	if a.EnrolledMs <= nowMs { // else the clock was set back since
		after = max(after, a.EnrolledMs)
	}
	switch n := len(b.EncryptionProof); {
	case a.Key().Fingerprint() != b.By:
		return refuse(CodeConflict, "public_key", "the keys of %q are changed by its newest key alone, which is %s", a.ID, a.Key().KeyID()), false
	case !s.inWindow(b.TimestampMs, nowMs):
		return refuse(CodeTimestampSkew, "", "the request was signed at %d, outside the window around %d", b.TimestampMs, nowMs), false
	case b.TimestampMs <= after:
		return refuse(CodeReplay, "", "the request was signed at %d, the keys of %q are as of %d: sign a new one", b.TimestampMs, a.ID, after), false
	case len(b.EncryptionKey) != 0 && len(b.EncryptionKey) != 32:
		return refuse(CodeInvalid, "encryption_key", "%d bytes, an X25519 key has 32", len(b.EncryptionKey)), false
	case n != 0 && (n != crypto.SignatureSize || len(b.EncryptionKey) == 0):
		return refuse(CodeInvalid, "encryption_proof", "%d bytes, a signature on an encryption key has %d", n, crypto.SignatureSize), false
	}
	return Result{}, true
}

// takeKey gives the agent a new key, which must never have been anybody's. It does
// not say so in keyOwners: what is only looked at changes nothing.
func (s *State) takeKey(a *Agent, key crypto.PublicKey, nowMs int64) (Result, bool) {
	if err := crypto.CheckPublicKey(key); err != nil {
		return refuse(CodeInvalid, "public_key", "%v", err), false
	}
	ref := key.Fingerprint()
	last := a.Keys.newestAt()
	newest := a.Keys[last]
	switch _, taken := s.keyOwners.get(string(ref[:])); {
	case taken:
		return refuse(CodeConflict, "public_key", "this public key belongs to another id, or was replaced"), false
	case newest.NotBeforeMs != 0 && nowMs-newest.NotBeforeMs < RekeyPauseMs:
		return refuse(CodeOverloaded, "", "the key of %q was changed less than %d ms ago", a.ID, RekeyPauseMs), false
	case s.ownersFull(ownersKept):
		return refuse(CodeOverloaded, "", "%d public keys are known, no room for one more", s.keyOwners.size()), false
	}
	var keys Ring // a new list: rows are never changed in place
	for i, k := range a.Keys {
		if i != last && !k.ended(nowMs) {
			keys = append(keys, k)
		}
	}
	if len(keys)+2 > MaxAgentKeys {
		return refuse(CodeOverloaded, "", "%d keys of %q verify, at most %d", len(keys)+1, a.ID, MaxAgentKeys), false
	}
	if !plantKeyStays {
		newest.NotAfterMs = min(nowMs+s.policy.v.MaxSkewMs, MaxTimeMs, cmp.Or(newest.NotAfterMs, MaxTimeMs))
	}
	a.Keys = append(keys, newest, Key{Public: key, NotBeforeMs: max(nowMs, 1)})
	return Result{}, true
}

// mayOrder refuses a change on the word of the newest key while that is still to
// begin, or was revoked.
func (s *State) mayOrder(a Agent, nowMs int64) (Result, bool) {
	newest := a.Keys[a.Keys.newestAt()]
	switch {
	case newest.pending(nowMs):
		return refuse(CodeConflict, "public_key", "the next key of %q is prepared already, it is %s", a.ID, newest.Public.KeyID()), false
	case !newest.verifies(nowMs):
		return refuse(CodeConflict, "public_key", "the newest key of %q does not verify any more: an operator replaces it (edgecoder keys rotate %s --recover)", a.ID, AgentSubject(a.ID)), false
	}
	return Result{}, true
}

// setKeysBack makes the windows of keys that were changed while the clock ran
// ahead those of a change made now: the new key must not wait for that time, nor
// the old one verify until then (P5).
func (s *State) setKeysBack(nowMs int64) {
	for _, a := range s.agents.values() {
		keys := slices.Clone(a.Keys)
		for i := range keys {
			keys[i].NotBeforeMs = min(keys[i].NotBeforeMs, nowMs)
			keys[i].NotAfterMs = min(keys[i].NotAfterMs, nowMs+s.policy.v.MaxSkewMs)
		}
		if !keys.Same(a.Keys) {
			a.Keys = keys
			s.agents.put(a.ID, a)
		}
	}
}
