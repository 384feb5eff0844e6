package fsm

import "github.com/edgecoder/edgecoder/crypto"

// Outcome is a remembered mutation: its code, id and index, never a secret.
type Outcome struct {
	Body      crypto.Hash `cbor:"1,keyasint"` // of the request body it was first used with
	ID        string      `cbor:"2,keyasint"`
	Index     uint64      `cbor:"3,keyasint"`
	ExpiresMs int64       `cbor:"4,keyasint"`
	TokenID   string      `cbor:"5,keyasint,omitempty"` // who asked, for its share of the table
}

// remembered answers a mutation whose key was used in the last 24 hours. Only
// mutations that took effect are remembered: a refusal changed nothing, so
// asking again is safe.
func (s *State) remembered(idem Idempotency, by Actor) (Result, bool) {
	o, ok := s.idempotent.get(string(idem.Key[:]))
	switch {
	case !ok:
		return s.roomToRemember(by)
	case o.ExpiresMs < s.meta.v.ClockMs:
		return Result{}, false
	case o.Body != idem.Body:
		return refuse(CodeConflict, "", "this idempotency key was used with another body"), true
	}
	return Result{Code: CodeOK, ID: o.ID, Index: o.Index, Repeated: true}, true
}

// roomToRemember refuses a mutation that could not be remembered. One token
// has a share of the table and admins a reserve, so that nobody can fill it and
// keep an admin from revoking them.
func (s *State) roomToRemember(by Actor) (Result, bool) {
	t, _ := s.tokens.get(by.TokenID)
	room := s.idempotent.cap - IdempotencyReserve
	if t.Role == RoleAdmin {
		room = s.idempotent.cap
	} else if s.outcomes[by.TokenID] >= MaxIdempotencyPerToken {
		return refuse(CodeOverloaded, "", "this token made %d changes in the last 24 h, at most that many are remembered", MaxIdempotencyPerToken), true
	}
	if s.idempotent.size() >= room {
		return refuse(CodeOverloaded, "", "%d changes of the last 24 h are remembered, no room for one more", s.idempotent.size()), true
	}
	return Result{}, false
}

func (s *State) remember(idem Idempotency, c *change, res Result) {
	key, expires := string(idem.Key[:]), c.atMs+IdempotencyMs
	s.forget(key)
	s.idempotent.put(key, Outcome{Body: idem.Body, ID: res.ID, Index: c.index, ExpiresMs: expires, TokenID: c.actor.TokenID})
	s.outcomes[c.actor.TokenID]++
	s.expireAt(expires, expireOutcome, key)
}

func (s *State) forget(key string) {
	o, ok := s.idempotent.get(key)
	if !ok {
		return
	}
	s.idempotent.remove(key)
	if s.outcomes[o.TokenID]--; s.outcomes[o.TokenID] <= 0 {
		delete(s.outcomes, o.TokenID)
	}
}
