package fsm

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// checkAdmin refuses what is no admin token to go on with alone.
func (s *State) checkAdmin(b *TokenCreate) error {
	if b == nil {
		return nil
	}
	_, taken := s.tokens.get(b.ID)
	switch {
	case crypto.CheckID(b.ID) != nil:
		return fmt.Errorf("fsm: the id of the new admin token: %w", crypto.CheckID(b.ID))
	case taken:
		return fmt.Errorf("fsm: there is a token %s already", b.ID)
	case b.Role != RoleAdmin, b.Uses != -1, b.ExpiresMs != 0, b.Hash.IsZero(), len(b.Label) > MaxLabelBytes:
		return errors.New("fsm: the new token must be an admin's, without an end")
	case s.tokens.full():
		return fmt.Errorf("fsm: %d tokens exist, no room for another", MaxTokens)
	}
	return nil
}

// replaceTokens revokes every token that is in force and makes one for an admin.
// A copy may be from before a revocation: then whoever stole a token has it again.
func (s *State) replaceTokens(c *change, b *TokenCreate) {
	revoked := 0
	for _, t := range s.tokens.values() {
		if t.inForce(c.atMs) {
			t.RevokedMs = c.atMs
			s.endToken(c, t)
			revoked++
		}
	}
	s.putToken(c, *b)
	s.record(c, "token_create", b.ID, fmt.Sprintf("role=%s expires_ms=%d uses=%d by=recover tokens_revoked=%d", b.Role, b.ExpiresMs, b.Uses, revoked))
}
