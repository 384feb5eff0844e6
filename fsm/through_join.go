package fsm

import (
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// Members that were taken in through a node, or under a token that was made through it, are known to the others by that
// node's word alone. Edges end with it when it is removed as compromised, as all tokens do. Coordinators stay, since a
// majority may hang on them; whoever removes the node is told of them (from LevelCheckpoints on).

// checkThrough refuses a member that was taken in through more nodes than its row holds.
func (s *State) checkThrough(a Actor) (Result, bool) {
	if s.meta.v.Level >= LevelCheckpoints && len(s.through(a)) > MaxThrough {
		return refuse(CodeOverloaded, "", "the join token was made through %d nodes, each under one before: make one under an older admin token", MaxThrough), false
	}
	return Result{}, true
}

// takenInThrough returns the nodes that a coordinator is taken in through.
func (s *State) takenInThrough(a Actor) []string {
	if s.meta.v.Level < LevelCheckpoints { // older logs were applied without
		return nil
	}
	return s.through(a)
}

// joinedThrough returns the coordinators that were taken in through a node, in the order of their ids.
func (s *State) joinedThrough(nodeID string) (ids []string) {
	for _, n := range s.coordinators.values() {
		if n.ID != nodeID && slices.Contains(n.Through, nodeID) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// throughFault holds a list of nodes that came from outside to its bound.
func throughFault(ids []string) error {
	if len(ids) > MaxThrough {
		return fmt.Errorf("made through %d nodes, at most %d", len(ids), MaxThrough)
	}
	for _, id := range ids {
		if err := crypto.CheckID(id); err != nil {
			return fmt.Errorf("made through: %w", err)
		}
	}
	return nil
}
