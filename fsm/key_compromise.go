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

// checkCompromised refuses a removal that would leave keys in force that the node
// holds.
func (s *State) checkCompromised(c *change, n Coordinator) (Result, bool) {
	if s.meta.v.Level < LevelKeys {
		return Result{}, true
	}
	for _, of := range HeldShared(n.Role) {
		if !s.UnheldSuccessor(of, n.ID, c.atMs) {
			return refuse(CodeConflict, "compromised", "%s holds the key of %s and there is no next one yet that it was not given: ask again", n.ID, of), false
		}
	}
	return Result{}, true
}

// revokeHeld ends the shared keys that a node held and begins those after them.
func (s *State) revokeHeld(c *change, n Coordinator) {
	if s.meta.v.Level < LevelKeys {
		return
	}
	for _, of := range HeldShared(n.Role) {
		have, _ := s.ring(of)
		ring := slices.Clone(have)
		for i := range ring[:len(ring)-1] {
			if k := &ring[i]; !k.ended(c.atMs) {
				k.RevokedAt = c.index
				s.record(c, "key_revoke", of.String(), fmt.Sprintf("key_id=%s was=%s reason=%q", k.Public.KeyID(), have.StateOf(i, c.atMs), "held by "+n.ID+", which was compromised"))
			}
		}
		s.begin(c, of, ring)
		s.putRing(c, of, ring)
	}
}
