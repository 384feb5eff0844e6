package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// enroll answers POST /v1/agents. Nothing about the agent id is said before
// token and proof are good, so a stranger learns nothing of who is enrolled.
func (s *Server) enroll(c *call) error {
	var req client.EnrollRequest
	if err := c.decode(&req); err != nil {
		return s.refuse(c, err)
	}
	c.subject = req.AgentID
	tok, found, err := s.enrolmentToken(c, req.Token)
	if err != nil {
		return err
	}
	body, err := s.checkEnrolment(req)
	if err != nil {
		return s.refuse(c, err)
	}
	c.token = tok
	if len(body.EncryptionProof) > 0 { // a cluster that is still to be upgraded has no place for it
		err := c.readAt(ReadOptions{}, func(state *fsm.State) {
			if state.Meta().Level < fsm.LevelProfiles {
				body.EncryptionProof = nil
			}
		})
		if err != nil {
			return err
		}
	}
	if found == tokenEnded {
		return c.repeatEnrolment(body)
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: tok.ID}, body)
	if err != nil {
		return err
	}
	res, err := c.decide(cmd) // no idempotency key: Apply knows the very same enrolment again
	if err != nil {
		return err
	}
	if !res.OK() {
		return refusal(res)
	}
	return c.replyAgent(http.StatusCreated, res)
}

// enrolmentToken finds the token in the body. One that is used up may still
// answer the repetition of the enrolment it was used for.
func (s *Server) enrolmentToken(c *call, text string) (fsm.Token, standing, error) {
	t, err := s.parseToken(text)
	if err != nil {
		return fsm.Token{}, tokenUnknown, s.refuse(c, err)
	}
	tok, found, err := s.findToken(c, t, text)
	switch {
	case err != nil:
		return tok, found, err
	case found == tokenUnknown || found == tokenForged:
		return tok, found, unauthorized("the enrolment token is unknown, expired, used up or revoked")
	case !tok.Role.Can(fsm.CapEnroll):
		return tok, found, forbidden(tok.Role)
	}
	if found == tokenInForce {
		c.vouch()
	}
	return tok, found, nil
}

// checkEnrolment checks keys and the proof of possession.
func (s *Server) checkEnrolment(req client.EnrollRequest) (fsm.AgentEnroll, error) {
	body := fsm.AgentEnroll{AgentID: req.AgentID}
	if err := crypto.CheckID(req.AgentID); err != nil {
		return body, invalid("agent_id", err.Error())
	}
	pub, err := crypto.ParsePublicKeyPEM(req.PublicKey)
	if err != nil {
		return body, invalid("public_key", err.Error())
	}
	body.PublicKey = pub
	if req.EncryptionKey != "" {
		if body.EncryptionKey, err = parseX25519(req.EncryptionKey); err != nil {
			return body, invalid("encryption_key", err.Error())
		}
	}
	proof, err := decodeBase64(req.Proof, crypto.SignatureSize)
	if err != nil {
		return body, invalid("proof", err.Error())
	}
	if !crypto.Verify(pub, crypto.EnrollProofText(s.cfg.ClusterID, req.AgentID, req.Token), proof) {
		return body, invalid("proof", "it is no signature by public_key over the enrolment text of this cluster, agent_id and token")
	}
	return body, s.checkEncryptionProof(req, &body)
}

// checkEncryptionProof checks that the agent itself named the encryption key:
// the proof of possession does not cover it. Agents that know no such proof go
// without, and whoever seals to them by name is told so.
func (s *Server) checkEncryptionProof(req client.EnrollRequest, body *fsm.AgentEnroll) error {
	if req.EncryptionProof == "" {
		return nil
	}
	if req.EncryptionKey == "" {
		return invalid("encryption_proof", "there is no encryption_key that it could prove")
	}
	proof, err := decodeBase64(req.EncryptionProof, crypto.SignatureSize)
	if err != nil {
		return invalid("encryption_proof", err.Error())
	}
	if !crypto.VerifyEncryptionKey(body.PublicKey, proof, s.cfg.ClusterID, req.AgentID, body.EncryptionKey) {
		return invalid("encryption_proof", "it is no signature by public_key on encryption_key for this cluster and agent_id")
	}
	body.EncryptionProof = proof
	return nil
}

// repeatEnrolment answers an enrolment whose token has ended: only the one
// that used it up gets its answer again.
func (c *call) repeatEnrolment(body fsm.AgentEnroll) error {
	for _, opts := range []ReadOptions{{}, {Strong: true}} {
		var a fsm.Agent
		found := false
		if err := c.readAt(opts, func(state *fsm.State) { a, found = state.Agent(body.AgentID) }); err != nil {
			return err
		}
		if found && a.TokenID == c.token.ID && a.Key() == body.PublicKey {
			if !a.EncryptsAs(body) {
				return &client.Error{Code: client.CodeConflict, Field: "encryption_key", Detail: fsm.OtherEncryptionKey(a.ID)}
			}
			out := wireAgent(a)
			out.Index, out.Repeated = c.index, true
			return c.reply(http.StatusCreated, out)
		}
	}
	return unauthorized("the enrolment token is unknown, expired, used up or revoked")
}

func parseX25519(text string) ([]byte, error) {
	raw, err := decodeBase64(text, 32)
	if err != nil {
		return nil, err
	}
	if _, err := crypto.NewEncryptionPublicKey(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// decodeBase64 accepts the one canonical spelling of size bytes.
func decodeBase64(text string, size int) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != size || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("want standard base64, with padding, of %d bytes", size)
	}
	return raw, nil
}
