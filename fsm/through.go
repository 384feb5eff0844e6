package fsm

import "slices"

// LevelThrough is the feature level from which a command names the node at which its
// caller was authenticated (Actor.Via). The others have only that node's word for the
// caller: what it made in an admin's name is its own as well, and goes with it when it
// is removed as compromised. Removals remember the key of the node's certificates.
const LevelThrough = LevelLedger

// MaxTokensTold bounds the token ids in an answer and in a record of history; all of
// them are revoked, and counted.
const MaxTokensTold = 64

// TokensRevoked tells what became of the tokens that were made through a node that
// was removed as compromised.
type TokensRevoked struct {
	Count int      `cbor:"1,keyasint"`
	IDs   []string `cbor:"2,keyasint"`           // the first MaxTokensTold of them
	Kept  string   `cbor:"3,keyasint,omitempty"` // the acting token, if it is one of them
}

// checkVia refuses what a node forwarded that was removed meanwhile.
func (s *State) checkVia(a Actor) (Result, bool) {
	if a.Via == "" {
		return Result{}, true
	}
	if _, member := s.coordinators.get(a.Via); !member {
		return refuse(CodeForbidden, "", "node %s, which authenticated the caller, is no member", a.Via), false
	}
	return Result{}, true
}

// through returns the members that could know the text of a token that is made now,
// or made it by themselves: the one that forwarded the command, and those of the
// token that it was asked under.
func (s *State) through(c *change) []string {
	var out []string
	if c.actor.Via != "" {
		out = append(out, c.actor.Via)
	}
	by, _ := s.tokens.get(c.actor.TokenID)
	for _, id := range by.Through {
		if _, member := s.coordinators.get(id); member && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// revokeThrough revokes the tokens in force that were made through a node; nil if
// there are none. The acting one stays, or nobody might be left to administer: whoever
// removes a node is told, and makes another.
func (s *State) revokeThrough(c *change, nodeID string) *TokensRevoked {
	var out TokensRevoked
	for _, t := range s.tokens.values() {
		switch {
		case !t.inForce(c.atMs) || !slices.Contains(t.Through, nodeID):
			continue
		case t.ID == c.actor.TokenID:
			out.Kept = t.ID
			continue
		}
		t.RevokedMs = c.atMs
		s.endToken(c, t)
		out.Count++
		if len(out.IDs) < MaxTokensTold {
			out.IDs = append(out.IDs, t.ID)
		}
	}
	if out.Count == 0 && out.Kept == "" {
		return nil
	}
	return &out
}
