package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// LevelThrough is the feature level from which a command names the node at which its
// caller was authenticated (Actor.Via). The others have only that node's word for the
// caller: what it made in an admin's name is its own as well, and goes with it when it
// is removed as compromised. Removals remember the key of the node's certificates.
const LevelThrough = 6

// MaxTokensTold bounds the token ids in an answer and in a record of history; all of
// them are revoked, and counted.
const MaxTokensTold = 64

// MaxThrough bounds the nodes that a token names: in the life of a cluster few are
// replaced, and a token has few forebears.
const MaxThrough = 16

// TokensRevoked tells what became of the tokens that were made through a node that
// was removed as compromised.
type TokensRevoked struct {
	Count int      `cbor:"1,keyasint"`
	IDs   []string `cbor:"2,keyasint"`           // the first MaxTokensTold of them
	Kept  string   `cbor:"3,keyasint,omitempty"` // the acting token, if it is one of them
	// Joined are the coordinators that were taken in through the node: they stay. From LevelCheckpoints on.
	Joined []string `cbor:"4,keyasint,omitempty"`
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

// through returns the nodes that could know the text of a token that is made now,
// or made it by themselves: the one that forwarded the command, and those of the
// token that it was asked under, be they members still or not.
func (s *State) through(a Actor) []string {
	var out []string
	if a.Via != "" {
		out = append(out, a.Via)
	}
	by, _ := s.tokens.get(a.TokenID)
	for _, id := range by.Through {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// revokeThrough revokes the tokens that were made through a node and open anything still;
// nil if there are none. The acting one stays, or nobody might be left to administer: whoever
// removes a node is told, and makes another. It refuses, and revokes none, if those
// left to administer would end before one that it ends.
func (s *State) revokeThrough(c *change, nodeID string) (*TokensRevoked, Result, bool) {
	var out TokensRevoked
	var ending []Token
	for _, t := range s.tokens.values() {
		switch {
		case !s.endsThrough(t, c.atMs) || !slices.Contains(t.Through, nodeID):
		case t.ID == c.actor.TokenID:
			out.Kept = t.ID
		default:
			ending = append(ending, t)
		}
	}
	if t, lasting := s.outlived(ending, c.atMs); !lasting {
		return nil, refuse(CodeConflict, "id", "no admin token that is left lasts as long as %s, which would be revoked: ask under that one, or make another first at a node that stays", t.ID), false
	}
	for _, t := range ending {
		t.RevokedMs = c.atMs
		s.endToken(c, t)
		out.Count++
		if len(out.IDs) < MaxTokensTold {
			out.IDs = append(out.IDs, t.ID)
		}
	}
	out.Joined = s.joinedThrough(nodeID)
	if out.Count == 0 && out.Kept == "" && len(out.Joined) == 0 {
		return nil, Result{}, true
	}
	return &out, Result{}, true
}

// endsThrough tells whether a token is there to be revoked. Before LevelKeys used ones stayed
// as they were.
func (s *State) endsThrough(t Token, nowMs int64) bool {
	if s.meta.v.Level < LevelKeys {
		return t.inForce(nowMs)
	}
	return t.Opens(nowMs)
}

// outlived tells whether an admin token lasts as long as each admin token that
// ends; if not, which one would be missed.
func (s *State) outlived(ending []Token, nowMs int64) (missed Token, ok bool) {
	ends := map[string]bool{}
	for _, t := range ending {
		ends[t.ID] = true
	}
	var stays Token // who administers for the longest time
	for id, t := range s.tokens.m {
		if !ends[id] && t.Role == RoleAdmin && t.inForce(nowMs) && (stays.ID == "" || t.administersAsLongAs(stays, nowMs)) {
			stays = t
		}
	}
	for _, t := range ending {
		if t.Role == RoleAdmin && !stays.administersAsLongAs(t, nowMs) {
			return t, false
		}
	}
	return Token{}, true
}

// removedAsCompromised is asked for a node that was removed before, with another
// reason perhaps: what it made and what it knows go all the same.
func (s *State) removedAsCompromised(c *change, b CoordinatorRemove, gone Removal) Result {
	revoked, ended, res, ok := s.revokeCompromised(c, b)
	if !ok {
		return res
	}
	res = Result{Code: CodeOK, ID: gone.ID, Tokens: revoked, Ended: ended}
	if gone.Compromised && revoked == nil && ended == nil {
		return res
	}
	gone.Compromised = true
	s.removed.put(gone.ID, gone)
	s.record(c, "coordinator_remove", gone.ID, "compromised=true"+revoked.text())
	return res
}

// text is what a record of history says of them.
func (t *TokensRevoked) text() string {
	if t == nil {
		return ""
	}
	out := fmt.Sprintf(" tokens_revoked=%d ids=%s kept=%s", t.Count, strings.Join(t.IDs, ","), t.Kept)
	if len(t.Joined) > 0 {
		out += " joined=" + strings.Join(t.Joined, ",")
	}
	return out
}
