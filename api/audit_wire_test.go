package api

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// last returns the one event of what was done since the last call.
func (n *fakeNode) last(t *testing.T) AuditEvent {
	t.Helper()
	got := n.events()
	if len(got) != 1 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	return got[0]
}

// signAs is sign with a nonce of the caller's.
func (w *worker) signAs(path, body, nonce string, atMs int64) map[string]string {
	signed := must(crypto.SignRequest(w.key, w.id, "POST", path, []byte(body), atMs, nonce))
	out := map[string]string{}
	for _, h := range signed.Headers() {
		out[h[0]] = h[1]
	}
	return out
}

// TestWhatAgentsDoStandsInTheLog: with who it was, whether that was proved, whom
// it was about, and what it was, whatever the one status says.
func TestWhatAgentsDoStandsInTheLog(t *testing.T) {
	f := newFixture(t)
	f.node.events()
	w := f.worker("worker-1", f.makeToken(fsm.RoleAgent, 1))
	w.register()
	if e := f.node.last(t); e.Type != "agent_enroll" || e.Code != "ok" || e.Actor.Kind != "token" || !e.Actor.Proved || e.Details["subject"] != "worker-1" || e.Details["key_id"] != crypto.PublicOf(w.key).KeyID() || e.Index == 0 {
		t.Errorf("an enrolment: %+v", e)
	}
	f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: w.id, State: fsm.AgentActive})
	w.register()
	if got := f.node.events(); len(got) != 0 {
		t.Errorf("a registration that changes nothing: %+v", got)
	}
	thief := f.worker("worker-1", "")
	ghost := f.worker("ghost", "")
	twice := w.signAs("/heartbeat", w.call(), "one-nonce-for-two", f.node.nowMs)
	if rec := w.post("/heartbeat", w.call(), twice); rec.Code != 200 || len(f.node.events()) != 0 {
		t.Fatal(rec.Code, rec.Body)
	}
	self := client.AuditActor{Kind: "agent", ID: "worker-1", Proved: true}
	from := client.AuditActor{Kind: "address", ID: "198.51.100.9"}
	for _, tc := range []struct {
		name  string
		do    func()
		typ   string
		level string
		actor client.AuditActor
		why   string
	}{
		{"a replayed nonce", func() { w.post("/pull", w.call(), w.signAs("/pull", w.call(), "one-nonce-for-two", f.node.nowMs)) }, "replay_attempt", auditHigh, self, client.VerdictReplay},
		{"a clock that is off", func() { w.post("/pull", w.call(), w.signAs("/pull", w.call(), "n", f.node.nowMs-600_000)) }, "replay_attempt", auditWarn, self, client.VerdictTimestampSkew},
		{"a forgery", func() { thief.heartbeat() }, "invalid_signature", auditHigh, from, client.VerdictInvalidSignature},
		{"another body", func() { w.post("/heartbeat", w.call()+" ", w.sign("/heartbeat", w.call(), w.key)) }, "invalid_signature", auditHigh, from, "body_mismatch"},
		{"another id in the body", func() { w.signedPost("/heartbeat", ghost.call()) }, "invalid_signature", auditHigh, from, "agent_id_mismatch"},
		{"a stranger", func() { ghost.heartbeat() }, "failed_auth", auditWarn, from, "agent_not_registered"},
		{"a takeover", func() { thief.register() }, "agent_trust_violation", auditHigh, from, "key_change_needs_current_key"},
		{"no token", func() { ghost.register() }, "access_denied", auditWarn, from, "registration_token_required"},
	} {
		tc.do()
		e := f.node.last(t)
		subject := "worker-1"
		if strings.HasPrefix(tc.name, "a stranger") || strings.HasPrefix(tc.name, "no token") || strings.HasPrefix(tc.name, "another id") {
			subject = "ghost"
		}
		if e.Type != tc.typ || e.Level != tc.level || e.Actor != tc.actor || e.Details["reason"] != tc.why || e.Details["subject"] != subject || e.Code == "ok" {
			t.Errorf("%s: %+v", tc.name, e)
		}
	}
	f.tick(fsm.EncryptionPauseMs)
	f.tick(1)
	w.x25519 = b64(must(crypto.GenerateEncryptionKey(rand.Reader)).PublicKey().Bytes())
	w.register()
	if e := f.node.last(t); e.Type != "key_rotation" || e.Code != "ok" || e.Actor != self || e.Details["key_id"] == "" || e.Details["key_id"] != e.Details["by"] || e.Index == 0 {
		t.Errorf("another encryption key: %+v", e)
	}
	f.node.mustApply(f.actor(), banCommand(f, w.id))
	for name, do := range map[string]func(){"heartbeat": func() { w.heartbeat() }, "pull": func() { w.signedPost("/pull", w.call()) }, "register": func() { w.register() }} {
		do()
		if e := f.node.last(t); e.Type != "agent_trust_violation" || e.Level != auditHigh || e.Actor != self || e.Details["reason"] != client.VerdictBlacklisted || strings.Contains(fmt.Sprint(e), "because") {
			t.Errorf("%s of a banned agent: %+v", name, e)
		}
	}
}

// TestForgedMessagesNameTheirSender.
func TestForgedMessagesNameTheirSender(t *testing.T) {
	f := newFixture(t)
	me := crypto.PublicOf(f.node.key).CoordinatorID()
	good := f.gossip(f.node.key, me, "peer_announce", testClock, 30_000, `{"a":1}`)
	f.ingest(good)
	f.node.events()
	forger := must(crypto.GenerateKey(rand.Reader))
	for _, tc := range []struct{ body, typ, level, sender string }{
		{f.gossip(forger, me, "peer_announce", testClock, 30_000, `{"a":1}`), "invalid_signature", auditHigh, me},
		{good, "replay_attempt", auditHigh, me},
		{f.gossip(forger, "nobody", "peer_announce", testClock, 30_000, `{"a":1}`), "failed_auth", auditWarn, "nobody"},
	} {
		f.ingest(tc.body)
		if e := f.node.last(t); e.Type != tc.typ || e.Level != tc.level || e.Actor.Kind != "token" || e.Details["subject"] != tc.sender {
			t.Errorf("%+v, want %s of %s", e, tc.typ, tc.sender)
		}
	}
}

// TestChangesTellWhatTheyChanged: the new beside the old, no secret, and a high
// level for what opens the cluster further.
func TestChangesTellWhatTheyChanged(t *testing.T) {
	f := newFixture(t)
	admin := f.tokens[fsm.RoleAdmin]
	mesh := must(crypto.ParseTokenText(f.tokens[fsm.RoleMesh]))
	version := 1
	policy := func(body map[string]any) AuditEvent {
		t.Helper()
		e, status := f.oneEvent(ask{method: "PUT", path: "/v1/policy", token: admin, body: body, header: map[string]string{"If-Match": fmt.Sprint(version)}})
		if status != 200 || e.Type != "policy_set" {
			t.Fatalf("%d %+v", status, e)
		}
		version++
		return e
	}
	for _, tc := range []struct {
		body               map[string]any
		detail, has, level string
	}{
		{map[string]any{"unsigned_agents": map[string]string{"cannot-sign": mesh.ID}}, "unsigned_agents", "+cannot-sign: " + mesh.ID, auditHigh},
		{map[string]any{"unsigned_agents": map[string]string{}}, "unsigned_agents", "-cannot-sign: " + mesh.ID, auditWarn},
		{map[string]any{"legacy_mesh_token": f.tokens[fsm.RoleMesh]}, "legacy_mesh_token", "none -> " + mesh.ID, auditHigh},
		{map[string]any{"legacy_mesh_token": ""}, "legacy_mesh_token", mesh.ID + " -> none", auditWarn},
		{map[string]any{"max_skew_ms": 60_000}, "max_skew_ms", "120000 -> 60000", auditWarn},
		{map[string]any{"max_skew_ms": 90_000}, "max_skew_ms", "60000 -> 90000", auditHigh},
		{map[string]any{"signature_profiles": "rfc9421"}, "signature_profiles", "any -> rfc9421", auditWarn},
		{map[string]any{"agent_profiles": map[string]string{"old": "any"}}, "agent_profiles", "+old: any", auditHigh},
		{map[string]any{"overrides": map[string]any{"a": map[string]any{"requests": 1000, "window_ms": 1000}}}, "overrides", "+a: 1000/1000ms", auditHigh},
		{map[string]any{"auto_approve": true}, "auto_approve", "false -> true", auditHigh},
	} {
		e := policy(tc.body)
		if !strings.Contains(e.Details[tc.detail], tc.has) || e.Level != tc.level || strings.Contains(fmt.Sprint(e), tokenMark) {
			t.Errorf("%v: %+v", tc.body, e)
		}
	}
	for role, level := range map[string]string{"admin": auditHigh, "operator": auditHigh, "coordinator": auditHigh, "viewer": auditInfo} {
		e, _ := f.oneEvent(ask{method: "POST", path: "/v1/tokens", token: admin, body: map[string]any{"role": role, "label": "of mine"}})
		if e.Level != level || e.Details["created_role"] != role || e.Details["label"] != "of mine" || e.Details["expires_ms"] == "" || e.Details["role"] != "admin" || strings.Contains(fmt.Sprint(e), tokenMark) {
			t.Errorf("a token of role %s: %+v", role, e)
		}
	}
	for _, token := range []string{admin, f.tokens[fsm.RoleViewer]} {
		e, _ := f.oneEvent(ask{method: "DELETE", path: "/v1/peers/nobody?compromised=true", token: token})
		if e.Details["query"] != "compromised=true" || e.Details["subject"] != "nobody" {
			t.Errorf("a removal: %+v", e)
		}
	}
	e, _ := f.oneEvent(ask{method: "DELETE", path: "/v1/peers/nobody?compromised=%65dgc_secret", token: admin})
	if strings.Contains(fmt.Sprint(e), "secret") {
		t.Errorf("a token's text: %+v", e)
	}
}

// TestBadManifestSignaturesAreEvents.
func TestBadManifestSignaturesAreEvents(t *testing.T) {
	f := newFixture(t)
	f.trustSigners(2, "a", "b")
	f.node.events()
	rec := f.admin("POST", "/v1/manifests", manifestBody(envelopeOf(f.statement("1.4.2", "x"), "a")))
	if e := f.node.last(t); rec.Code == 201 || e.Type != "manifest_signature_failure" || e.Level != auditCritical || e.Details["subject"] != "bin/ü 1.4.2" {
		t.Errorf("%d %s: %+v", rec.Code, rec.Body, e)
	}
}
