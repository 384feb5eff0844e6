package api

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// How an existing agent shows who it is on the routes that it calls for itself
// (WIRE.md 2, 6): by the five headers over this very request, or, where policy
// says so of this one agent, by the token that stands for it.

// selfClaim is the claim id of all that agents ask for themselves. The claim's tag
// binds method, path, body and time besides, so an identical retry is the same
// claim and gets its first answer, and a nonce used for anything else is a replay.
const selfClaim = "self"

// The budget of one agent for what it asks for itself, at each node and from each
// address, charged only once its signature was verified and for what was not here
// before: whoever captured a request uses up nothing of its agent's. An honest
// worker needs two requests in 1.2 s, each tried three times at the worst. What the
// agent may ask in the whole cluster is the log's to say (fsm.Policy.SelfLimit).
const (
	selfPerSecond = 10
	selfBurst     = 120
	selfEntries   = 65_536
)

// wireFault is a refusal in the words of WIRE.md.
type wireFault struct {
	cause  *client.Error // for Retry-After, and for whoever asks what it was
	status int           // 0: that of the cause
	body   any
}

func (f *wireFault) Error() string { return f.cause.Error() }
func (f *wireFault) Unwrap() error { return f.cause }

func fault(code, text, reason, detail string) *wireFault {
	return &wireFault{cause: &client.Error{Code: code, Detail: text + ": " + reason + ": " + detail}, body: wireError{Error: text, Reason: reason, Detail: detail}}
}

// badSignature is the one text that agents know for every refusal of a signed
// request; reason tells a wrong clock, a used nonce and a forgery apart.
func badSignature(reason, detail string) *wireFault {
	return fault(client.CodeUnauthorized, "signature_invalid", reason, detail)
}

// notActivated is how agents are told that they are not, or not yet, let in.
func notActivated(reason, detail string) *wireFault {
	return fault(client.CodeForbidden, "node_not_activated", reason, detail)
}

func notRegistered() *wireFault {
	return fault(client.CodeUnauthorized, "mesh_unauthorized", "agent_not_registered", "no agent of this id is enrolled in this cluster")
}

// selfHeaders returns the five headers as they came; signed is false when there
// is none of them. One that is given twice counts as missing (WIRE.md 2).
func (c *call) selfHeaders() (get func(string) string, signed bool) {
	for _, name := range headerNames[:fiveHeaders] {
		signed = signed || len(c.r.Header.Values(name)) > 0
	}
	return func(name string) string {
		value, _ := header(c.r.Header, name)
		return value
	}, signed
}

// signedSelf parses the headers of this request and holds them to its body: what
// was signed is these bytes, by this agent, for this route.
func (c *call) signedSelf(get func(string) string, agentID string) (crypto.SignedRequest, error) {
	signed, err := crypto.ParseSignedRequest(c.r.Method, c.route.pattern, get)
	switch {
	case errors.Is(err, crypto.ErrMissingHeaders):
		return signed, badSignature(client.VerdictMissingHeaders, err.Error())
	case err != nil:
		return signed, badSignature(client.VerdictMalformed, err.Error())
	case !signed.MatchesBody([]byte(c.body)):
		return signed, badSignature("body_mismatch", "x-body-sha256 is not the hash of the body that arrived")
	case signed.AgentID != agentID:
		return signed, fault(client.CodeUnauthorized, "agent_id_mismatch", "", "x-agent-id is not the agentId of the body")
	}
	return signed, nil
}

// knownSelf is what a replica knows of an agent and the request that it signed.
type knownSelf struct {
	agent    fsm.Agent
	enrolled bool
	key      crypto.PublicKey // that the request was signed with; zero: none of the agent's
	code     fsm.Code         // of the request, with that key
	repeated bool             // its very repetition came before, by this replica
	policy   fsm.Policy
	level    uint32 // of the cluster
	clockMs  int64
	sure     bool // a read point says so: nothing that was acknowledged before the request is missed

	retryAfterMs int64 // of a code that says so
}

// lookAtSelf judges a signed request by this replica. The signature verified with
// the key that is given, if one is: that is not asked again.
func (c *call) lookAtSelf(signed *crypto.SignedRequest, opts ReadOptions, verified crypto.PublicKey) (k knownSelf, err error) {
	k.sure = opts.Strong
	err = c.readAt(opts, func(state *fsm.State) {
		k.agent, k.enrolled = state.Agent(signed.AgentID)
		k.policy, k.level, k.clockMs = state.Policy(), state.Meta().Level, state.ClockMs()
	})
	if err != nil {
		return k, err
	}
	for i := len(k.agent.Keys) - 1; i >= 0 && k.key.IsZero(); i-- { // the newest first
		if pub := k.agent.Keys[i].Public; pub == verified || crypto.Verify(pub, signed.Canonical(), signed.Signature[:]) {
			k.key = pub
		}
	}
	if k.key.IsZero() {
		return k, nil
	}
	c.isSelf(signed.AgentID)
	asked := fsm.Claim{AgentID: signed.AgentID, Key: k.key.Fingerprint(), TimestampMs: signed.TimestampMs, Nonce: signed.Nonce, Self: true,
		Tag: selfTag(signed)}
	// As new as the first look at least, which a read point may have gone before.
	err = c.readAt(ReadOptions{MinIndex: c.index}, func(state *fsm.State) {
		res := state.Check(&asked, state.ClockMs())
		k.code, k.repeated, k.retryAfterMs = res.Code, res.Repeated, res.RetryAfterMs
	})
	return k, err
}

// selfTag is the tag of the claim that an agent's request for itself is.
func selfTag(signed *crypto.SignedRequest) fsm.ClaimTag {
	return fsm.NewClaimTag(fsm.SelfCaller, selfClaim, signed.Method, signed.Path, signed.BodySHA256, signed.TimestampMs)
}

// sureOfSelf is lookAtSelf, with a second look at what a strong read brings when
// the first would refuse: what was acknowledged at one node holds at the next. A
// stranger pays for it. CodeOK is the word of this replica alone: who takes it has
// the log decide, or asks provenSelf.
func (c *call) sureOfSelf(signed *crypto.SignedRequest) (knownSelf, error) {
	k, err := c.lookAtSelf(signed, ReadOptions{}, crypto.PublicKey{})
	if err != nil || k.code == fsm.CodeOK {
		return k, err
	}
	if err := c.s.refuse(c, nil); err != nil {
		return k, err
	}
	free, err := c.s.takeLookup(c)
	if err != nil {
		return k, err
	}
	defer free()
	return c.lookAtSelf(signed, ReadOptions{Strong: true}, k.key)
}

// provenSelf is sureOfSelf for an answer that no log entry stands behind, paid for:
// it is the word of a read point in any case. A replica that is cut off knows nothing
// of bans, suspensions and changed keys that the others acknowledged since (P2, P9).
func (c *call) provenSelf(signed *crypto.SignedRequest) (knownSelf, error) {
	k, err := c.sureOfSelf(signed)
	if err != nil {
		return k, err
	}
	if k.code == fsm.CodeOK || k.code == fsm.CodeBlacklisted {
		k.repeated = !c.s.proven.later(k.agent.ID, signed.TimestampMs) // no nonce in the log tells
		if err := c.pay(&k); err != nil {
			return k, err
		}
	}
	if k.sure {
		return k, nil
	}
	return c.lookAtSelf(signed, ReadOptions{Strong: true}, k.key) // shared by all who ask meanwhile
}

// newestSigned remembers of each agent when the newest of its requests was signed
// that provenSelf saw here. What was signed no later is taken for a repetition: it
// costs an honest agent nothing, but that the address pays. Two generations bound it,
// as in limit.Rates: together selfEntries, some 10 MiB.
type newestSigned struct {
	mu         sync.Mutex
	young, old map[string]int64 // by agent id, Unix milliseconds
}

// later tells whether the request is newer than all before it, and remembers it.
func (n *newestSigned) later(agentID string, signedMs int64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	newest, ok := n.young[agentID]
	if !ok {
		newest = n.old[agentID]
		if len(n.young) >= selfEntries/2 || n.young == nil {
			n.young, n.old = map[string]int64{}, n.young
		}
	}
	n.young[agentID] = max(newest, signedMs)
	return signedMs > newest
}

// refusal returns what to tell an agent whose request is refused with a code.
// Bans are not among them: each route has its own answer.
func (k *knownSelf) refusal(code fsm.Code, signed *crypto.SignedRequest) error {
	switch code {
	case fsm.CodeUnknownAgent:
		return notRegistered()
	case fsm.CodeAgentNotActive:
		return inactive(k.agent.State)
	case fsm.CodeTimestampSkew:
		_, detail := timeDenial(signed, k.clockMs, k.policy.MaxSkewMs)
		return badSignature(client.VerdictTimestampSkew, detail)
	}
	if code == fsm.CodeRateLimited {
		limit := k.policy.SelfLimit()
		return &client.Error{Code: client.CodeRateLimited, RetryAfter: time.Duration(k.retryAfterMs) * time.Millisecond,
			Detail: fmt.Sprintf("an agent asks at most %d times in %d s for itself, at all nodes together", limit.Requests, limit.WindowMs/1000)}
	}
	if verdict, ok := verdictCodes[code]; ok {
		return badSignature(verdict, denials[code])
	}
	failure, ok := claimErrors[code]
	if !ok {
		return fmt.Errorf("no rule for the decision %s", code)
	}
	return &failure
}

// inactive tells an agent that is enrolled why it may not act (WIRE.md 7.2).
func inactive(state fsm.AgentState) error {
	if state == fsm.AgentPending {
		return notActivated("node_pending_coordinator_approval", "the agent is enrolled and waits for an operator: edgecoder agent approve")
	}
	return notActivated("node_inactive", "the agent is "+string(state))
}

// spend takes one request from the budget of an agent that showed who it is, and
// the slot in which it may wait for the log.
func (c *call) spend(agentID string) error {
	if wait := c.s.selves.Take(named{agentID, guardKey(c.address())}); wait > 0 {
		return &client.Error{Code: client.CodeRateLimited, RetryAfter: wait,
			Detail: fmt.Sprintf("an agent asks at most %d times a second here", selfPerSecond)}
	}
	return c.takeAgentSlot(agentID)
}

// pay has a signed request paid for: what comes for the first time by its agent,
// what was here before by the address that sends it, be it a retry or a replay.
func (c *call) pay(k *knownSelf) error {
	if !k.repeated {
		return c.spend(k.agent.ID)
	}
	if err := c.s.guard.charge(c.address()); err != nil {
		return err
	}
	return c.takeAgentSlot(k.agent.ID)
}

// admitSelf has the cluster decide a request that the agent signed, once.
func (c *call) admitSelf(signed *crypto.SignedRequest) (fsm.ClaimResult, error) {
	outcomes := c.s.node.Admit(c.ctx, []AdmitRequest{{Signed: *signed, TokenID: fsm.SelfCaller, ClaimID: selfClaim}})
	if len(outcomes) != 1 {
		return fsm.ClaimResult{}, fmt.Errorf("the node answered one admission with %d outcomes", len(outcomes))
	}
	if e := outcomes[0].Err; e != nil {
		return fsm.ClaimResult{}, e
	}
	c.index = max(c.index, outcomes[0].Result.Index)
	return outcomes[0].Result, nil
}

// unsignedSelf lets in an agent that policy excuses from signing, by the token
// that stands for it. Nothing else than policy's word for this very id does.
func (c *call) unsignedSelf(agentID, text string) (fsm.Code, error) {
	t, err := c.s.parseToken(text)
	if err != nil {
		return "", err
	}
	tok, found, err := c.s.findToken(c, t, text)
	if err != nil {
		return "", err
	}
	mustSign := badSignature(client.VerdictMissingHeaders, "this agent signs its requests: policy excuses it under no such token")
	if found != tokenInForce || tok.Role != fsm.RoleMesh {
		return "", mustSign
	}
	code, stands := fsm.CodeOK, ""
	// A ban that was acknowledged anywhere holds, and a revocation of the token: there
	// is no log entry to find them.
	err = c.readAt(ReadOptions{Strong: true}, func(state *fsm.State) {
		if _, in := state.TokenInForce(tok.ID, state.ClockMs()); in {
			stands = state.Policy().UnsignedAgents[agentID]
		}
		code = state.Stands(agentID, state.ClockMs())
	})
	switch {
	case err != nil:
		return "", err
	case stands != tok.ID:
		return "", mustSign
	}
	c.isSelf(agentID)
	c.vouch()
	return code, nil
}

// notTold refuses the token that every agent is told, but where existing clients
// show it (WIRE.md 6): anybody may have it, so it is nobody's credential elsewhere.
// That it was not told is the word of a read point: a replica that has not heard of
// it yet would let it pass.
func (c *call) notTold() error {
	if !c.mayBeTold() {
		return nil
	}
	told := c.token.Told
	if !told {
		err := c.readAt(ReadOptions{Strong: true}, func(state *fsm.State) {
			t, _ := state.Token(c.token.ID)
			told = t.Told
		})
		if err != nil {
			return err
		}
	}
	if told {
		return &client.Error{Code: client.CodeForbidden, Detail: "every agent was told this token: it opens only what existing clients ask with x-mesh-token"}
	}
	return nil
}

// mayBeTold: only tokens of role mesh ever are.
func (c *call) mayBeTold() bool { return c.token.Role == fsm.RoleMesh && c.route.access != byMesh }

// asAgent runs a route of an agent: whoever fails pays from the budget of the
// address, and one without budget is refused before anything is verified.
func (s *Server) asAgent(handle func(*call) error) func(*call) error {
	return func(c *call) error {
		err := handle(c)
		var e *client.Error
		if errors.As(err, &e) && (e.Code == client.CodeUnauthorized || e.Code == client.CodeInvalid) {
			return s.refuse(c, err)
		}
		return err
	}
}

// banReason returns the reason of a ban in force and the length of the chain.
func (c *call) banReason(agentID string) (reason string, version uint64, err error) {
	var ban fsm.Ban
	err = c.readAt(ReadOptions{MinIndex: c.index}, func(state *fsm.State) {
		ban, _ = state.Ban(agentID, state.ClockMs())
		_, version = state.Chain()
	})
	if err != nil || ban.Seq == 0 {
		return "", version, err // it ended this instant
	}
	records, err := c.s.chain(ban.Seq, 1)
	if err != nil {
		return "", version, err
	}
	event, err := crypto.ParseBlacklistEvent(records[0].Data)
	return event.Reason, version, err
}

// notServed answers routes of WIRE.md that hand out or take back work: this
// cluster decides who may act, and has no work to give.
func (s *Server) notServed(c *call) error {
	return &wireFault{cause: &client.Error{Code: client.CodeNotFound, Detail: c.route.pattern + " is not served here"},
		body: wireError{Error: "not_served_here", Detail: "this cluster decides who may act; tasks, results and tunnels belong to the service that hands out work"}}
}
