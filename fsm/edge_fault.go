package fsm

import (
	"errors"
	"fmt"
	"strings"
)

// Edges of a state that comes from outside.

// credentialFault holds the edge of a token to its form.
func (t *Token) credentialFault() error {
	switch {
	case (t.Role == RoleEdgeMember) != (t.Edge != nil):
		return fmt.Errorf("role %s, edge %t: an edge's credential is of role %s", shown(string(t.Role)), t.Edge != nil, RoleEdgeMember)
	case t.Edge == nil:
		return nil
	case t.UsesLeft != -1 || t.ExpiresMs != 0:
		return errors.New("an edge's credential neither ends by itself nor is used up")
	}
	if err := optionalID(t.Edge.JoinToken); err != nil {
		return err
	}
	return t.Edge.fault()
}

// edgesFault: no edge is taken for another, nor for a coordinator.
func (s *State) edgesFault() error {
	listed, named := map[string]bool{}, map[string]bool{}
	for _, n := range s.coordinators.m {
		named[n.ID], named[n.Name] = true, true
	}
	live := 0
	for id, t := range s.tokens.m {
		if t.Edge == nil {
			continue
		}
		e := *t.Edge
		if listed[e.NodeID] {
			return fmt.Errorf("row %s: node %s has another credential", shown(id), shown(e.NodeID))
		}
		listed[e.NodeID] = true
		if t.RevokedMs != 0 {
			continue
		}
		live++
		if named[e.NodeID] || named[e.Name] || live > MaxEdges {
			return fmt.Errorf("row %s: %s or %s names another member, or there are more than %d edges", shown(id), shown(e.NodeID), shown(e.Name), MaxEdges)
		}
		named[e.NodeID], named[e.Name] = true, true
	}
	return nil
}

// forgottenEdges counts the keys of edges whose ended credentials are listed no more.
func (s *State) forgottenEdges() (n int) {
	for ref, owner := range s.keyOwners.m {
		id, ok := strings.CutPrefix(owner, ownerEdge)
		if !ok {
			continue
		}
		t, listed := s.tokens.get(s.edges[id])
		if listed && t.Edge != nil {
			f := t.Edge.SigningKey.Fingerprint()
			listed = string(f[:]) == ref
		}
		if !listed || t.Edge == nil {
			n++
		}
	}
	return n
}
