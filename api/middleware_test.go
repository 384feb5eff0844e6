package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
	"github.com/edgecoder/edgecoder/fsm"
)

// service is a signing client, a service behind the middleware, and the cluster
// that it asks: everything but consensus is real.
type service struct {
	*fixture
	server  *httptest.Server
	reached []string // "agent method target body"
}

func newService(t *testing.T, cfg client.MiddlewareConfig) *service {
	s := &service{fixture: newFixture(t)}
	cfg.AnyHost = len(cfg.Authorities) == 0 // its address is known only once it listens
	cluster := httptest.NewServer(s.fixture.server.Handler())
	c := must(client.New(client.Config{Addrs: []string{cluster.URL}, Token: s.tokens[fsm.RoleVerifier], Attempts: 1}))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent, ok := client.AgentID(r.Context())
		body := must(io.ReadAll(r.Body))
		verdict, _ := client.AdmissionOf(r.Context())
		if !ok || verdict.Index == 0 || r.ContentLength != int64(len(body)) {
			t.Errorf("passed on without its verdict: %q %+v", agent, verdict)
		}
		s.reached = append(s.reached, agent+" "+r.Method+" "+r.RequestURI+" "+string(body))
	})
	s.server = httptest.NewServer(must(c.Middleware(handler, cfg)))
	t.Cleanup(func() { s.server.Close(); c.Close(); cluster.Close() })
	return s
}

func (s *service) signer(a *agent) *http.Client {
	return &http.Client{Transport: must(client.NewSigner(client.SignerConfig{AgentID: a.id, Key: a.key, Now: func() time.Time { return s.now }}))}
}

func (s *service) host() string { return strings.TrimPrefix(s.server.URL, "http://") }

// wantDenied reads a denial and checks its form.
func wantDenied(t *testing.T, resp *http.Response, status int, code string) client.Problem {
	t.Helper()
	defer resp.Body.Close()
	var p client.Problem
	text := must(io.ReadAll(resp.Body))
	if err := json.Unmarshal(text, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %s: no problem document: %v", resp.StatusCode, text, err)
	}
	if resp.StatusCode != status || p.Status != status || p.Code != code || p.Detail == "" {
		t.Errorf("%d %+v, want %d %s", resp.StatusCode, p, status, code)
	}
	return p
}

func TestMiddlewareAdmitsWhatSignersSign(t *testing.T) {
	s := newService(t, client.MiddlewareConfig{})
	a := s.agent("agent-1", fsm.AgentActive)
	c := s.signer(a)
	for i, send := range []func() (*http.Response, error){
		func() (*http.Response, error) { return c.Get(s.server.URL + "/a%2Fb?x=1&y=%20") },
		func() (*http.Response, error) { return c.Get(s.server.URL) },
		func() (*http.Response, error) {
			return c.Post(s.server.URL+"/tasks", "text/plain", strings.NewReader("body"))
		},
		func() (*http.Response, error) {
			return c.Post(s.server.URL+"/tasks", "text/plain", io.MultiReader(strings.NewReader("streamed"))) // no GetBody
		},
	} {
		resp, err := send()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d: %v %v", i, resp, err)
		}
		resp.Body.Close()
	}
	want := "agent-1 GET /a%2Fb?x=1&y=%20 |agent-1 GET / |agent-1 POST /tasks body|agent-1 POST /tasks streamed"
	if got := strings.Join(s.reached, "|"); got != want {
		t.Errorf("the service saw %s, want %s", got, want)
	}
}

// five sends a request with the five headers for a path.
func (s *service) five(t *testing.T, a *agent, path, query, body string) *http.Response {
	t.Helper()
	signed := must(crypto.SignRequest(a.key, a.id, "POST", path, []byte(body), testClock, must(crypto.NewUUID(strings.NewReader(path+query+body+"0123456789abcdef")))))
	req := must(http.NewRequest("POST", s.server.URL+path+query, strings.NewReader(body)))
	for _, h := range signed.Headers() {
		req.Header.Set(h[0], h[1])
	}
	return must(http.DefaultClient.Do(req))
}

func TestMiddlewareSpeaksBothProfiles(t *testing.T) {
	s := newService(t, client.MiddlewareConfig{})
	a := s.agent("agent-1", fsm.AgentActive)
	if resp := s.five(t, a, "/tasks", "?q=1", "body"); resp.StatusCode != http.StatusOK {
		t.Errorf("five headers: %d", resp.StatusCode)
	}
	s.withKey("PUT", "/v1/policy", "", `{"signature_profiles":"rfc9421"}`, "If-Match", "1")
	p := wantDenied(t, s.five(t, a, "/tasks", "?q=2", "body2"), http.StatusUnauthorized, client.VerdictInvalidSignature)
	if !strings.Contains(p.Detail, "RFC 9421") || p.Type != "urn:edgecoder:verdict:invalid_signature" {
		t.Errorf("%+v", p)
	}
	if resp := must(s.signer(a).Get(s.server.URL + "/tasks")); resp.StatusCode != http.StatusOK || len(s.reached) != 2 {
		t.Errorf("message signature: %d, %v", resp.StatusCode, s.reached)
	}
}

func TestMiddlewareDenies(t *testing.T) {
	s := newService(t, client.MiddlewareConfig{MaxBodyBytes: 100})
	a := s.agent("agent-1", fsm.AgentActive)
	send := func(change func(*http.Request)) *http.Response {
		t.Helper()
		signed := must(httpsig.Sign(a.key, httpsig.Params{AgentID: a.id, Created: testClock / 1000, Expires: testClock/1000 + 60, Nonce: client.NewClaimID()},
			httpsig.Request{Method: "POST", Authority: s.host(), Target: "/tasks?x=1", BodySHA256: crypto.Sum([]byte("body"))}))
		req := must(http.NewRequest("POST", s.server.URL+"/tasks?x=1", strings.NewReader("body")))
		for _, h := range signed.Headers() {
			req.Header.Set(h[0], h[1])
		}
		change(req)
		return must(http.DefaultClient.Do(req))
	}
	setBody := func(body string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
	}
	if resp := send(func(*http.Request) {}); resp.StatusCode != http.StatusOK {
		t.Fatalf("the good one: %d", resp.StatusCode)
	}
	for name, tt := range map[string]struct {
		change func(*http.Request)
		status int
		code   string
	}{
		"unsigned":     {func(r *http.Request) { r.Header = http.Header{} }, 401, client.VerdictMissingHeaders},
		"malformed":    {func(r *http.Request) { r.Header.Set("Signature-Input", "((") }, 401, client.VerdictMalformed},
		"two in lines": {func(r *http.Request) { r.Header.Add("Signature", r.Header.Get("Signature")) }, 401, client.VerdictMalformed},
		"header twice": {func(r *http.Request) { r.Header["X-Nonce"] = []string{"a", "b"} }, 401, client.VerdictMalformed},
		"other body":   {setBody("other"), 401, client.VerdictInvalidSignature},
		"body grown":   {setBody("body "), 401, client.VerdictInvalidSignature},
		"body huge":    {setBody(strings.Repeat("x", 101)), 413, client.CodeTooLarge},
		"other host":   {func(r *http.Request) { r.Host = "other.example" }, 401, client.VerdictInvalidSignature},
		"odd host":     {func(r *http.Request) { r.Host = "a,b" }, 401, client.VerdictInvalidSignature},
		"other query":  {func(r *http.Request) { r.URL.RawQuery = "x=2" }, 401, client.VerdictInvalidSignature},
		"other path":   {func(r *http.Request) { r.URL.Path = "/task" }, 401, client.VerdictInvalidSignature},
		"other method": {func(r *http.Request) { r.Method = "PUT" }, 401, client.VerdictInvalidSignature},
		"both": {func(r *http.Request) {
			for _, h := range must(crypto.SignRequest(a.key, a.id, "POST", "/tasks", []byte("body"), testClock, "n")).Headers() {
				r.Header.Set(h[0], h[1])
			}
		}, 401, client.VerdictMalformed},
	} {
		s.reached = nil
		resp := send(tt.change)
		if p := wantDenied(t, resp, tt.status, tt.code); p.Status == 401 && resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: 401 without WWW-Authenticate", name)
		}
		if len(s.reached) != 0 {
			t.Errorf("%s: it was passed on", name)
		}
	}
}

// What the state says of the agent comes out as a status that clients know.
func TestMiddlewareStatuses(t *testing.T) {
	s := newService(t, client.MiddlewareConfig{})
	banned := s.agent("banned", fsm.AgentActive)
	if rec := s.admin("POST", "/v1/blacklist", manualBan("banned")); rec.Code != 201 {
		t.Fatal(rec.Body)
	}
	busy := s.agent("busy", fsm.AgentActive)
	s.withKey("PUT", "/v1/policy", "", `{"overrides":{"busy":{"requests":1,"window_ms":60000}}}`, "If-Match", "1")
	if resp := must(s.signer(busy).Get(s.server.URL)); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	stranger := &agent{id: "stranger", key: banned.key}
	s.now = s.now.Add(-61 * time.Second)
	wantDenied(t, must(s.signer(s.agent("late", fsm.AgentActive)).Get(s.server.URL)), 401, client.VerdictTimestampSkew)
	s.now = time.UnixMilli(testClock)
	for name, tt := range map[string]struct {
		a      *agent
		status int
		code   string
	}{
		"pending":  {s.agent("pending", fsm.AgentPending), 403, client.VerdictAgentNotActive},
		"banned":   {banned, 403, client.VerdictBlacklisted},
		"stranger": {stranger, 401, client.VerdictUnknownAgent},
		"busy":     {busy, 429, client.VerdictRateLimited},
	} {
		resp := must(s.signer(tt.a).Get(s.server.URL))
		wantDenied(t, resp, tt.status, tt.code)
		if retry := resp.Header.Get("Retry-After"); (tt.status == 429) != (retry != "") {
			t.Errorf("%s: Retry-After %q", name, retry)
		}
	}
}

// P9: no verdict is never a yes.
func TestMiddlewareFailsClosed(t *testing.T) {
	var told []error
	s := newService(t, client.MiddlewareConfig{Undecided: func(_ *http.Request, err error) { told = append(told, err) }})
	a := s.agent("agent-1", fsm.AgentActive)
	for _, code := range []string{client.CodeUnavailable, client.CodeUnknownOutcome, client.CodeOverloaded, client.CodeDiskFull, client.CodeInternal, client.CodeForbidden, client.CodeConflict} {
		s.node.admitErr = &client.Error{Code: code, Detail: "secret of the cluster"}
		resp := must(s.signer(a).Get(s.server.URL))
		if p := wantDenied(t, resp, 503, client.CodeUnavailable); strings.Contains(p.Detail, "secret") || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %+v, Retry-After %q", code, p, resp.Header.Get("Retry-After"))
		}
	}
	if len(told) != 7 || len(s.reached) != 0 {
		t.Errorf("told of %d, passed on %v", len(told), s.reached)
	}
}

// A proxy may call the service by another name; what counts is the name that
// clients sign for.
func TestMiddlewareAuthorities(t *testing.T) {
	s := newService(t, client.MiddlewareConfig{Authorities: []string{"API.example:443"}})
	a := s.agent("agent-1", fsm.AgentActive)
	through := func(signedFor string) *http.Response {
		t.Helper()
		proxy := roundTripper(func(r *http.Request) (*http.Response, error) {
			r.URL.Host, r.URL.Scheme, r.Host = s.host(), "http", "" // as a proxy sends it on
			return http.DefaultTransport.RoundTrip(r)
		})
		signer := must(client.NewSigner(client.SignerConfig{AgentID: a.id, Key: a.key, Transport: proxy, Now: func() time.Time { return s.now }}))
		return must((&http.Client{Transport: signer}).Post("https://"+signedFor+"/tasks", "text/plain", bytes.NewReader([]byte("x"))))
	}
	if resp := through("api.example"); resp.StatusCode != 200 {
		t.Errorf("signed for the service: %d", resp.StatusCode)
	}
	wantDenied(t, through("other.example"), 401, client.VerdictInvalidSignature)

	two := newService(t, client.MiddlewareConfig{Authorities: []string{"one.example", "two.example"}})
	b := two.agent("agent-1", fsm.AgentActive)
	for host, status := range map[string]int{"one.example": 200, "TWO.example:443": 200, "three.example": 401} {
		req := must(http.NewRequest("GET", two.server.URL, nil))
		req.Host = host
		if resp := must(two.signer(b).Do(req)); resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", host, resp.StatusCode, status)
		}
	}
	c := must(client.New(client.Config{Addrs: []string{"http://127.0.0.1:1"}}))
	if _, err := c.Middleware(http.NotFoundHandler(), client.MiddlewareConfig{Authorities: []string{"https://x"}}); err == nil {
		t.Error("a URL passes as an authority")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
