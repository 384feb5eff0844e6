package api

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// worker is an existing agent written from WIRE.md alone: it knows headers and
// JSON, and nothing of this house but Ed25519.
type worker struct {
	f      *fixture
	id     string
	key    crypto.PrivateKey
	x25519 string
	token  string // registrationToken
	mesh   string // meshToken of the last register reply
}

func (f *fixture) worker(id, token string) *worker {
	return &worker{f: f, id: id, token: token, key: must(crypto.GenerateKey(rand.Reader)),
		x25519: b64(must(crypto.GenerateEncryptionKey(rand.Reader)).PublicKey().Bytes())}
}

// sign returns the five headers of WIRE.md 2, computed once a call as workers do.
func (w *worker) sign(path, body string, key crypto.PrivateKey) map[string]string {
	ts, nonce := strconv.FormatInt(w.f.node.nowMs, 10), must(crypto.NewUUID(rand.Reader))
	hash := crypto.Sum([]byte(body)).String()
	text := ts + "\n" + nonce + "\nPOST\n" + path + "\n" + hash
	return map[string]string{"x-agent-id": w.id, "x-timestamp-ms": ts, "x-nonce": nonce, "x-body-sha256": hash,
		"x-signature": b64(must(key.Sign(nil, []byte(text), cryptoHash0{})))}
}

func (w *worker) registerBody(more ...string) string {
	body := map[string]any{"agentId": w.id, "os": "debian", "version": "1.2.3", "mode": "swarm-only", "clientType": "edgecoder-native",
		"maxConcurrentTasks": 1, "publicKeyPem": crypto.PublicOf(w.key).PEM(), "x25519PublicKey": w.x25519,
		"powerTelemetry": map[string]any{"onExternalPower": true, "batteryLevelPct": 87.5}, "sandboxMode": "docker", "somethingNew": []int{1}}
	if w.token != "" {
		body["registrationToken"] = w.token
	}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	return string(must(json.Marshal(body)))
}

func (w *worker) post(path, body string, headers map[string]string) *httptest.ResponseRecorder {
	return w.f.do(ask{method: "POST", path: path, token: w.mesh, body: body, header: headers, from: "198.51.100.9:4711"})
}

func (w *worker) signedPost(path, body string) *httptest.ResponseRecorder {
	return w.post(path, body, w.sign(path, body, w.key))
}

func (w *worker) register(more ...string) *httptest.ResponseRecorder {
	return w.signedPost("/register", w.registerBody(more...))
}

func (w *worker) heartbeat() *httptest.ResponseRecorder {
	return w.signedPost("/heartbeat", w.call())
}

func (w *worker) call() string { return fmt.Sprintf(`{"agentId":%q,"sandboxMode":"docker"}`, w.id) }

// enrolled is a worker that registered and was approved.
func (f *fixture) enrolled(id string) *worker {
	f.t.Helper()
	w := f.worker(id, f.makeToken(fsm.RoleAgent, 1))
	wantWire(f.t, w.register(), 403, "node_not_activated", "node_pending_coordinator_approval")
	f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: id, State: fsm.AgentActive})
	if rec := w.register(); rec.Code != 200 {
		f.t.Fatal(rec.Code, rec.Body)
	}
	return w
}

func wantWire(t testing.TB, rec *httptest.ResponseRecorder, status int, text, reason string) {
	t.Helper()
	var e struct{ Error, Reason string }
	if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || rec.Code != status || e.Error != text || e.Reason != reason {
		t.Errorf("%d %s, want %d %s %q", rec.Code, rec.Body, status, text, reason)
	}
}

// tick moves both clocks, the cluster's and this server's.
func (f *fixture) tick(ms int64) {
	f.now = f.now.Add(time.Duration(ms) * time.Millisecond)
	f.node.nowMs += ms
	f.node.mustApply(fsm.Actor{}, fsm.Tick{Term: 1, Mark: true})
}

// TestC8WorkerLoopForAnHour runs the loop of WIRE.md 7.3, register, heartbeat and
// pull every 1.2 s, with every seventh answer lost and its request repeated, under
// the default policy. Not one request may be refused.
func TestC8WorkerLoopForAnHour(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	f.node.mustApply(f.actor(), banCommand(f, "worker-9"))
	before := len(f.node.proposals)
	n := 0
	send := func(path, body string) map[string]any {
		headers := w.sign(path, body, w.key)
		rec := w.post(path, body, headers)
		for try := 0; n%7 == 0 && try < 2; try++ { // the answer was lost: the same bytes again, 300 ms × attempt
			f.tick(300)
			rec = w.post(path, body, headers)
		}
		n++
		if rec.Code != 200 {
			t.Fatalf("request %d, %s: %d %s", n, path, rec.Code, rec.Body)
		}
		var out map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	body := w.registerBody()
	for end := f.node.nowMs + 3_600_000; f.node.nowMs < end; f.tick(1200) {
		if out := send("/register", body); out["accepted"] != true || out["mode"] != "swarm-only" || out["meshToken"] != nil {
			t.Fatal(out)
		}
		out := send("/heartbeat", w.call())
		bans := out["blacklist"].(map[string]any)
		if out["ok"] != true || fmt.Sprint(bans["agents"]) != "[worker-9]" || bans["version"] != 1.0 {
			t.Fatal(out)
		}
		if out := send("/pull", w.call()); len(out) != 1 || out["subtask"] != nil {
			t.Fatal(out)
		}
	}
	if n < 7000 || len(f.node.proposals) != before {
		t.Errorf("%d requests made %d proposals: registering again must make none", n, len(f.node.proposals)-before)
	}
	if rec := w.heartbeat(); rec.Code != 200 {
		t.Error(rec.Body)
	}
}

func TestWireWorkerShapes(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	rec := w.register()
	if got := names(t, rec.Body.Bytes()); got != "accepted,policy,mode" {
		t.Error(got)
	}
	const policy = `"policy":{"cpuCapPercent":50,"memoryLimitMb":2048,"idleOnly":true,"maxConcurrentTasks":1,"allowedHours":{"startHourUtc":22,"endHourUtc":6}}`
	if !strings.Contains(rec.Body.String(), policy) {
		t.Errorf("%s", rec.Body)
	}
	rec = w.heartbeat()
	if got := names(t, rec.Body.Bytes()); got != "ok,requeued,policy,orchestration,tunnelInvites,tunnelCloseNotices,directWorkOffers,blacklist" {
		t.Error(got)
	}
	if !strings.Contains(rec.Body.String(), `"orchestration":null,"tunnelInvites":[],"tunnelCloseNotices":[],"directWorkOffers":[],"blacklist":{"version":0,"agents":[]}`) {
		t.Errorf("%s", rec.Body)
	}
	f.node.mustApply(f.actor(), banCommand(f, "worker-1"))
	rec = w.heartbeat()
	if rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != `{"ok":false,"blacklisted":true,"reason":"a test","blacklistVersion":1}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	wantWire(t, w.register(), 403, "agent_blacklisted", "a test")
	rec = w.signedPost("/pull", w.call())
	if rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != `{"subtask":null,"blocked":true,"reason":"a test"}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	wantWire(t, w.signedPost("/result", w.call()), 404, "not_served_here", "")
}

// TestC1NoTokenIsGivenAway: an address in a header opens nothing, a token of
// another role neither, and what agents get may at most read.
func TestC1NoTokenIsGivenAway(t *testing.T) {
	f := newFixture(t)
	w := f.worker("worker-1", "")
	for _, name := range []string{"X-Forwarded-For", "Fly-Client-Ip", "Cf-Connecting-Ip", "X-Real-Ip", "True-Client-Ip"} {
		body := w.registerBody()
		headers := w.sign("/register", body, w.key)
		headers[name] = "127.0.0.1"
		rec := w.post("/register", body, headers)
		wantWire(t, rec, 403, "node_not_activated", "registration_token_required")
		if strings.Contains(rec.Body.String(), "meshToken") {
			t.Error(rec.Body)
		}
	}
	revoked := f.makeToken(fsm.RoleAgent, 1)
	f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: must(crypto.ParseTokenText(revoked)).ID})
	for name, token := range map[string]string{"garbage": "x", "mesh": f.tokens[fsm.RoleMesh], "admin": f.tokens[fsm.RoleAdmin], "revoked": revoked,
		"forged": strings.Replace(f.tokens[fsm.RoleAgent], "_agent_", "_admin_", 1)} {
		w.token = token
		if rec := w.register(); rec.Code != 403 || !strings.Contains(rec.Body.String(), "registration_token_invalid") {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	a := f.enrolled("worker-2")
	shared := f.makeToken(fsm.RoleMesh, -1)
	p := f.node.leader.Policy()
	p.LegacyMesh = shared
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: p.Version, Policy: p})
	var out struct{ MeshToken string }
	if err := json.Unmarshal(a.register().Body.Bytes(), &out); err != nil || out.MeshToken != shared {
		t.Fatalf("policy has a legacy token, the reply %q", out.MeshToken)
	}
	stranger := f.worker("worker-3", "")
	if rec := stranger.register(); strings.Contains(rec.Body.String(), shared) {
		t.Error("a stranger was told the legacy token")
	}
	// W1: with it one reads, and no more; it stands for no agent.
	if rec := f.do(ask{method: "GET", path: "/mesh/peers", token: shared}); rec.Code != 200 {
		t.Error(rec.Code)
	}
	rec := f.do(ask{method: "POST", path: "/security/blacklist", token: shared, body: "{}"})
	wantWire(t, rec, 403, "mesh_forbidden", "")
	wantWire(t, f.do(ask{method: "POST", path: "/heartbeat", token: shared, body: a.call()}), 401, "signature_invalid", "missing_headers")
	own, next := f.makeToken(fsm.RoleMesh, -1), f.makeToken(fsm.RoleMesh, -1)
	for _, path := range []string{"/v1/agents", "/v1/agents/worker-2", "/v1/blacklist", "/v1/openapi.json", "/v1/status", "/v1/tokens", "/v1/policy"} {
		if rec := f.do(ask{method: "GET", path: path, token: shared}); rec.Code != 403 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	if rec := f.do(ask{method: "GET", path: "/v1/agents", token: own}); rec.Code != 200 {
		t.Errorf("a token that nobody was told: %d", rec.Code)
	}
	text := f.do(ask{method: "GET", path: "/v1/policy", token: f.tokens[fsm.RoleViewer]}).Body.String()
	if strings.Contains(text, shared) || !strings.Contains(text, must(crypto.ParseTokenText(shared)).ID) {
		t.Errorf("the policy names the token by its id: %s", text)
	}
	f.node.held = true // this replica hears of nothing from now on
	p = f.node.leader.Policy()
	p.LegacyMesh = next
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: p.Version, Policy: p})
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/agents", token: next}), client.CodeForbidden, "") // told at another node
	f.node.strongErr = &client.Error{Code: client.CodeUnavailable, Detail: "no leader"}
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/agents", token: own}), client.CodeUnavailable, "")
	if rec := f.do(ask{method: "GET", path: "/mesh/peers", token: next}); rec.Code != 200 {
		t.Errorf("what existing clients ask waits for nobody: %d", rec.Code)
	}
	f.node.held, f.node.strongErr = false, nil
	p = f.node.leader.Policy()
	p.LegacyMesh = ""
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: p.Version, Policy: p})
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/agents", token: shared}), client.CodeForbidden, "") // who was told does not forget
}

// TestC3SignatureBindsTheRequest tries each downgrade and swap of WEAKNESSES C3.
func TestC3SignatureBindsTheRequest(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	body := w.call()
	good := func() map[string]string { return w.sign("/heartbeat", body, w.key) }
	for name := range good() {
		headers := good()
		delete(headers, name)
		wantWire(t, w.post("/heartbeat", body, headers), 401, "signature_invalid", "missing_headers")
	}
	change := func(name, value string) map[string]string {
		headers := good()
		headers[name] = value
		return headers
	}
	wantWire(t, w.post("/heartbeat", body, nil), 401, "mesh_unauthorized", "")
	wantWire(t, w.post("/heartbeat", strings.Replace(body, "docker", "none", 1), good()), 401, "signature_invalid", "body_mismatch")
	for _, ts := range []string{"NaN", "1e12", "", " 1", "0x1"} {
		reason := "malformed"
		if ts == "" {
			reason = "missing_headers"
		}
		wantWire(t, w.post("/heartbeat", body, change("x-timestamp-ms", ts)), 401, "signature_invalid", reason)
	}
	wantWire(t, w.post("/heartbeat", body, change("x-nonce", must(crypto.NewUUID(rand.Reader)))), 401, "signature_invalid", "invalid_signature")
	wantWire(t, w.post("/pull", body, good()), 401, "signature_invalid", "invalid_signature")
	wantWire(t, w.post("/heartbeat", body, change("x-agent-id", "worker-2")), 401, "agent_id_mismatch", "")
	wantWire(t, f.worker("nobody", "").heartbeat(), 401, "mesh_unauthorized", "agent_not_registered")
	skewed := *w
	skewed.f = &fixture{node: &fakeNode{nowMs: f.node.nowMs + 180_000}}
	headers := skewed.sign("/heartbeat", body, w.key)
	wantWire(t, w.post("/heartbeat", body, headers), 401, "signature_invalid", "timestamp_skew") // a clock 3 min off

	headers = good() // once in the whole cluster, for whatever it is used
	if rec := w.post("/heartbeat", body, headers); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	f.node.held = true // a node that has not heard of it
	if rec := w.post("/heartbeat", body, headers); rec.Code != 200 {
		t.Errorf("an identical retry: %d %s", rec.Code, rec.Body)
	}
	f.node.held = false
	twisted := w.sign("/pull", body, w.key)
	text := headers["x-timestamp-ms"] + "\n" + headers["x-nonce"] + "\nPOST\n/pull\n" + headers["x-body-sha256"]
	twisted["x-timestamp-ms"], twisted["x-nonce"], twisted["x-signature"] = headers["x-timestamp-ms"], headers["x-nonce"], b64(must(w.key.Sign(nil, []byte(text), cryptoHash0{})))
	wantWire(t, w.post("/pull", body, twisted), 401, "signature_invalid", "replay")
	if len(f.node.leader.Bans("", 10, f.node.nowMs)) != 0 {
		t.Error("somebody was banned by a machine")
	}
}

// TestW14NobodyPaysForForgeries: five, or five hundred, bogus signatures in an
// agent's name cost that agent nothing (WEAKNESSES C6, C8).
func TestW14NobodyPaysForForgeries(t *testing.T) {
	f := newFixture(t)
	w := f.enrolled("worker-1")
	forger := f.worker("worker-1", "")
	for range selfBurst + 10 {
		wantWire(t, forger.heartbeat(), 401, "signature_invalid", "invalid_signature")
	}
	f.tick(60_000)
	body := w.registerBody()
	captured := w.sign("/register", body, w.key)
	f.tick(1)
	w.register()
	for range selfBurst + 10 { // from behind the agent's own address, in any order
		if rec := w.post("/register", body, captured); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	if rec := w.register(); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.heartbeat(); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	for i := 0; ; i++ { // its own flood is its own
		rec := w.heartbeat()
		if rec.Code == http.StatusTooManyRequests {
			wantWire(t, rec, 429, "rate_limited", "")
			break
		}
		if i > selfBurst {
			t.Fatalf("%d heartbeats at once", i)
		}
	}
	f.tick(1000)
	if rec := w.heartbeat(); rec.Code != 200 {
		t.Errorf("a second later: %d %s", rec.Code, rec.Body)
	}
}

// TestW4UnsignedOnlyByPolicyForThisAgent: phones cannot sign (WIRE.md 29).
func TestW4UnsignedOnlyByPolicyForThisAgent(t *testing.T) {
	f := newFixture(t)
	phone := f.worker("phone-7", "")
	token, others := f.makeToken(fsm.RoleMesh, -1), f.makeToken(fsm.RoleMesh, -1)
	body := func(token string) string {
		return fmt.Sprintf(`{"agentId":"phone-7","os":"ios","version":"1","mode":"swarm-only","registrationToken":%q}`, token)
	}
	wantWire(t, phone.post("/register", body(token), nil), 401, "signature_invalid", "missing_headers")
	phone.mesh = token
	wantWire(t, phone.post("/heartbeat", phone.call(), nil), 401, "signature_invalid", "missing_headers")
	allow := func(agents map[string]string) {
		p := f.node.leader.Policy()
		p.UnsignedAgents = agents
		f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: p.Version, Policy: p})
	}
	allow(map[string]string{"phone-7": must(crypto.ParseTokenText(token)).ID, "phone-8": must(crypto.ParseTokenText(others)).ID})
	rec := phone.post("/register", body(token), nil)
	var out struct{ MeshToken string }
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil || rec.Code != 200 || out.MeshToken != token {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if rec := phone.post("/heartbeat", phone.call(), nil); rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	wantWire(t, phone.post("/register", phone.registerBody(), nil), 401, "signature_invalid", "missing_headers") // brings a key
	phone.mesh = others
	wantWire(t, phone.post("/heartbeat", phone.call(), nil), 401, "signature_invalid", "missing_headers")
	wantWire(t, phone.post("/register", body(others), nil), 401, "signature_invalid", "missing_headers")
	phone.mesh = f.tokens[fsm.RoleAdmin]
	wantWire(t, phone.post("/heartbeat", phone.call(), nil), 401, "signature_invalid", "missing_headers")
	phone.mesh = token
	f.node.held = true // the ban is acknowledged elsewhere
	f.node.mustApply(f.actor(), banCommand(f, "phone-7"))
	if rec := phone.post("/heartbeat", phone.call(), nil); !strings.Contains(rec.Body.String(), `"blacklisted":true`) {
		t.Errorf("P2: %d %s", rec.Code, rec.Body)
	}
	wantWire(t, phone.post("/register", body(token), nil), 403, "agent_blacklisted", "a test")
	f.node.mustApply(f.actor(), fsm.TokenRevoke{ID: must(crypto.ParseTokenText(token)).ID})
	f.node.catchUp()
	wantWire(t, phone.post("/heartbeat", phone.call(), nil), 401, "signature_invalid", "missing_headers")
}

func banCommand(f *fixture, agentID string) fsm.BlacklistAppend {
	event := crypto.BlacklistEvent{EventID: must(crypto.NewUUID(rand.Reader)), AgentID: agentID, ReasonCode: crypto.ReasonManualReview, Reason: "a test",
		EvidenceHashSHA256: someEvidence, ReporterID: "policy-engine", ReportedBy: "policy-engine", TimestampMs: f.node.nowMs}
	head, _ := f.node.leader.Chain()
	event.Link(head, f.node.key)
	return fsm.BlacklistAppend{Event: event}
}
