package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// POST /v1/keys/{subject}/rotate is opened by a token, or without one by an order
// that an agent's current key signed. It is the order that makes the change, so
// whoever carries it, and the body says all: there is nothing to replay, because
// each order is newer than the one before.

// orderCodes are the refusals of an order that are verdicts elsewhere.
var orderCodes = map[fsm.Code]client.Error{
	fsm.CodeReplay:           {Code: client.CodeConflict},
	fsm.CodeTimestampSkew:    {Code: client.CodeInvalid},
	fsm.CodeInvalidSignature: {Code: client.CodeUnauthorized},
	fsm.CodeAgentNotActive:   {Code: client.CodeForbidden},
	fsm.CodeBlacklisted:      {Code: client.CodeForbidden},
}

func orderRefusal(res fsm.Result) error {
	if e, ok := orderCodes[res.Code]; ok {
		e.Detail, e.Field, e.Reason = res.Detail, res.Field, string(res.Code)
		return &e
	}
	return refusal(res)
}

// rotateKey answers POST /v1/keys/{subject}/rotate.
func (s *Server) rotateKey(c *call) error {
	of, err := c.keySubject()
	if err != nil {
		return err
	}
	var req client.RotateRequest
	if strings.TrimSpace(c.body) != "" {
		if err := c.decode(&req); err != nil {
			return s.asStranger(c, err)
		}
	}
	switch {
	case req.Recover && c.token.ID != "":
		return c.recoverKey(of, req)
	case req.Recover:
		return s.refuse(c, unauthorized("a key is replaced on an operator's word: give a token"))
	case req.PublicKey != "" && (of.Kind == fsm.SubjectAgent || of.Kind == fsm.SubjectManifest && c.token.ID != ""):
		return c.orderedKey(of, req)
	case c.token.ID == "":
		return s.refuse(c, unauthorized("give one header Authorization: Bearer TOKEN, or an agent's order: public_key with signature and proof"))
	case req != (client.RotateRequest{}):
		return invalid("public_key", of.String()+" makes its own keys: leave the body empty to ask it for the next one")
	}
	res, err := c.propose(fsm.KeyRotate{Subject: of.String()})
	if err != nil {
		return err
	}
	return c.replyKeys(http.StatusOK, res)
}

// asStranger charges who shows no token for an error.
func (s *Server) asStranger(c *call, err error) error {
	if c.token.ID != "" {
		return err
	}
	return s.refuse(c, err)
}

// orderOf reads a request with a new key.
func orderOf(of fsm.Subject, req client.RotateRequest) (b fsm.KeyPrepare, err error) {
	b = fsm.KeyPrepare{Subject: of.String(), NotBeforeMs: req.NotBeforeMs, SignedMs: req.SignedMs}
	if b.Public, err = crypto.ParsePublicKeyPEM(req.PublicKey); err != nil {
		return b, invalid("public_key", err.Error())
	}
	if b.Order, err = decodeBase64(req.Signature, crypto.SignatureSize); err != nil && req.Signature != "" {
		return b, invalid("signature", err.Error())
	}
	if b.Proof, err = decodeBase64(req.Proof, crypto.SignatureSize); err != nil {
		return b, invalid("proof", err.Error())
	}
	if req.EncryptionProof != "" {
		if b.EncryptionProof, err = decodeBase64(req.EncryptionProof, crypto.SignatureSize); err != nil {
			return b, invalid("encryption_proof", err.Error())
		}
	}
	if req.NotBeforeMs < 0 || req.SignedMs < 1 || req.Reason != "" {
		return b, invalid("signed_ms", "an order has the time when it was signed, no negative begin, and no reason")
	}
	return b, nil
}

// orderedKey has the next key announced on the word of the current one.
func (c *call) orderedKey(of fsm.Subject, req client.RotateRequest) error {
	b, err := orderOf(of, req)
	if err != nil {
		return c.s.asStranger(c, err)
	}
	if err := c.provenOrder(of, &b); err != nil {
		return err
	}
	if of.Kind == fsm.SubjectAgent {
		c.isSelf(of.ID)
		if err := c.spend(of.ID); err != nil {
			return err
		}
	}
	actor := fsm.Actor{TokenID: c.token.ID}
	if of.Kind == fsm.SubjectAgent {
		actor = fsm.Actor{}
	}
	res, err := c.foreseenOrder(actor, b)
	if err == nil && res.OK() && !res.Repeated {
		res, err = c.decideOrder(actor, b)
	}
	if err != nil {
		return err
	}
	if !res.OK() {
		return orderRefusal(res)
	}
	if res.Repeated && c.token.ID == "" && !c.isFresh(b.SignedMs) {
		// The owner learns that it was heard. Whoever else kept the order is no owner.
		return c.reply(http.StatusOK, keyChangeMade{Subject: c.args[0], Index: res.Index, Repeated: true})
	}
	return c.replyKeys(http.StatusOK, res)
}

// isFresh tells whether a time is inside the window for signed requests, as this
// replica has it.
func (c *call) isFresh(signedMs int64) (yes bool) {
	err := c.readAt(ReadOptions{}, func(state *fsm.State) {
		skew, now := state.Policy().MaxSkewMs, state.ClockMs()
		yes = now-signedMs <= skew && signedMs-now <= skew
	})
	return err == nil && yes
}

// foreseenOrder returns what the log would say of an order: what it would refuse
// needs no place in it. A refusal is the word of a strong read.
func (c *call) foreseenOrder(actor fsm.Actor, b fsm.KeyPrepare) (res fsm.Result, err error) {
	for _, opts := range []ReadOptions{{MinIndex: c.index}, {Strong: true}} {
		err = c.readAt(opts, func(state *fsm.State) { res = state.CheckPrepare(actor, b, state.ClockMs()) })
		if err != nil || res.OK() {
			break
		}
	}
	return res, err
}

func (c *call) decideOrder(actor fsm.Actor, b fsm.KeyPrepare) (fsm.Result, error) {
	cmd, err := fsm.New(actor, b) // no idempotency key: Apply knows the very same order again
	if err != nil {
		return fsm.Result{}, err
	}
	c.did = kept{"key_rotation", auditInfo}
	c.tell("key_id", b.Public.KeyID())
	c.tell("by", b.By.KeyID())
	return c.decide(cmd)
}

// provenOrder finds the key that ordered the change, here or as of a strong read:
// what was announced at one node holds at the next.
func (c *call) provenOrder(of fsm.Subject, b *fsm.KeyPrepare) error {
	for _, opts := range []ReadOptions{{}, {Strong: true}} {
		var ring fsm.Ring
		var encryption []byte
		var clock int64
		if opts.Strong && c.token.ID == "" {
			free, err := c.s.takeLookup(c)
			if err != nil {
				return err
			}
			defer free()
		}
		err := c.readAt(opts, func(state *fsm.State) {
			ring, _ = state.KeyRing(of)
			clock = state.ClockMs()
			if a, ok := state.Agent(of.ID); ok && of.Kind == fsm.SubjectAgent {
				encryption = a.EncryptionKey
			}
		})
		if err != nil {
			return err
		}
		if orderer(ring, b, clock) && b.Verify(c.s.cfg.ClusterID) == nil {
			return c.provenEncryption(of, b, encryption)
		}
		if !opts.Strong {
			if err := c.s.asStranger(c, nil); err != nil {
				return err
			}
		}
	}
	return unauthorized("signature and proof are not those of the current key of " + of.String() + " and of the new one on this change: who lost the key asks an operator")
}

// orderer puts the key into the order that must have signed it: the active one, or
// if the change is made already the one that made it.
func orderer(ring fsm.Ring, b *fsm.KeyPrepare, clockMs int64) bool {
	if i := slices.IndexFunc(ring, func(k fsm.Key) bool { return k.Public == b.Public }); i >= 0 && ring[i].Succession != nil {
		b.By = ring[i].Succession.Predecessor
		return true
	}
	active, ok := ring.Active(clockMs)
	b.By = active.Public
	return ok
}

func (c *call) provenEncryption(of fsm.Subject, b *fsm.KeyPrepare, key []byte) error {
	if b.EncryptionProof != nil && !crypto.VerifyEncryptionKey(b.Public, b.EncryptionProof, c.s.cfg.ClusterID, of.ID, key) {
		return invalid("encryption_proof", "it is no signature by public_key on the encryption key that the agent has")
	}
	return nil
}

// recoverKey replaces an agent's lost key on an operator's word.
func (c *call) recoverKey(of fsm.Subject, req client.RotateRequest) error {
	key, err := crypto.ParsePublicKeyPEM(req.PublicKey)
	if err != nil {
		return invalid("public_key", err.Error())
	}
	proof, err := decodeBase64(req.Proof, crypto.SignatureSize)
	if err != nil {
		return invalid("proof", err.Error())
	}
	if req.Signature != "" || req.NotBeforeMs != 0 || req.EncryptionProof != "" {
		return invalid("recover", "a recovery has public_key, signed_ms, proof and reason: it begins at once, and no key orders it")
	}
	b := fsm.KeyRecover{Subject: of.String(), Public: key, SignedMs: req.SignedMs, Proof: proof, Reason: req.Reason}
	if err := b.Verify(c.s.cfg.ClusterID); err != nil {
		return invalid("proof", err.Error())
	}
	c.did = kept{"key_recover", auditHigh}
	c.tell("key_id", key.KeyID())
	c.tell("reason", req.Reason)
	res, err := c.decideOnce(b)
	if err != nil {
		return err
	}
	if !res.OK() {
		return orderRefusal(res)
	}
	return c.replyKeys(http.StatusOK, res)
}
