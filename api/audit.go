package api

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// AuditEvent is a security event as this room sees it: a refusal, a change by
// an operator, or a denied admission. It holds ids, never a secret.
type AuditEvent struct {
	Type, Level string // WIRE.md section 11, and ours
	Actor       client.AuditActor
	Action      string
	RequestID   string
	Code        string // "ok", or why not
	Index       uint64
	Details     map[string]string
}

// Auditor keeps security events.
type Auditor interface {
	// AuditErr tells why events cannot be kept now, nil when they can.
	AuditErr() error
	// Audit keeps an event; repeats may be counted instead. It never blocks.
	Audit(AuditEvent)
	// AuditNow returns when the event is durable.
	AuditNow(context.Context, AuditEvent) error
	// AuditEvents asks every node of the cluster.
	AuditEvents(context.Context, client.AuditQuery) (client.AuditEvents, error)
	// AuditHeads returns where the log of every node ends.
	AuditHeads(context.Context) client.AuditHeads
}

// Levels of events.
const (
	auditInfo     = "INFO"
	auditWarn     = "WARN"
	auditHigh     = "HIGH"
	auditCritical = "CRITICAL"
)

// kept is type and level of an event.
type kept struct{ typ, level string }

// changes names what successful mutations are; others are "admin_action".
var changes = map[string]kept{
	"DELETE /v1/peers/{peer}":               {"member_remove", auditHigh},
	"POST /v1/leader/transfer":              {"leader_transfer", auditInfo},
	"POST /v1/recover/clock":                {"clock_recover", auditHigh},
	"PUT /v1/policy":                        {"policy_set", auditWarn},
	"POST /v1/tokens":                       {"token_create", auditInfo},
	"DELETE /v1/tokens/{id}":                {"token_revoke", auditWarn},
	"POST /v1/agents":                       {"agent_enroll", auditInfo},
	"POST /v1/agents/{id}/approve":          {"agent_approve", auditInfo},
	"POST /v1/agents/{id}/suspend":          {"agent_suspend", auditWarn},
	"POST /v1/agents/{id}/revoke":           {"agent_revoke", auditWarn},
	"POST /v1/blacklist":                    {"ban", auditWarn},
	"POST /security/blacklist":              {"ban", auditWarn},
	"DELETE /v1/blacklist/agents/{agent}":   {"lift", auditWarn},
	"POST /v1/manifests":                    {"manifest_accept", auditInfo},
	"PUT /v1/manifests/trust":               {"manifest_trust", auditWarn},
	"POST /v1/keys/{subject}/rotate":        {"key_rotation", auditInfo},
	"POST /v1/keys/{subject}/revoke":        {"key_revoke", auditHigh},
	"PUT /v1/keys/{subject}/schedule":       {"key_schedule", auditWarn},
	"PUT /v1/ledger/policy":                 {"ledger_policy", auditWarn},
	"POST /v1/ledger/accounts":              {"ledger_account", auditInfo},
	"POST /v1/ledger/transfers":             {"ledger_transfer", auditInfo},
	"POST /v1/ledger/holds":                 {"ledger_transfer", auditInfo},
	"POST /v1/ledger/holds/{id}/post":       {"ledger_transfer", auditInfo},
	"POST /v1/ledger/holds/{id}/void":       {"ledger_transfer", auditInfo},
	"POST /v1/ledger/contributions/confirm": {"ledger_confirm", auditInfo},
	"GET /v1/snapshot":                      {"backup_read", auditWarn},
	"POST /v1/snapshot/restore":             {"restore", auditHigh},
}

// refusedEvents are the refusals that are events of their own, whatever was
// asked for. Others are told with what they refused.
var refusedEvents = map[string]kept{
	client.CodeUnauthorized: {"failed_auth", auditWarn},
	client.CodeForbidden:    {"access_denied", auditWarn},
	client.CodeRateLimited:  {"auth_rate_limit_hit", auditHigh},
}

// denied names the denials of admissions. Skew is a replay attempt in WIRE.md;
// most of it is a wrong clock, so it is no more than a warning here.
var denied = map[string]kept{
	client.VerdictReplay:           {"replay_attempt", auditHigh},
	client.VerdictTimestampSkew:    {"replay_attempt", auditWarn},
	client.VerdictInvalidSignature: {"invalid_signature", auditHigh},
	client.VerdictBlacklisted:      {"agent_trust_violation", auditHigh},
	client.VerdictAgentNotActive:   {"agent_trust_violation", auditHigh},
	client.VerdictKeyExpired:       {"key_expired", auditCritical},
	client.VerdictUnknownAgent:     {"admission_denied", auditWarn},
	client.VerdictRateLimited:      {"admission_denied", auditWarn},
	client.VerdictMissingHeaders:   {"admission_denied", auditInfo},
	client.VerdictMalformed:        {"admission_denied", auditInfo},
}

// provedAgents are the denials that come after the agent's signature was
// verified: who is named there is who signed.
var provedAgents = map[string]bool{
	client.VerdictReplay: true, client.VerdictBlacklisted: true, client.VerdictAgentNotActive: true, client.VerdictKeyExpired: true, client.VerdictRateLimited: true,
}

// governs tells whether the route is for operators to change, or to copy, the
// cluster: what is done there must leave a trace.
func (rt *route) governs() bool {
	return rt.class == classBackup || rt.method != http.MethodGet && rt.need&(fsm.CapOperate|fsm.CapAdmin) != 0
}

// mayChange refuses a change that would leave no trace. It fails closed before
// anything was done.
func (s *Server) mayChange() error {
	if err := s.node.AuditErr(); err != nil {
		return &client.Error{Code: client.CodeUnavailable, Reason: "audit", RetryAfter: time.Second,
			Detail: "this node cannot write its audit log, so it takes no changes; nothing was done: ask another node, and look at this one's disk and its log"}
	}
	return nil
}

// auditTimeout bounds the wait for the audit log once an answer is ready.
const auditTimeout = 3 * time.Second

// keep records the call as it is about to be answered: the one place where
// refusals and changes become events. A change that took effect is durable in the
// log before it is answered; the error says that it could not be.
func (c *call) keep() error {
	if c.kept || c.route != nil && c.route.class == classHealth {
		return nil
	}
	c.kept = true
	changed := c.proposed || c.issues || c.route != nil && c.route.governs()
	if c.code == "" && c.verdict == "" && !changed {
		return nil // a read that was answered, or an admission: its verdict is told apart
	}
	e := c.event(changed)
	if !c.proposed && (!changed || c.code != "" && c.code != client.CodeUnknownOutcome) {
		c.s.node.Audit(e)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), auditTimeout)
	defer cancel()
	if err := c.s.node.AuditNow(ctx, e); err != nil && c.code == "" {
		c.s.cfg.Log.Error("a change is not in the audit log yet", "request_id", c.requestID, "error", err)
		return &client.Error{Code: client.CodeUnknownOutcome, Reason: "audit", IdempotencyKey: c.key,
			Detail: "the change was made, but this node could not write it into its audit log: ask again under the same idempotency key, or look"}
	}
	return nil
}

// event describes the call and its outcome. A change that took effect is one,
// whatever was answered: an agent that enrolled may be told that it has to wait.
func (c *call) event(changed bool) AuditEvent {
	e := AuditEvent{Actor: c.actor(), Action: "no route", RequestID: c.requestID, Code: cmp.Or(c.code, c.verdict, "ok"), Index: c.index, Details: c.auditDetails()}
	if c.route != nil {
		e.Action = c.route.method + " " + c.route.pattern
	}
	what := c.change(e.Action)
	switch {
	case c.proposed:
		e.Code = "ok"
	case changed && c.code == "":
	default:
		what = c.refused(what, changed)
	}
	e.Type, e.Level = what.typ, what.level
	return e
}

// change is what the call changes, or was to change.
func (c *call) change(action string) kept {
	if c.did.typ != "" {
		return c.did
	}
	if what, ok := changes[action]; ok {
		return what
	}
	return kept{"admin_action", auditInfo}
}

// refused is what the refusal of a call is.
func (c *call) refused(what kept, changed bool) kept {
	if own, ok := c.wireEvent(); ok {
		return own
	}
	if own, ok := refusedEvents[c.code]; ok {
		return own
	}
	if changed {
		return kept{what.typ, auditWarn}
	}
	return kept{"request_refused", auditInfo}
}

// actor is who asks: the token that was shown to be good, the agent that signed,
// else the address. An id that is only claimed is the event's subject.
func (c *call) actor() client.AuditActor {
	switch {
	case c.token.ID != "":
		return client.AuditActor{Kind: "token", ID: c.token.ID, Proved: true}
	case c.self.Proved:
		return c.self
	}
	return client.AuditActor{Kind: "address", ID: c.addressID()}
}

func (c *call) addressID() string { return guardKey(c.address()).String() }

// isSelf notes which agent it is that asks for itself.
func (c *call) isSelf(agentID string) {
	c.self = client.AuditActor{Kind: "agent", ID: agentID, Proved: true}
}

// tell notes for the audit log what a change changes. Of a secret it takes the id.
func (c *call) tell(name, value string) {
	if c.told == nil {
		c.told = map[string]string{}
	}
	if value != "" {
		c.told[name] = noSecret(value)
	}
}

func (c *call) auditDetails() map[string]string {
	out, claimed, address, query := map[string]string{}, c.claimed, "", ""
	if c.token.ID != "" {
		claimed = ""
	}
	if c.token.ID != "" || c.self.Proved {
		address = c.addressID()
	}
	if c.route != nil && c.route.governs() {
		query = c.r.URL.RawQuery
		if plain, err := url.QueryUnescape(query); err == nil {
			query = plain
		}
	}
	maps.Copy(out, c.told)
	for _, d := range []struct{ name, value string }{
		{"subject", cmp.Or(c.subject, strings.Join(c.args, " "))}, {"query", query}, {"result", c.result}, {"field", c.field}, {"reason", cmp.Or(c.reason, c.verdict)},
		{"claimed_token", claimed}, {"role", string(c.token.Role)}, {"address", address},
	} {
		if d.value != "" {
			out[d.name] = noSecret(d.value)
		}
	}
	return out
}

// tokenMark begins the text of every token.
const tokenMark = "edgc_"

// noSecret keeps the text of a token out of the log, wherever somebody put it
// where an id belongs.
func noSecret(s string) string {
	if strings.Contains(s, tokenMark) {
		return "(a token's text)"
	}
	return s
}

// keepVerdict records a denied admission. An admitted one costs nothing here.
func (c *call) keepVerdict(out *client.Admission) {
	if out.Verdict != client.VerdictDenied {
		return
	}
	what, ok := denied[out.Code]
	if !ok {
		what = kept{"admission_denied", auditWarn}
	}
	e := AuditEvent{Type: what.typ, Level: what.level, Actor: c.actor(), Action: "reject_request", RequestID: c.requestID, Code: out.Code, Index: out.Index,
		Details: map[string]string{"asked_by": c.token.ID}}
	if out.AgentID != "" {
		e.Actor = client.AuditActor{Kind: "agent", ID: noSecret(out.AgentID), Proved: provedAgents[out.Code]}
	}
	c.s.node.Audit(e)
}
