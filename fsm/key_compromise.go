package fsm

import (
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
// no copy of it was sealed to a node.
func (s *State) UnheldSuccessor(of Subject, nodeID string, nowMs int64) bool {
	ring, _ := s.ring(of)
	i := ring.pendingAt(nowMs)
	return i >= 0 && ring[i].waits() && !slices.ContainsFunc(ring[i].Shared.Copies, func(p SealedCopy) bool { return p.NodeID == nodeID })
}

// knownTo tells whether a node may know a shared key: it was a member until the entry
// leftAt, and held what there was by then, or a copy was sealed to it. The first of a
// ring was in use before it was on record.
func (k Key) knownTo(nodeID string, leftAt uint64) bool {
	sealed := slices.ContainsFunc(k.Shared.Copies, func(p SealedCopy) bool { return p.NodeID == nodeID })
	return sealed || k.Succession == nil || !k.waits() && k.Index <= leftAt
}

// leftAt is the entry until which a node was a member: the last one at which a
// signing key of its was retired.
func (s *State) leftAt(nodeID string) (at uint64) {
	if s.isMember(nodeID) {
		return s.meta.v.Index
	}
	for _, k := range s.signingKeys.m {
		if k.NodeID == nodeID {
			at = max(at, k.RetiredAt)
		}
	}
	return at
}

// sharedKnown lists the subjects of which a node may know a key that the predicate
// takes, be it a member or removed. Of a removed one nobody knows the role any more: it
// counts as a coordinator. A key in use that is not on record yet is known to all.
func (s *State) sharedKnown(nodeID string, counts func(Ring, int) bool) (out []Subject) {
	role, at := RoleCoordinator, s.leftAt(nodeID)
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

// revokeCompromised ends what a compromised node made for itself, its tokens, and the
// shared keys that it may know; those after them begin. It refuses, and changes
// nothing, if that would leave nobody to administer, or no key.
func (s *State) revokeCompromised(c *change, nodeID string) (tokens *TokensRevoked, keys bool, res Result, ok bool) {
	var known []Subject
	if s.meta.v.Level >= LevelKeys {
		for _, of := range s.MustReplace(nodeID, c.atMs) {
			if !s.UnheldSuccessor(of, nodeID, c.atMs) {
				return nil, false, refuse(CodeConflict, "compromised", "%s holds the key of %s and there is no next one yet that it was not given: ask again", nodeID, of), false
			}
		}
		known = s.sharedKnown(nodeID, func(r Ring, i int) bool { return !r[i].ended(c.atMs) })
	}
	if tokens, res, ok = s.revokeThrough(c, nodeID); !ok {
		return nil, false, res, false
	}
	for _, of := range known {
		s.endKnown(c, of, nodeID)
	}
	return tokens, len(known) > 0, Result{}, true
}

// endKnown ends the keys of a subject that a node may know.
func (s *State) endKnown(c *change, of Subject, nodeID string) {
	have, _ := s.ring(of)
	ring, at := slices.Clone(have), s.leftAt(nodeID)
	for i := range ring {
		if k := &ring[i]; !k.ended(c.atMs) && k.knownTo(nodeID, at) {
			k.RevokedAt = c.index
			s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s reason=%q", k.Public.KeyID(), have.StateOf(i, c.atMs), "held by "+nodeID+", which was compromised"))
		}
	}
	if ring.activeAt(c.atMs) < 0 {
		s.begin(c, of, ring)
	}
	s.putRing(c, of, ring)
}
