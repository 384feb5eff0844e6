package api

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
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

const clusterID = "0123456789abcdef0123456789abcdef"

var allRoles = []fsm.Role{
	fsm.RoleCoordinator, fsm.RoleObserver, fsm.RoleEdge, fsm.RoleAgent,
	fsm.RoleMesh, fsm.RoleVerifier, fsm.RoleViewer, fsm.RoleOperator, fsm.RoleAdmin,
}

// fixture is a server on a fake node, with a token of every role.
type fixture struct {
	t      testing.TB
	node   *fakeNode
	server *Server
	now    time.Time
	log    *bytes.Buffer
	tokens map[fsm.Role]string
}

func newFixture(t testing.TB) *fixture { return newFixtureAt(t, fsm.LevelClients) }

// newFixtureAt is of a cluster at a feature level.
func newFixtureAt(t testing.TB, level uint32) *fixture {
	f := &fixture{t: t, now: time.UnixMilli(testClock), log: &bytes.Buffer{}, tokens: map[fsm.Role]string{}}
	admin := must(crypto.NewTokenText(rand.Reader, clusterID, "admin", ""))
	f.node = newFakeNode(clusterID, admin, level)
	f.tokens[fsm.RoleAdmin] = admin.String()
	for _, role := range allRoles[:len(allRoles)-1] {
		f.tokens[role] = f.makeToken(role, 100)
	}
	f.server = New(f.node, Config{ClusterID: clusterID, CAPin: func() string { return testPin }, Version: "test",
		Log: slog.New(slog.NewTextHandler(f.log, nil)), Now: func() time.Time { return f.now }})
	f.server.EndStreams() // a walk over all routes must not follow events for ever; see letStreamsLast
	f.server.pause = 0
	return f
}

func (f *fixture) actor() fsm.Actor {
	return fsm.Actor{TokenID: must(crypto.ParseTokenText(f.tokens[fsm.RoleAdmin])).ID}
}

func (f *fixture) makeToken(role fsm.Role, uses int64) string {
	text := must(crypto.NewTokenText(rand.Reader, clusterID, string(role), ""))
	f.node.mustApply(f.actor(), fsm.TokenCreate{ID: text.ID, Hash: text.Hash(), Role: role, Uses: uses, ExpiresMs: f.node.nowMs + 3_600_000})
	return text.String()
}

// agent is an enrolled agent with its key.
type agent struct {
	id  string
	key crypto.PrivateKey
}

func (f *fixture) agent(id string, state fsm.AgentState) *agent {
	a := &agent{id: id, key: must(crypto.GenerateKey(rand.Reader))}
	tok := must(crypto.ParseTokenText(f.tokens[fsm.RoleAgent]))
	f.node.mustApply(fsm.Actor{TokenID: tok.ID}, fsm.AgentEnroll{AgentID: id, PublicKey: crypto.PublicOf(a.key)})
	if state != fsm.AgentPending {
		f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: id, State: fsm.AgentActive})
	}
	if state == fsm.AgentSuspended {
		f.node.mustApply(f.actor(), fsm.AgentSetState{AgentID: id, State: state})
	}
	return a
}

// request signs a fresh request of the agent.
func (a *agent) request(timestampMs int64, body string) client.AdmissionRequest {
	s := must(crypto.SignRequest(a.key, a.id, "POST", "/pull", []byte(body), timestampMs, must(crypto.NewUUID(rand.Reader))))
	headers := map[string]string{}
	for _, h := range s.Headers() {
		headers[h[0]] = h[1]
	}
	return client.AdmissionRequest{Method: "POST", Path: "/pull", Headers: headers}
}

// ask is one request to the server.
type ask struct {
	method, path string
	token        string // sent where the route wants it
	body         any    // string, or anything to marshal
	header       map[string]string
	from         string // remote address
}

func (f *fixture) do(a ask) *httptest.ResponseRecorder {
	f.t.Helper()
	var text string
	switch b := a.body.(type) {
	case nil:
	case string:
		text = b
	default:
		text = string(must(json.Marshal(b)))
	}
	req := httptest.NewRequest(a.method, a.path, strings.NewReader(text))
	if a.from != "" {
		req.RemoteAddr = a.from
	}
	if a.token != "" {
		if strings.HasPrefix(a.path, "/v1/") || a.path == "/metrics" {
			req.Header.Set("Authorization", "Bearer "+a.token)
		} else {
			req.Header.Set("X-Mesh-Token", a.token)
		}
	}
	for k, v := range a.header {
		req.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	f.server.Handler().ServeHTTP(rec, req)
	f.checkEveryAnswer(a, rec)
	return rec
}

// checkEveryAnswer holds what is true of all answers.
func (f *fixture) checkEveryAnswer(a ask, rec *httptest.ResponseRecorder) {
	f.t.Helper()
	h := rec.Header()
	if _, err := strconv.ParseUint(h.Get("X-Edgecoder-Index"), 10, 64); err != nil {
		f.t.Errorf("%s %s: X-Edgecoder-Index %q", a.method, a.path, h.Get("X-Edgecoder-Index"))
	}
	if h.Get("X-Request-Id") == "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
		f.t.Errorf("%s %s: headers missing: %v", a.method, a.path, h)
	}
	if rec.Code == http.StatusTooManyRequests || rec.Code == http.StatusServiceUnavailable {
		if n, err := strconv.Atoi(h.Get("Retry-After")); err != nil || n < 1 {
			f.t.Errorf("%s %s: %d with Retry-After %q", a.method, a.path, rec.Code, h.Get("Retry-After"))
		}
	}
}

func (f *fixture) admin(method, path string, body any) *httptest.ResponseRecorder {
	return f.do(ask{method: method, path: path, token: f.tokens[fsm.RoleAdmin], body: body})
}

// wantProblem checks an error answer.
func wantProblem(t testing.TB, rec *httptest.ResponseRecorder, code, field string) client.Problem {
	t.Helper()
	var p client.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatalf("answer %d %s is no problem: %v", rec.Code, rec.Body, err)
	}
	if rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("content type %q", rec.Header().Get("Content-Type"))
	}
	if p.Code != code || p.Field != field || p.Status != rec.Code || rec.Code != client.StatusOf(code) {
		t.Fatalf("got %d %s field %q (%s), want %s field %q", rec.Code, p.Code, p.Field, p.Detail, code, field)
	}
	if p.Detail == "" || p.RequestID == "" || p.RequestID != rec.Header().Get("X-Request-Id") {
		t.Errorf("problem without detail or request id: %+v", p)
	}
	return p
}

func decodeReply[T any](t testing.TB, rec *httptest.ResponseRecorder, status int) T {
	t.Helper()
	var v T
	if rec.Code != status {
		t.Fatalf("status %d, want %d: %s", rec.Code, status, rec.Body)
	}
	dec := json.NewDecoder(bytes.NewReader(rec.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", rec.Body, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("trailing data in %s", rec.Body)
	}
	return v
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
