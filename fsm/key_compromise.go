package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// A coordinator that was compromised knows the gossip key, and the CA key unless it
// is an observer. What it could seal or sign with them must count no more from the
// index on at which it is removed, so their successors begin there, without an
// overlap. The leader has them prepared first, sealed to the others alone.

// HeldShared lists the shared keys that a member of a role holds.
func HeldShared(role Role) []Subject {
	if role == RoleCoordinator {
		return []Subject{{Kind: SubjectCA}, {Kind: SubjectGossip}}
	}
	return []Subject{{Kind: SubjectGossip}}
}

// UnheldSuccessor tells whether the next key of a shared subject is prepared and
// a node does not know it.
func (s *State) UnheldSuccessor(of Subject, nodeID string, nowMs int64) bool {
	ring, _ := s.ring(of)
	i := ring.pendingAt(nowMs)
	return i >= 0 && ring[i].waits() && !ring[i].Shared.heldBy(nodeID)
}

// heldBy tells whether a node made a shared key, said that it holds it, or was given it.
func (k *SharedKey) heldBy(nodeID string) bool {
	return k.Maker == nodeID || slices.Contains(k.Ready, nodeID) ||
		slices.ContainsFunc(k.Copies, func(p SealedCopy) bool { return p.NodeID == nodeID })
}

// InTheWay returns the keys of a shared subject that must be revoked before a
// successor can be prepared at once, which a compromised node does not know: the next
// one, which it may know, or if none waits and the ring is full, the oldest.
func (s *State) InTheWay(of Subject, nowMs int64) (out []KeyRef) {
	ring, _ := s.ring(of)
	if i := ring.pendingAt(nowMs); i >= 0 {
		return []KeyRef{ring[i].Public.Fingerprint()}
	}
	if ring.with(Key{}, of.Kind, nowMs) == nil {
		out = append(out, ring[0].Public.Fingerprint())
	}
	return out
}

// knownTo tells whether a node may know a shared key: it was a member until the entry
// leftAt, and held what there was by then, or a copy was sealed to it. The first of a
// ring was in use before it was on record.
func (k Key) knownTo(nodeID string, leftAt uint64) bool {
	return k.Shared.heldBy(nodeID) || k.Succession == nil || !k.waits() && k.Index <= leftAt
}

// leftAt is the entry until which what was made known became known to a node: that of
// now for a member, else the one that removed it; 0 if that was before LevelKeys, when
// nothing that is shared was on record. What a node held that was removed as compromised
// ended with it, and what began there was made for the others: of those it counts as
// known nothing, or each repetition of its removal would change all keys again.
func (s *State) leftAt(nodeID string) uint64 {
	if s.isMember(nodeID) {
		return s.meta.v.Index
	}
	gone, _ := s.removed.get(nodeID)
	if gone.Compromised {
		return 0
	}
	return gone.Index
}

// sharedKnown lists the subjects of which a node may know a key that the predicate
// takes, be it a member or removed. One whose role is not remembered counts as a
// coordinator. A key in use that is not on record yet is known to all.
func (s *State) sharedKnown(nodeID string, counts func(Ring, int) bool) (out []Subject) {
	gone, _ := s.removed.get(nodeID)
	role, at := cmp.Or(gone.Role, RoleCoordinator), s.leftAt(nodeID)
	if n, member := s.coordinators.get(nodeID); member {
		role = n.Role
	}
	for _, of := range HeldShared(role) {
		ring, _ := s.ring(of)
		known := len(ring) == 0
		for i, k := range ring {
			known = known || counts(ring, i) && k.knownTo(nodeID, at)
		}
		if known {
			out = append(out, of)
		}
	}
	return out
}

// MustReplace lists the subjects whose active key a node may know: before it is
// removed as compromised each has a successor that it does not know.
func (s *State) MustReplace(nodeID string, nowMs int64) []Subject {
	return s.sharedKnown(nodeID, func(r Ring, i int) bool { return i == r.activeAt(nowMs) })
}

// SharedWithAll tells whether whoever was a member at any time may know the keys that all
// share now: nobody left, or none was ever replaced.
func (s *State) SharedWithAll() bool {
	if s.removed.size() == 0 {
		return true
	}
	for _, of := range HeldShared(RoleCoordinator) {
		ring, _ := s.ring(of)
		for _, k := range ring {
			if k.Succession != nil {
				return false
			}
		}
	}
	return true
}

// TLSKeyRevoked tells whether a TLS key of a member was revoked, as long as its row is
// kept: who has it has a certificate of the CA besides.
func (s *State) TLSKeyRevoked() bool {
	for _, n := range s.coordinators.m {
		ring, _ := s.ring(CertificateSubject(n.ID))
		if slices.ContainsFunc(ring, func(k Key) bool { return k.RevokedAt != 0 }) {
			return true
		}
	}
	return false
}

// nextOf returns the key that is prepared to come next; zero without one.
func (s *State) nextOf(of Subject, nowMs int64) (ref KeyRef) {
	ring, _ := s.ring(of)
	if i := ring.pendingAt(nowMs); i >= 0 {
		ref = ring[i].Public.Fingerprint()
	}
	return ref
}

// revokeCompromised ends what a compromised node made for itself, its tokens, and the
// shared keys that it may know; those that the leader named begin. It refuses, and
// changes nothing, if that would leave nobody to administer, or no key.
func (s *State) revokeCompromised(c *change, b CoordinatorRemove) (tokens *TokensRevoked, ended *KeysEnded, res Result, ok bool) {
	var known []Subject
	if s.meta.v.Level >= LevelKeys {
		for _, of := range s.MustReplace(b.ID, c.atMs) {
			if !s.UnheldSuccessor(of, b.ID, c.atMs) || !slices.Contains(b.Next, s.nextOf(of, c.atMs)) {
				return nil, nil, refuse(CodeConflict, "compromised", "%s holds the key of %s and there is no next one yet that was made for the others alone: ask again", b.ID, of), false
			}
		}
		known = s.sharedKnown(b.ID, func(r Ring, i int) bool { return !r[i].ended(c.atMs) })
	}
	if tokens, res, ok = s.revokeThrough(c, b.ID); !ok {
		return nil, nil, res, false
	}
	for _, of := range known {
		if ended == nil {
			ended = &KeysEnded{}
		}
		s.endKnown(c, of, b.ID, ended)
	}
	return tokens, ended, Result{}, true
}

// endKnown ends the keys of a subject that a node may know.
func (s *State) endKnown(c *change, of Subject, nodeID string, ended *KeysEnded) {
	have, _ := s.ring(of)
	ring, at := slices.Clone(have), s.leftAt(nodeID)
	trusted := false
	var went []int
	for i := range ring {
		if k := &ring[i]; !k.ended(c.atMs) && k.knownTo(nodeID, at) {
			trusted = trusted || k.verifies(c.atMs)
			k.RevokedAt = c.index
			ended.Keys = append(ended.Keys, of.String()+" "+k.Public.KeyID())
			went = append(went, i)
		}
	}
	if ring.activeAt(c.atMs) < 0 {
		s.begin(c, of, ring)
	}
	s.putRing(c, of, ring)
	for _, i := range went {
		s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s %s reason=%q", ring[i].Public.KeyID(), have.StateOf(i, c.atMs), ring.text(), "held by "+nodeID+", which was compromised"))
	}
	if of.Kind == SubjectCA && trusted {
		ended.JoinTokens = s.voidJoinTokens(c)
	}
}

// voidJoinTokens revokes the tokens that name the CA as it was when they were made, used ones too: they
// open the answer to a join once more, with the keys of now.
func (s *State) voidJoinTokens(c *change) (n int) {
	for _, t := range s.tokens.values() {
		if t.Role.SingleUse() && t.Opens(c.atMs) {
			t.RevokedMs = c.atMs
			s.endToken(c, t)
			n++
		}
	}
	if n > 0 {
		s.record(c, "token_revoke", string(SubjectCA), fmt.Sprintf("join_tokens=%d", n))
	}
	return n
}
