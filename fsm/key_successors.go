package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// Whoever stole a key may have ordered its successor, which then is the thief's. The
// next key goes with the one that ordered it; one that has begun may be in honest use,
// so it ends only if the admin says so, who is told of it.

// successors returns the places of the keys that the i-th ordered, and that these
// ordered, in the order in which they begin. A key that an agent's request brought
// (AgentRekey) was ordered by the one before it.
func (r Ring) successors(i int) (out []int) {
	ordered := map[crypto.PublicKey]bool{r[i].Public: true}
	for j, k := range r {
		switch {
		case j <= i:
			continue
		case k.Succession != nil && !ordered[k.Succession.Predecessor] && !(k.Succession.Predecessor.IsZero() && ordered[k.Succession.Signer]):
			continue
		case k.Succession == nil && (k.Index != 0 || !ordered[r[j-1].Public]):
			continue
		}
		ordered[k.Public] = true
		out = append(out, j)
	}
	return out
}

// revokeSuccessors ends, or names, the keys that still count of those that the i-th key
// of a ring ordered.
func (s *State) revokeSuccessors(c *change, of Subject, i int, b KeyRevoke, ended *KeysEnded) {
	if of.Kind.Named() {
		return
	}
	have, _ := s.ring(of)
	ring := slices.Clone(have)
	var went []int
	for _, j := range have.successors(i) {
		switch name := of.String() + " " + have[j].Public.KeyID(); {
		case have[j].ended(c.atMs):
		case b.WithSuccessors:
			ring[j].RevokedAt = c.index
			went, ended.Keys = append(went, j), append(ended.Keys, name)
		default:
			ended.Left = append(ended.Left, name)
		}
	}
	if len(went) == 0 {
		return
	}
	s.putRing(c, of, ring)
	s.askNext(c, of, ring)
	for _, j := range went {
		s.afterward(c, of, ring, j, ended)
		s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s ordered_by=%s%s %s reason=%q",
			ring[j].Public.KeyID(), have.StateOf(j, c.atMs), ring[i].Public.KeyID(), ended.encryptionText(), ring.text(), b.Reason))
	}
}

// afterward takes away what the i-th key of a ring, which was revoked, has left
// elsewhere: what it signs, what it ordered of another kind, what it may have registered.
func (s *State) afterward(c *change, of Subject, ring Ring, i int, ended *KeysEnded) {
	switch of.Kind {
	case SubjectCoordinator:
		s.retireSigningKeys(of.ID, ring, c)
		s.revokeOrdered(c, of.ID, ring[i].Public)
	case SubjectAgent:
		if s.dropEncryption(c, of.ID, i) {
			ended.EncryptionKey = true
		}
	}
}

// dropEncryption forgets the encryption key of an agent whose i-th key was revoked: who
// had that may have registered one of their own, and would read what is sealed to the
// agent. It stays if a later key is active and vouches for it. The agent registers one
// again by a signed request.
func (s *State) dropEncryption(c *change, id string, i int) bool {
	a, _ := s.agents.get(id)
	begun := a.Keys[i].NotBeforeMs <= c.atMs // one that never did has registered nothing
	vouched := a.Keys.activeAt(c.atMs) > i && len(a.EncryptionProofAt(c.atMs)) > 0
	if !begun || vouched || len(a.EncryptionKey) == 0 {
		return false
	}
	a.EncryptionKey, a.EncryptionProof = nil, nil
	a.Keys = slices.Clone(a.Keys)
	for j := range a.Keys {
		a.Keys[j].EncryptionProof = nil
	}
	s.agents.put(id, a)
	return true
}

// orNone is what an answer says: nothing, if nothing ended.
func (e KeysEnded) orNone() *KeysEnded {
	if len(e.Keys)+len(e.Left)+e.JoinTokens == 0 && !e.EncryptionKey {
		return nil
	}
	return &e
}

func (e KeysEnded) encryptionText() string {
	if !e.EncryptionKey {
		return ""
	}
	return " encryption_key=dropped"
}
