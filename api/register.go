package api

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// POST /register (WIRE.md 7.1). Existing workers call it every 1.2 s with one
// body; what changes nothing costs a part of a read point and no log entry.

// workerPolicy is what agents are told of their machines: the protocol's own
// defaults, for this cluster has no opinion.
var workerPolicy = client.WorkerPolicy{CPUCapPercent: 50, MemoryLimitMB: 2048, IdleOnly: true, MaxConcurrentTasks: 1,
	AllowedHours: client.AllowedHours{StartHourUTC: 22, EndHourUTC: 6}}

// register answers POST /register.
func (s *Server) register(c *call) error {
	var req client.RegisterRequest
	if err := decodeLenient(c.body, &req); err != nil {
		return err
	}
	c.subject = req.AgentID
	if err := checkRegistration(&req); err != nil {
		return err
	}
	get, isSigned := c.selfHeaders()
	if !isSigned {
		return c.registerUnsigned(&req)
	}
	signed, err := c.signedSelf(get, req.AgentID)
	if err != nil {
		return err
	}
	k, err := c.provenSelf(&signed)
	switch {
	case err != nil:
		return err
	case !k.enrolled:
		return c.registerNew(&req, &signed, &k)
	case k.key.IsZero():
		return k.otherKey(&req, &signed)
	}
	return c.registerKnown(&req, &signed, &k)
}

// checkRegistration holds the body to the rules of WIRE.md 7.1.
func checkRegistration(req *client.RegisterRequest) error {
	oneOf := func(value string, allowed ...string) bool { return value == "" || slices.Contains(allowed, value) }
	between := func(value string, least, most int) bool {
		return value == "" || len(value) >= least && len(value) <= most
	}
	if err := crypto.CheckID(req.AgentID); err != nil {
		return invalid("agentId", err.Error())
	}
	for _, rule := range []struct {
		field string
		ok    bool
		want  string
	}{
		{"os", len(req.OS) >= 2 && len(req.OS) <= 64, "2 to 64 bytes"},
		{"version", req.Version != "" && len(req.Version) <= 64, "1 to 64 bytes"},
		{"mode", req.Mode != "" && oneOf(req.Mode, "swarm-only", "ide-enabled"), "swarm-only or ide-enabled"},
		{"deviceId", between(req.DeviceID, 3, 128), "3 to 128 bytes"},
		{"clientType", between(req.ClientType, 1, 64), "1 to 64 bytes"},
		{"localModelProvider", oneOf(req.LocalModelProvider, "edgecoder-local", "ollama-local"), "edgecoder-local or ollama-local"},
		{"sandboxMode", oneOf(req.SandboxMode, "none", "docker", "vm"), "none, docker or vm"},
		{"maxConcurrentTasks", req.MaxConcurrentTasks == nil || *req.MaxConcurrentTasks >= 1 && *req.MaxConcurrentTasks <= 64, "1 to 64"},
	} {
		if !rule.ok {
			return invalid(rule.field, "want "+rule.want)
		}
	}
	return nil
}

// registerNew binds an id to a key for the first time: the request is signed by
// that key, which proves that the agent has it, and names an enrolment token.
func (c *call) registerNew(req *client.RegisterRequest, signed *crypto.SignedRequest, k *knownSelf) error {
	named, err := c.registeredKeys(req)
	if err != nil {
		return err
	}
	body := fsm.AgentEnroll{AgentID: req.AgentID, PublicKey: named.public, EncryptionKey: named.encryption, EncryptionProof: named.proof}
	if k.level < fsm.LevelProfiles {
		body.EncryptionProof = nil // a cluster that is still to be upgraded has no place for it
	}
	if !crypto.Verify(body.PublicKey, signed.Canonical(), signed.Signature[:]) {
		return badSignature(client.VerdictInvalidSignature, "the request is not signed by its publicKeyPem")
	}
	if d := signed.TimestampMs - k.clockMs; d > k.policy.MaxSkewMs || d < -k.policy.MaxSkewMs {
		return k.refusal(fsm.CodeTimestampSkew, signed)
	}
	if req.RegistrationToken == "" {
		return notActivated("registration_token_required", "this id is not enrolled here: give an enrolment token as registrationToken")
	}
	t, err := c.s.parseToken(req.RegistrationToken)
	if err != nil {
		return badRegistrationToken(err.Error())
	}
	tok, found, err := c.s.findToken(c, t, req.RegistrationToken)
	switch {
	case err != nil:
		return err
	case found != tokenInForce || !tok.Role.Can(fsm.CapEnroll):
		return badRegistrationToken("the enrolment token is unknown, expired, used up, revoked or of another role")
	}
	if err := c.spend(req.AgentID); err != nil {
		return err
	}
	return c.bind(req, tok, body)
}

func badRegistrationToken(detail string) error {
	return notActivated("registration_token_invalid", detail)
}

func (c *call) bind(req *client.RegisterRequest, tok fsm.Token, body fsm.AgentEnroll) error {
	cmd, err := fsm.New(fsm.Actor{TokenID: tok.ID}, body)
	if err != nil {
		return err
	}
	c.token, c.did = tok, kept{"agent_enroll", auditInfo}
	c.tell("key_id", body.PublicKey.KeyID())
	res, err := c.decide(cmd) // no idempotency key: Apply knows the very same enrolment again
	switch {
	case err != nil:
		return err
	case res.Code == fsm.CodeConflict:
		return notActivated("binding_conflict", res.Detail)
	case res.Code == fsm.CodeUnauthorized:
		return badRegistrationToken(res.Detail)
	case !res.OK():
		return refusal(res)
	}
	var a fsm.Agent
	var p fsm.Policy
	code := fsm.CodeOK
	err = c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) {
		a, _ = state.Agent(req.AgentID)
		p, code = state.Policy(), state.Stands(req.AgentID, state.ClockMs())
	})
	switch {
	case err != nil:
		return err
	case code == fsm.CodeAgentNotActive:
		return inactive(a.State)
	case code == fsm.CodeBlacklisted:
		return c.registerBanned(req.AgentID)
	}
	return c.accepted(req, p.LegacyMesh)
}

// otherKey refuses a request of an enrolled id by a key that is not its own. Who
// asks for another key is told what it takes; nobody is told by whose word.
func (k *knownSelf) otherKey(req *client.RegisterRequest, signed *crypto.SignedRequest) error {
	pub, err := crypto.ParsePublicKeyPEM(req.PublicKeyPEM)
	if err == nil && pub != k.agent.Key() && crypto.Verify(pub, signed.Canonical(), signed.Signature[:]) {
		return notActivated("key_change_needs_current_key", "this id is bound to another key: a request that changes it is signed by the current one; "+
			"an agent that lost its key enrols under a new id")
	}
	return badSignature(client.VerdictInvalidSignature, denials[fsm.CodeInvalidSignature])
}

// registerKnown answers an enrolled agent that signed with a key of its own, and
// has paid.
func (c *call) registerKnown(req *client.RegisterRequest, signed *crypto.SignedRequest, k *knownSelf) error {
	switch k.code {
	case fsm.CodeOK:
	case fsm.CodeBlacklisted:
		return c.registerBanned(req.AgentID)
	default:
		return k.refusal(k.code, signed)
	}
	change, changed, err := c.keyChange(req, signed, k)
	if err != nil {
		return err
	}
	if changed {
		if err := c.rekey(change); err != nil {
			return err
		}
	}
	return c.accepted(req, k.policy.LegacyMesh)
}

// keyChange returns what a registration changes of the agent's keys. A new key
// has signed the change as well: no agent takes a key that it does not hold, and
// with it what its holder signs.
func (c *call) keyChange(req *client.RegisterRequest, signed *crypto.SignedRequest, k *knownSelf) (b fsm.AgentRekey, changed bool, err error) {
	if req.PublicKeyPEM == "" {
		return b, false, nil
	}
	named, err := c.registeredKeys(req)
	if err != nil {
		return b, false, err
	}
	b = fsm.AgentRekey{AgentID: req.AgentID, By: k.key.Fingerprint(), PublicKey: named.public, TimestampMs: signed.TimestampMs,
		EncryptionKey: k.agent.EncryptionKey, EncryptionProof: named.proof}
	if named.encryption != nil {
		b.EncryptionKey = named.encryption
	}
	if b.PublicKey == k.agent.Key() && bytes.Equal(b.EncryptionKey, k.agent.EncryptionKey) && (named.proof == nil || k.agent.EncryptionProof != nil) {
		return b, false, nil
	}
	if k.key != k.agent.Key() {
		// An old key's registration, asked again after the change it made: that
		// key asks for itself what was replaced, or for what is there already.
		return b, false, badSignature("key_not_current", "the keys of an agent are changed by its newest key alone")
	}
	if b.PublicKey != k.agent.Key() {
		err = c.checkKeyProof(req, b.PublicKey, k.agent.Key())
	}
	return b, true, err
}

// checkKeyProof asks that the key that comes signed the change too.
func (c *call) checkKeyProof(req *client.RegisterRequest, next, current crypto.PublicKey) error {
	if req.PublicKeyProof == "" {
		return notActivated("key_proof_required", "publicKeyPem is another key than the agent's: publicKeyProof is its signature on the change, with cluster id, agent id and the current key")
	}
	proof, err := decodeBase64(req.PublicKeyProof, crypto.SignatureSize)
	switch {
	case err != nil:
		return invalid("publicKeyProof", err.Error())
	case !crypto.VerifyKeyChange(next, proof, c.s.cfg.ClusterID, req.AgentID, current):
		return badSignature("key_proof_invalid", "publicKeyProof is no signature by publicKeyPem on the change of this agent's current key in this cluster")
	}
	return nil
}

// rekey has a change of keys decided. What came between the look at the agent and
// its place in the log is told as it would have been a moment later.
func (c *call) rekey(body fsm.AgentRekey) error {
	cmd, err := fsm.New(fsm.Actor{}, body)
	if err != nil {
		return err
	}
	c.did = kept{"key_rotation", auditInfo}
	c.tell("key_id", body.PublicKey.KeyID()) // the same as by: the encryption key changed
	c.tell("by", crypto.KeyIDOf(body.By))
	res, err := c.decideRekey(cmd, body)
	if err != nil {
		return err
	}
	switch res.Code {
	case fsm.CodeOK:
		return nil
	case fsm.CodeConflict:
		return notActivated("binding_conflict", res.Detail)
	case fsm.CodeAgentNotActive:
		return notActivated("node_inactive", res.Detail)
	case fsm.CodeBlacklisted:
		return c.registerBanned(body.AgentID)
	case fsm.CodeReplay:
		return badSignature(client.VerdictReplay, res.Detail)
	case fsm.CodeTimestampSkew:
		return badSignature(client.VerdictTimestampSkew, res.Detail)
	}
	return refusal(res)
}

// decideRekey has the log decide what it will not refuse for all that is known here,
// which is a read point old: else an agent would fill it with refusals, for the
// pauses between changes hold back only those that are made.
func (c *call) decideRekey(cmd fsm.Command, body fsm.AgentRekey) (res fsm.Result, err error) {
	err = c.readAt(ReadOptions{MinIndex: c.index}, func(state *fsm.State) { res = state.CheckRekey(body, state.ClockMs()) })
	if err != nil || !res.OK() || res.Repeated {
		return res, err
	}
	return c.decide(cmd)
}

// namedKeys are the keys that a registration names.
type namedKeys struct {
	public     crypto.PublicKey
	encryption []byte // X25519, raw; nil: not named
	proof      []byte // public's signature on encryption, verified; nil: none
}

func (c *call) registeredKeys(req *client.RegisterRequest) (k namedKeys, err error) {
	if k.public, err = crypto.ParsePublicKeyPEM(req.PublicKeyPEM); err != nil {
		return k, invalid("publicKeyPem", err.Error())
	}
	if req.X25519PublicKey != "" {
		if k.encryption, err = parseX25519(req.X25519PublicKey); err != nil {
			return k, invalid("x25519PublicKey", err.Error())
		}
	}
	if req.X25519Proof == "" {
		return k, nil
	}
	if k.encryption == nil {
		return k, invalid("x25519Proof", "there is no x25519PublicKey that it could prove")
	}
	if k.proof, err = decodeBase64(req.X25519Proof, crypto.SignatureSize); err != nil {
		return k, invalid("x25519Proof", err.Error())
	}
	if !crypto.VerifyEncryptionKey(k.public, k.proof, c.s.cfg.ClusterID, req.AgentID, k.encryption) {
		return k, invalid("x25519Proof", "it is no signature by publicKeyPem on x25519PublicKey for this cluster and agentId")
	}
	return k, nil
}

// registerUnsigned lets in an agent that policy excuses from signing, and no key
// of anybody: its answer repeats the token that it showed, for its heartbeats.
func (c *call) registerUnsigned(req *client.RegisterRequest) error {
	text := req.RegistrationToken
	if text == "" {
		text, _ = header(c.r.Header, client.HeaderMeshToken)
	}
	if text == "" {
		return notActivated("registration_token_required", "give an enrolment token as registrationToken and sign the request with the agent's key")
	}
	if err := c.knownAsExcused(req.AgentID); err != nil {
		return err
	}
	code, err := c.unsignedSelf(req.AgentID, text)
	switch {
	case err != nil:
		return err
	case req.PublicKeyPEM != "":
		return badSignature(client.VerdictMissingHeaders, "a request that brings a key is signed by it")
	}
	if err := c.spend(req.AgentID); err != nil {
		return err
	}
	switch code {
	case fsm.CodeBlacklisted:
		return c.registerBanned(req.AgentID)
	case fsm.CodeAgentNotActive:
		return notActivated("node_inactive", "the agent is enrolled and not active")
	}
	return c.accepted(req, text)
}

// knownAsExcused refuses early whom this replica's policy does not excuse, and
// asks no leader for it unless it may lag: then unsignedSelf has the last word.
func (c *call) knownAsExcused(agentID string) error {
	for _, opts := range []ReadOptions{{}, {Strong: true}} {
		excused := false
		if err := c.readAt(opts, func(state *fsm.State) { excused = state.Policy().UnsignedAgents[agentID] != "" }); err != nil {
			return err
		}
		if excused {
			return nil
		}
		if !opts.Strong {
			if err := c.s.guard.charge(c.address()); err != nil {
				return err
			}
		}
	}
	return badSignature(client.VerdictMissingHeaders, fmt.Sprintf("agent %s signs its requests: policy does not excuse it", quote(agentID)))
}

func (c *call) registerBanned(agentID string) error {
	reason, _, err := c.banReason(agentID)
	if err != nil {
		return err
	}
	return fault(client.CodeForbidden, "agent_blacklisted", reason, "")
}

func (c *call) accepted(req *client.RegisterRequest, meshToken string) error {
	c.vouch()
	return c.reply(http.StatusOK, client.Registered{Accepted: true, Policy: workerPolicy, Mode: req.Mode, MeshToken: meshToken})
}
