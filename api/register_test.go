package api

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// keyProof is the signature of a worker's key on taking the place of another's.
func (w *worker) keyProof(current *worker) string { return w.proofFor(w.id, current) }

func (w *worker) proofFor(agentID string, current *worker) string {
	return b64(crypto.SignKeyChange(w.key, clusterID, agentID, crypto.PublicOf(current.key)))
}

// x25519Proof is the signature of a worker's key on its encryption key.
func (w *worker) x25519Proof() string {
	return b64(crypto.SignEncryptionKey(w.key, clusterID, w.id, must(base64.StdEncoding.DecodeString(w.x25519))))
}

// agentOf returns what the cluster has of a worker.
func (w *worker) agentOf() fsm.Agent {
	a, _ := w.f.node.leader.Agent(w.id)
	return a
}

// TestC2IdentityIsNotTakenOver tries each way to bind an enrolled id to another key.
func TestC2IdentityIsNotTakenOver(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	thief := f.worker("worker-1", "")
	body := thief.registerBody()
	wantWire(t, thief.register(), 403, "node_not_activated", "key_change_needs_current_key")
	thief.token = f.makeToken(fsm.RoleAgent, 5) // a good token of another agent
	wantWire(t, thief.register(), 403, "node_not_activated", "key_change_needs_current_key")
	thief.token = w.token // the used token of the victim
	wantWire(t, thief.register(), 403, "node_not_activated", "key_change_needs_current_key")
	wantWire(t, thief.post("/register", body, nil), 403, "node_not_activated", "registration_token_required")
	thief.token = f.tokens[fsm.RoleAgent]
	wantWire(t, thief.post("/register", thief.registerBody(), nil), 401, "signature_invalid", "missing_headers")
	wantWire(t, thief.post("/register", body, w.sign("/register", w.registerBody(), w.key)), 401, "signature_invalid", "body_mismatch")
	wantWire(t, thief.post("/register", body, w.sign("/heartbeat", body, w.key)), 401, "signature_invalid", "invalid_signature")
	other := f.enrolled("worker-2")
	wantWire(t, other.signedPost("/register", body), 401, "agent_id_mismatch", "")
	stale := w.sign("/register", body, w.key)
	for range 3 { // the clock may move a minute at a time
		f.tick(60_000)
	}
	wantWire(t, thief.post("/register", body, stale), 401, "signature_invalid", "timestamp_skew")
	if a, _ := f.node.leader.Agent("worker-1"); a.Key() != crypto.PublicOf(w.key) || len(a.Keys) != 1 {
		t.Fatalf("the key is %s", a.Key())
	}
	if rec := w.heartbeat(); rec.Code != 200 {
		t.Errorf("the victim: %d %s", rec.Code, rec.Body)
	}
}

// TestW2RekeyByTheCurrentKey: the agent itself may, and a lost answer is no loss.
func TestW2RekeyByTheCurrentKey(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	next := f.worker("worker-1", "")
	f.tick(1)
	body := next.registerBody("publicKeyProof", next.keyProof(w))
	headers := w.sign("/register", body, w.key)
	for range 2 {
		if rec := w.post("/register", body, headers); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	if a, _ := f.node.leader.Agent("worker-1"); a.Key() != crypto.PublicOf(next.key) || b64(a.EncryptionKey) != next.x25519 {
		t.Fatalf("%+v", a)
	}
	for name, w := range map[string]*worker{"the new key": next, "the old key in the overlap": w} {
		if rec := w.heartbeat(); rec.Code != 200 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	wantWire(t, w.signedPost("/register", w.registerBody()), 401, "signature_invalid", "key_not_current") // no way back
	taken, third := f.enrolled("worker-2"), f.worker("worker-1", "")
	f.tick(1)
	stolen := next.registerBody("publicKeyPem", crypto.PublicOf(taken.key).PEM(), "publicKeyProof", taken.proofFor("worker-1", next))
	before := len(f.node.proposals)
	wantWire(t, next.post("/register", stolen, next.sign("/register", stolen, next.key)), 403, "node_not_activated", "binding_conflict")
	soon := next.registerBody("publicKeyPem", crypto.PublicOf(third.key).PEM(), "publicKeyProof", third.keyProof(next))
	wantWire(t, next.post("/register", soon, next.sign("/register", soon, next.key)), 503, "overloaded", "")
	next.x25519 = third.x25519
	wantWire(t, next.register(), 503, "overloaded", "")
	if n := len(f.node.proposals) - before; n != 0 {
		t.Errorf("%d entries of the log hold nothing but refusals that were known", n)
	}
	f.tick(fsm.EncryptionPauseMs)
	if rec := next.register(); rec.Code != 200 || b64(next.agentOf().EncryptionKey) != next.x25519 || len(f.node.proposals) != before+1 {
		t.Errorf("after the pause: %d %s", rec.Code, rec.Body)
	}
}

// TestC2NobodyTakesAKeyItDoesNotHold: an agent that made another's public key its
// own would have what its holder signs, for x-agent-id is not part of that.
func TestC2NobodyTakesAKeyItDoesNotHold(t *testing.T) {
	f := newFixture(t)
	mallory, victim := f.enrolled("mallory"), f.worker("victim", f.makeToken(fsm.RoleAgent, 1))
	take := func(proof string) (string, map[string]string) {
		body := mallory.registerBody("publicKeyPem", crypto.PublicOf(victim.key).PEM(), "publicKeyProof", proof)
		return body, mallory.sign("/register", body, mallory.key)
	}
	other := f.worker("other", "")
	for name, tt := range map[string]struct {
		proof        string
		status       int
		text, reason string
	}{
		"none":                 {"", 403, "node_not_activated", "key_proof_required"},
		"by the current key":   {b64(crypto.SignKeyChange(mallory.key, clusterID, "mallory", crypto.PublicOf(mallory.key))), 401, "signature_invalid", "key_proof_invalid"},
		"of another agent":     {victim.proofFor("victim", mallory), 401, "signature_invalid", "key_proof_invalid"},
		"of another change":    {victim.proofFor("mallory", other), 401, "signature_invalid", "key_proof_invalid"},
		"of another cluster":   {b64(crypto.SignKeyChange(victim.key, strings.Repeat("0", 32), "mallory", crypto.PublicOf(mallory.key))), 401, "signature_invalid", "key_proof_invalid"},
		"an enrolment's proof": {b64(must(victim.key.Sign(nil, crypto.EnrollProofText(clusterID, "mallory", "token"), cryptoHash0{}))), 401, "signature_invalid", "key_proof_invalid"},
	} {
		rec := mallory.post(takePath(take(tt.proof)))
		var e struct{ Error, Reason string }
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || rec.Code != tt.status || e.Error != tt.text || e.Reason != tt.reason {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	if rec := mallory.post(takePath(take("AAAA"))); rec.Code != 400 {
		t.Errorf("no signature at all: %d %s", rec.Code, rec.Body)
	}
	wantWire(t, victim.register(), 403, "node_not_activated", "node_pending_coordinator_approval") // the key is still free for its holder
	if a := mallory.agentOf(); a.Key() != crypto.PublicOf(mallory.key) {
		t.Errorf("%+v", a)
	}
	body := mallory.call()
	stolen := victim.sign("/heartbeat", body, victim.key)
	stolen["x-agent-id"] = "mallory"
	wantWire(t, mallory.post("/heartbeat", body, stolen), 401, "signature_invalid", "invalid_signature")
}

func takePath(body string, headers map[string]string) (string, string, map[string]string) {
	return "/register", body, headers
}

// TestC3ReplayedRegistrationChangesNothing: a captured idle registration names the
// encryption key of its time, and must not bring it back.
func TestC3ReplayedRegistrationChangesNothing(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	f.tick(fsm.EncryptionPauseMs)
	body := w.registerBody()
	captured := w.sign("/register", body, w.key)
	if rec := w.post("/register", body, captured); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	old := w.x25519
	w.x25519 = b64(append(must(base64.StdEncoding.DecodeString(old))[:31], 1))
	f.tick(1)
	if rec := w.register(); rec.Code != 200 || b64(w.agentOf().EncryptionKey) != w.x25519 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	f.tick(fsm.EncryptionPauseMs) // the captured one is good for another minute
	wantWire(t, w.post("/register", body, captured), 401, "signature_invalid", "replay")
	if got := b64(w.agentOf().EncryptionKey); got != w.x25519 {
		t.Errorf("the encryption key is %s", got)
	}
	if rec := w.register(); rec.Code != 200 {
		t.Errorf("the agent itself: %d %s", rec.Code, rec.Body)
	}
}

// TestP2RegistrationIsTheClustersWord: no entry of the log stands behind a
// registration that changes nothing, so a replica alone does not accept one.
func TestP2RegistrationIsTheClustersWord(t *testing.T) {
	f := newFixture(t)
	shared := f.makeToken(fsm.RoleMesh, -1)
	p := f.node.leader.Policy()
	p.LegacyMesh = shared
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: p.Version, Policy: p})
	banned, suspended, rotated := f.enrolled("banned"), f.enrolled("suspended"), f.enrolled("rotated")
	next := f.worker("rotated", "")
	f.tick(1)
	f.node.held = true // this replica hears of nothing from now on
	f.node.mustApply(f.actor(), banCommand(f, "banned"))
	f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: "suspended", State: fsm.AgentSuspended})
	f.node.mustApply(fsm.Actor{}, fsm.AgentRekey{AgentID: "rotated", By: crypto.PublicOf(rotated.key).Fingerprint(), PublicKey: crypto.PublicOf(next.key), TimestampMs: f.node.nowMs})
	for range 3 {
		f.tick(fsm.MaxAheadMs)
	}
	f.node.strongErr = &client.Error{Code: client.CodeUnavailable, Detail: "no leader"}
	for _, w := range []*worker{banned, suspended, rotated} {
		before := *w
		before.f = &fixture{node: &fakeNode{nowMs: f.node.nowMs - 3*fsm.MaxAheadMs}} // as this replica's clock has it
		body := w.registerBody()
		rec := w.post("/register", body, before.sign("/register", body, w.key))
		wantWire(t, rec, 503, "unavailable", "")
		if strings.Contains(rec.Body.String(), shared) {
			t.Errorf("%s got the mesh token: %s", w.id, rec.Body)
		}
	}
	f.node.strongErr = nil
	wantWire(t, banned.register(), 403, "agent_blacklisted", "a test")
	wantWire(t, suspended.register(), 403, "node_not_activated", "node_inactive")
	wantWire(t, rotated.register(), 401, "signature_invalid", "key_expired")
}

// TestW4RevokedTokenOfAnUnsignedAgent: the token that stands for an agent ends at
// one log index, also at a node that has not heard of it.
func TestW4RevokedTokenOfAnUnsignedAgent(t *testing.T) {
	f := newFixture(t)
	phone, token := f.worker("phone-7", ""), f.makeToken(fsm.RoleMesh, -1)
	id := must(crypto.ParseTokenText(token)).ID
	p := f.node.leader.Policy()
	p.UnsignedAgents = map[string]string{"phone-7": id}
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: p.Version, Policy: p})
	phone.mesh = token
	if rec := phone.post("/heartbeat", phone.call(), nil); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	f.node.held = true
	f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: id})
	wantWire(t, phone.post("/heartbeat", phone.call(), nil), 401, "signature_invalid", "missing_headers")
}

// TestRegistrationProvesItsEncryptionKey: the proof is kept for whoever seals to
// the agent, and goes when it is no longer true.
func TestRegistrationProvesItsEncryptionKey(t *testing.T) {
	f := newFixture(t)
	w := f.worker("worker-1", f.makeToken(fsm.RoleAgent, 1))
	wrong := f.worker("worker-1", "")
	if rec := w.register("x25519Proof", wrong.x25519Proof()); rec.Code != 400 {
		t.Errorf("another's proof: %d %s", rec.Code, rec.Body)
	}
	wantWire(t, w.register("x25519Proof", w.x25519Proof()), 403, "node_not_activated", "node_pending_coordinator_approval")
	f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: "worker-1", State: fsm.AgentActive})
	has := func(proof string) {
		t.Helper()
		if got := b64(w.agentOf().EncryptionProof); got != proof {
			t.Errorf("the proof is %q, want %q", got, proof)
		}
	}
	has(w.x25519Proof())
	before := len(f.node.proposals)
	for _, more := range [][]string{nil, {"x25519Proof", w.x25519Proof()}} {
		if rec := w.register(more...); rec.Code != 200 || len(f.node.proposals) != before {
			t.Errorf("what changes nothing: %d %s", rec.Code, rec.Body)
		}
	}
	f.tick(fsm.EncryptionPauseMs)
	next := f.worker("worker-1", "")
	next.x25519 = w.x25519
	body := next.registerBody("publicKeyProof", next.keyProof(w))
	if rec := w.post("/register", body, w.sign("/register", body, w.key)); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	has("") // it was the old key's
	f.tick(fsm.EncryptionPauseMs)
	if rec := next.register("x25519Proof", next.x25519Proof()); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	has(next.x25519Proof())
}
