package fsm

import (
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// Token is an API, join or enrolment token. Its text is known only to its
// holder; the state has the SHA-256 of the whole text, which carries 256
// random bits, so no slow hash is needed.
type Token struct {
	ID        string      `cbor:"1,keyasint"`
	Hash      crypto.Hash `cbor:"2,keyasint"`
	Role      Role        `cbor:"3,keyasint"`
	CreatedMs int64       `cbor:"4,keyasint"`
	ExpiresMs int64       `cbor:"5,keyasint"` // 0: never
	UsesLeft  int64       `cbor:"6,keyasint"` // -1: unlimited
	RevokedMs int64       `cbor:"7,keyasint"` // 0: not revoked
	PurgeMs   int64       `cbor:"8,keyasint"` // when the row may go; 0: never
	Label     string      `cbor:"9,keyasint"`
	Epoch     uint64      `cbor:"10,keyasint"` // recovery epoch it was made in
	// Told is set once policy has every agent told the text (Policy.LegacyMesh): from
	// then on the token is nobody's credential. From LevelClients on.
	Told bool `cbor:"11,keyasint,omitempty"`
	// Through are the members that made it for its maker, and those that made the
	// token under which it was made; at most MaxThrough. From LevelThrough on.
	Through []string `cbor:"12,keyasint,omitempty"`
	// Edge is whose credential it is, of RoleEdgeMember alone. From LevelCheckpoints on.
	Edge *Edge `cbor:"13,keyasint,omitempty"`
}

// tokenKeepMs is how long an ended token stays listed, so that an operator
// sees what became of it.
const tokenKeepMs = 7 * 24 * 3_600_000

func (t Token) inForce(nowMs int64) bool {
	return t.RevokedMs == 0 && t.UsesLeft != 0 && !t.expired(nowMs)
}

// Opens tells whether the token still opens anything: a use, or, of a join or an enrolment
// whose answer was lost, the same once more.
func (t Token) Opens(nowMs int64) bool {
	return t.RevokedMs == 0 && (t.UsesLeft != 0 || t.Role.SingleUse()) && !t.expired(nowMs)
}

func (t Token) expired(nowMs int64) bool { return t.ExpiresMs != 0 && nowMs > t.ExpiresMs }

// retryable tells whether what took effect under a token may be asked for again, because
// its answer was lost. Before LevelKeys the end of the token was not asked for.
func (s *State) retryable(t Token, nowMs int64) bool {
	return t.RevokedMs == 0 && (s.meta.v.Level < LevelKeys || !t.expired(nowMs))
}

// State returns active, used, expired or revoked.
func (t Token) State(nowMs int64) string {
	switch {
	case t.RevokedMs != 0:
		return "revoked"
	case t.UsesLeft == 0:
		return "used"
	case t.expired(nowMs):
		return "expired"
	}
	return "active"
}

func (s *State) applyTokenCreate(c *change, b TokenCreate) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	if res, ok := s.checkToken(c, b); !ok {
		return res
	}
	s.putToken(c, b)
	s.record(c, "token_create", b.ID, fmt.Sprintf("role=%s expires_ms=%d uses=%d", b.Role, b.ExpiresMs, b.Uses))
	return Result{Code: CodeOK, ID: b.ID}
}

func (s *State) checkToken(c *change, b TokenCreate) (Result, bool) {
	switch _, taken := s.tokens.get(b.ID); {
	case crypto.CheckID(b.ID) != nil:
		return refuse(CodeInvalid, "id", "%v", crypto.CheckID(b.ID)), false
	case taken:
		return refuse(CodeConflict, "id", "the token %s exists already", b.ID), false
	case !b.Role.Known():
		return refuse(CodeInvalid, "role", "%q is no role", b.Role), false
	case b.Uses == 0 || b.Uses < -1:
		return refuse(CodeInvalid, "uses", "%d uses: give a positive number, or -1 for unlimited", b.Uses), false
	case b.ExpiresMs != 0 && (b.ExpiresMs <= c.atMs || b.ExpiresMs > c.atMs+MaxTokenTTLMs):
		return refuse(CodeInvalid, "ttl", "the token would end at %d, now is %d, at most ten years ahead", b.ExpiresMs, c.atMs), false
	case len(b.Label) > MaxLabelBytes:
		return refuse(CodeTooLarge, "label", "%d bytes, at most %d", len(b.Label), MaxLabelBytes), false
	case s.tokens.full():
		return refuse(CodeOverloaded, "", "%d tokens exist: revoke some, ended ones go after 7 days", MaxTokens), false
	case len(s.through(c.actor)) > MaxThrough:
		return refuse(CodeOverloaded, "", "the acting token was made through %d nodes, each under one before: ask under an older admin token", MaxThrough), false
	}
	return Result{}, true
}

func (s *State) putToken(c *change, b TokenCreate) {
	t := Token{ID: b.ID, Hash: b.Hash, Role: b.Role, CreatedMs: c.atMs, ExpiresMs: b.ExpiresMs,
		UsesLeft: b.Uses, Label: b.Label, Epoch: s.meta.v.Epoch, Through: s.through(c.actor)}
	if t.ExpiresMs != 0 {
		t.PurgeMs = t.ExpiresMs + tokenKeepMs
	}
	s.tokens.put(t.ID, t)
	s.expireAt(t.PurgeMs, expireToken, t.ID)
}

func (s *State) applyTokenRevoke(c *change, b TokenRevoke) Result {
	if res, ok := s.actorCan(c, CapAdmin); !ok {
		return res
	}
	t, ok := s.tokens.get(b.ID)
	if !ok {
		return refuse(CodeNotFound, "id", "there is no token %q", b.ID)
	}
	if t.RevokedMs != 0 {
		return Result{Code: CodeOK, ID: t.ID}
	}
	if s.lastAdmin(t, c.atMs) {
		return refuse(CodeConflict, "id", "%s is the longest-lived admin token left: make another first", t.ID)
	}
	t.RevokedMs = c.atMs
	s.endToken(c, t)
	s.record(c, "token_revoke", b.ID, "")
	return Result{Code: CodeOK, ID: t.ID}
}

// lastAdmin tells whether revoking t would leave nobody who can administer, now
// or once the shorter-lived tokens have ended.
func (s *State) lastAdmin(t Token, nowMs int64) bool {
	if t.Role != RoleAdmin || !t.inForce(nowMs) {
		return false
	}
	for id, other := range s.tokens.m {
		if id != t.ID && other.administersAsLongAs(t, nowMs) {
			return false
		}
	}
	return true
}

// administersAsLongAs tells whether an admin token in force lasts as long as another.
func (t Token) administersAsLongAs(other Token, nowMs int64) bool {
	return t.Role == RoleAdmin && t.inForce(nowMs) && (t.ExpiresMs == 0 || other.ExpiresMs != 0 && t.ExpiresMs >= other.ExpiresMs)
}

// useToken consumes one use of the acting token; the caller has checked it.
func (s *State) useToken(c *change) {
	t, ok := s.tokens.get(c.actor.TokenID)
	if !ok || t.UsesLeft < 0 {
		return
	}
	t.UsesLeft--
	if t.UsesLeft == 0 {
		s.endToken(c, t)
		return
	}
	s.tokens.put(t.ID, t)
}

func (s *State) endToken(c *change, t Token) {
	t.PurgeMs = c.atMs + tokenKeepMs
	s.tokens.put(t.ID, t)
	s.expireAt(t.PurgeMs, expireToken, t.ID)
}

// Token returns a token by id.
func (s *State) Token(id string) (Token, bool) { return s.tokens.get(id) }

// TokenInForce returns a token if it is in force now.
func (s *State) TokenInForce(id string, nowMs int64) (Token, bool) {
	t, ok := s.tokens.get(id)
	return t, ok && t.inForce(nowMs)
}

// Tokens returns all tokens in the order of their ids.
func (s *State) Tokens() []Token { return s.tokens.values() }
