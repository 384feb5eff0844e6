package api

import (
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// An agent moves what is on its own accounts without a token: by the five headers over
// the request (WIRE.md 2). The path that it signs names the cluster, so that no other
// one, be it a copy, takes the request (client.LedgerPath). Apply admits it as any request that the
// agent asks for itself, once: whoever captured it moves nothing, also if it was refused.

// asksAsAgent tells whether a call on a byEither route shows a signature and no token.
func (c *call) asksAsAgent() bool {
	return len(c.r.Header["Authorization"]) == 0 && len(c.r.Header.Values(crypto.HeaderAgentID)) > 0
}

// either runs a route of tokens and agents.
func (s *Server) either(handle func(*call) error) func(*call) error {
	signed := s.asAgent(handle)
	return func(c *call) error {
		if c.token.ID == "" {
			return signed(c)
		}
		return handle(c)
	}
}

// ledgerCaller returns who asks: the token, or the agent whose signature verifies.
func (c *call) ledgerCaller() (caller fsm.LedgerCaller, err error) {
	if c.token.ID != "" {
		return fsm.LedgerCaller{TokenID: c.token.ID}, nil
	}
	if c.hasKey() {
		return caller, invalid(client.HeaderIdempotencyKey, "what an agent signs is told apart by the id in its body: leave the header out")
	}
	get, _ := c.selfHeaders()
	signed, err := crypto.ParseSignedRequest(c.r.Method, client.LedgerPath(c.s.cfg.ClusterID, c.r.URL.EscapedPath()), get)
	switch {
	case errors.Is(err, crypto.ErrMissingHeaders):
		return caller, notSigned(client.VerdictMissingHeaders, err.Error())
	case err != nil:
		return caller, notSigned(client.VerdictMalformed, err.Error())
	case !signed.MatchesBody([]byte(c.body)):
		return caller, notSigned(client.VerdictInvalidSignature, "x-body-sha256 is not the hash of the body that arrived")
	}
	key, err := c.ledgerAgent(&signed)
	return fsm.LedgerCaller{AgentID: signed.AgentID, Key: key.Fingerprint(), TimestampMs: signed.TimestampMs, Nonce: signed.Nonce, Tag: selfTag(&signed)}, err
}

func notSigned(reason, detail string) error {
	return &client.Error{Code: client.CodeUnauthorized, Reason: reason, Detail: detail}
}

// ledgerAgent finds the key that signed, and has the agent pay. That it may act is this
// replica's word alone, and Apply's in the end; that it may not is that of a read point.
func (c *call) ledgerAgent(signed *crypto.SignedRequest) (crypto.PublicKey, error) {
	k, err := c.sureOfSelf(signed)
	switch {
	case err != nil:
		return k.key, err
	case !k.enrolled:
		return k.key, notSigned(client.VerdictUnknownAgent, denials[fsm.CodeUnknownAgent])
	case k.key.IsZero():
		return k.key, notSigned(client.VerdictInvalidSignature, denials[fsm.CodeInvalidSignature]+"; the path names this cluster, see client.LedgerPath")
	case k.code != fsm.CodeOK:
		return k.key, k.ledgerRefusal(signed)
	}
	if err := c.pay(&k); err != nil {
		return k.key, err
	}
	c.vouch()
	return k.key, nil
}

// ledgerRefusal says why an agent may not act, in the words of the ledger's other errors.
func (k *knownSelf) ledgerRefusal(signed *crypto.SignedRequest) error {
	if k.code == fsm.CodeTimestampSkew {
		_, detail := timeDenial(signed, k.clockMs, k.policy.MaxSkewMs)
		return notSigned(client.VerdictTimestampSkew, detail)
	}
	if e, ok := ledgerErrors[k.code]; ok && k.code != fsm.CodeRateLimited {
		e.Detail = ledgerDetails[k.code]
		return &e
	}
	if verdict, ok := verdictCodes[k.code]; ok && k.code != fsm.CodeRateLimited {
		return notSigned(verdict, denials[k.code])
	}
	return fmt.Errorf("the agent is refused: %w", k.refusal(k.code, signed))
}
