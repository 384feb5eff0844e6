package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// authenticate finds out who asks and whether they may. A token that this
// replica knows to be valid costs its caller nothing; everything else is
// charged to the caller's address, so that honest callers behind the same
// address are not locked out by it.
func (s *Server) authenticate(c *call) error {
	switch c.route.access {
	case byNobody:
		if c.route.class == classHealth {
			return nil
		}
		return s.guard.charge(c.address())
	case byAgent:
		// The handler does; honest agents pay nothing for being asked.
		return s.hear(c)
	case byEither:
		if c.asksAsAgent() {
			return s.hear(c)
		}
	case byBody:
		// The handler does, after it has read the body; until then this is a
		// stranger, who pays before it holds anything.
		return s.guard.charge(c.address())
	case byOrder:
		if _, shown := c.r.Header["Authorization"]; !shown {
			return s.guard.charge(c.address())
		}
	}
	text, err := c.credential()
	if err != nil {
		return s.refuse(c, err)
	}
	t, err := s.parseToken(text)
	if err != nil {
		return s.refuse(c, err)
	}
	tok, found, err := s.findToken(c, t, text)
	if err != nil {
		return err
	}
	if found != tokenInForce {
		return unauthorized("the token is unknown, expired, used up or revoked")
	}
	c.vouch()
	c.token = tok
	if !tok.Role.Can(c.route.need) {
		return forbidden(tok.Role)
	}
	return nil
}

// refuse charges the caller's address for a bad credential, or for one that has to
// be looked up.
func (s *Server) refuse(c *call, err error) error {
	c.unvouch()
	if limited := s.guard.charge(c.address()); limited != nil {
		return limited
	}
	return err
}

func unauthorized(detail string) error {
	return &client.Error{Code: client.CodeUnauthorized, Detail: detail}
}

func forbidden(role fsm.Role) error {
	detail := fmt.Sprintf("a token of role %s may not do this", role)
	if role.SingleUse() {
		detail = fmt.Sprintf("a token of role %s opens only joining or enrolment", role)
	}
	return &client.Error{Code: client.CodeForbidden, Detail: detail}
}

// credential returns the text of the token that the request carries.
func (c *call) credential() (string, error) {
	if c.route.access == byMesh {
		values := c.r.Header[client.HeaderMeshToken]
		if len(values) != 1 || values[0] == "" {
			return "", unauthorized("give one x-mesh-token header")
		}
		return values[0], nil
	}
	values := c.r.Header["Authorization"]
	if len(values) != 1 {
		return "", unauthorized("give one header Authorization: Bearer TOKEN")
	}
	scheme, text, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", unauthorized("the Authorization header is not of the form Bearer TOKEN")
	}
	return text, nil
}

func (s *Server) parseToken(text string) (crypto.TokenText, error) {
	t, err := crypto.ParseTokenText(text)
	if err != nil {
		return t, unauthorized(err.Error())
	}
	if t.ClusterID != s.cfg.ClusterID {
		return t, unauthorized(fmt.Sprintf("the token belongs to cluster %s, this is cluster %s", t.ClusterID, s.cfg.ClusterID))
	}
	return t, nil
}

// standing is what a replica knows of a token.
type standing uint8

const (
	tokenUnknown standing = iota
	tokenForged           // the id is known, the secret is another: final, on any replica
	tokenEnded            // expired, used up or revoked
	tokenInForce
)

// findToken looks a token up on this replica, and once more with a strong read
// if it is not in force here: what was acknowledged at one node works at the
// next. If that cannot be decided the error is unavailable.
func (s *Server) findToken(c *call, t crypto.TokenText, text string) (fsm.Token, standing, error) {
	c.claimed = t.ID
	hash := crypto.Sum([]byte(text))
	// Whether this node may serve is asked once it is known who asks.
	tok, found, err := s.lookUp(c.ctx, ReadOptions{Always: true}, t.ID, hash)
	if err != nil || found == tokenInForce {
		return tok, found, err
	}
	if err := s.refuse(c, nil); err != nil {
		return tok, found, err
	}
	if found == tokenForged {
		return tok, found, nil
	}
	free, err := s.takeLookup(c)
	if err != nil {
		return tok, found, err
	}
	defer free()
	return s.lookUp(c.ctx, ReadOptions{Strong: true, Always: c.route.always}, t.ID, hash)
}

// takeLookup lets a call ask what the leader knows of its credential.
func (s *Server) takeLookup(c *call) (free func(), err error) {
	if err := s.guard.lookUp(c.address()); err != nil {
		return nil, err
	}
	return take(s.slots.strong, guardKey(c.address()))
}

func (s *Server) lookUp(ctx context.Context, opts ReadOptions, id string, hash crypto.Hash) (tok fsm.Token, found standing, err error) {
	_, err = s.node.Read(ctx, opts, func(state *fsm.State) {
		t, ok := state.Token(id)
		if !ok {
			return
		}
		if !t.Hash.Equal(hash) {
			found = tokenForged
			return
		}
		tok, found = t, tokenEnded
		if _, in := state.TokenInForce(id, state.ClockMs()); in {
			found = tokenInForce
		}
	})
	return tok, found, err
}

// header returns the single value of a header, or "".
func header(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	if len(values) != 1 {
		return "", len(values) == 0
	}
	return values[0], true
}
