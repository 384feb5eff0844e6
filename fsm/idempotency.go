package fsm

import "github.com/edgecoder/edgecoder/crypto"

// Outcome is a remembered mutation: its code, id and index, never a secret.
type Outcome struct {
	Body      crypto.Hash `cbor:"1,keyasint"` // of the request body it was first used with
	ID        string      `cbor:"2,keyasint"`
	Index     uint64      `cbor:"3,keyasint"`
	ExpiresMs int64       `cbor:"4,keyasint"`
}

// remembered answers a mutation whose key was used in the last 24 hours. Only
// mutations that took effect are remembered: a refusal changed nothing, so
// asking again is safe.
func (s *State) remembered(idem Idempotency) (Result, bool) {
	o, ok := s.idempotent.get(string(idem.Key[:]))
	if !ok || o.ExpiresMs < s.meta.v.ClockMs {
		if !ok && s.idempotent.full() {
			return refuse(CodeOverloaded, "", "%d idempotency keys of the last 24 h are remembered, no room for one more", MaxIdempotency), true
		}
		return Result{}, false
	}
	if o.Body != idem.Body {
		return refuse(CodeConflict, "", "this idempotency key was used with another body"), true
	}
	return Result{Code: CodeOK, ID: o.ID, Index: o.Index, Repeated: true}, true
}

func (s *State) remember(idem Idempotency, c *change, res Result) {
	expires := c.atMs + IdempotencyMs
	s.idempotent.put(string(idem.Key[:]), Outcome{Body: idem.Body, ID: res.ID, Index: c.index, ExpiresMs: expires})
	s.expireAt(expires, expireOutcome, string(idem.Key[:]))
}
