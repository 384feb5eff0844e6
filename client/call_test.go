package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// script answers requests one by one and remembers them.
type script struct {
	mu      sync.Mutex
	steps   []func(http.ResponseWriter, *http.Request)
	keys    []string // idempotency keys seen
	bodies  []string
	headers []http.Header
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	n := len(s.bodies)
	s.keys = append(s.keys, r.Header.Get(HeaderIdempotencyKey))
	s.bodies, s.headers = append(s.bodies, string(body)), append(s.headers, r.Header)
	step := s.steps[min(n, len(s.steps)-1)]
	s.mu.Unlock()
	step(w, r)
}

// list returns one of the lists above as it is now.
func (s *script) list(of *[]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(*of)
}

func (s *script) header(i int) http.Header { s.mu.Lock(); defer s.mu.Unlock(); return s.headers[i] }

func (s *script) calls() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.bodies) }

func ok(body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderIndex, "42")
		_, _ = io.WriteString(w, body)
	}
}

func problem(code string, retryAfter string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		e := &Error{Code: code, Detail: "scripted"}
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(StatusOf(code))
		_ = json.NewEncoder(w).Encode(e.Problem())
	}
}

// drop cuts the connection in the middle of the exchange.
func drop(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// start returns a client of scripted servers that does not really sleep.
func start(t *testing.T, scripts ...*script) (*Client, *[]time.Duration) {
	t.Helper()
	var addrs []string
	for _, s := range scripts {
		srv := httptest.NewServer(s)
		t.Cleanup(srv.Close)
		addrs = append(addrs, srv.URL)
	}
	c, err := New(Config{Addrs: addrs, Token: "secret", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var slept []time.Duration
	c.sleep = func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }
	return c, &slept
}

func wantCode(t *testing.T, err error, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return e
}

func same(list []string) bool { return len(slices.Compact(slices.Clone(list))) == 1 && list[0] != "" }

func TestMutationRetriesUnderOneKey(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){
		problem(CodeUnknownOutcome, ""), problem(CodeUnavailable, "2"), drop, ok(`{"id":"t","repeated":true}`),
	}}
	c, slept := start(t, s)
	tok, err := c.CreateToken(t.Context(), TokenRequest{Role: "viewer"})
	if err != nil || tok.ID != "t" || !tok.Repeated {
		t.Fatalf("%+v %v", tok, err)
	}
	if s.calls() != 4 || !same(s.list(&s.keys)) || !same(s.list(&s.bodies)) {
		t.Errorf("keys %v bodies %v", s.list(&s.keys), s.list(&s.bodies))
	}
	// net/http itself repeats what carries an idempotency key when a kept-alive
	// connection breaks, so the dropped try may cost no sleep.
	if len(*slept) < 2 || (*slept)[1] < 2*time.Second {
		t.Errorf("slept %v: Retry-After was not honoured", *slept)
	}
	if s.header(0).Get("Authorization") != "Bearer secret" {
		t.Error("no token")
	}
}

func TestAdmitRetriesUnderOneClaimID(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){
		drop, problem(CodeUnknownOutcome, ""), ok(`{"verdict":"admitted","code":"ok","repeated":true}`),
	}}
	c, _ := start(t, s)
	out, err := c.Admit(t.Context(), AdmissionRequest{Method: "GET", Path: "/"})
	if err != nil || out.Verdict != VerdictAdmitted {
		t.Fatalf("%+v %v", out, err)
	}
	var first AdmissionRequest
	if err := json.Unmarshal([]byte(s.list(&s.bodies)[0]), &first); err != nil || first.ClaimID == "" {
		t.Fatalf("%s %v", s.list(&s.bodies)[0], err)
	}
	if !same(s.list(&s.bodies)) {
		t.Errorf("tries differ: %v", s.list(&s.bodies))
	}
}

func TestAdmitBatchGivesEachAClaimID(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeUnavailable, ""), ok(`{"results":[]}`)}}
	c, _ := start(t, s)
	mine := []AdmissionRequest{{Path: "/1"}, {Path: "/2", ClaimID: "mine"}}
	if _, err := c.AdmitBatch(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	var sent AdmissionBatch
	if err := json.Unmarshal([]byte(s.list(&s.bodies)[1]), &sent); err != nil || sent.Requests[0].ClaimID == "" || sent.Requests[1].ClaimID != "mine" || !same(s.list(&s.bodies)) {
		t.Errorf("%s %v", s.list(&s.bodies), err)
	}
	if mine[0].ClaimID != "" {
		t.Error("the caller's slice was changed")
	}
}

func TestRetriesAreBoundedAndUnknownStaysUnknown(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeUnknownOutcome, ""), problem(CodeUnavailable, "")}}
	c, _ := start(t, s)
	_, err := c.Ban(t.Context(), BanRequest{}, IdempotencyKey("k1"))
	e := wantCode(t, err, CodeUnknownOutcome) // the first try may have banned
	if s.calls() != DefaultAttempts || e.IdempotencyKey != "k1" {
		t.Errorf("%d calls, %+v", s.calls(), e)
	}
	s = &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeUnavailable, "")}}
	c, _ = start(t, s)
	_, err = c.Admit(t.Context(), AdmissionRequest{ClaimID: "c1"})
	if e := wantCode(t, err, CodeUnavailable); e.ClaimID != "c1" {
		t.Errorf("%+v", e)
	}
}

// A revocation of one's own token is answered by the door once it took effect.
func TestARefusedCredentialAfterAnUnknownTryStaysUnknown(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeUnknownOutcome, ""), problem(CodeUnauthorized, "")}}
	c, _ := start(t, s)
	_, err := c.RevokeToken(t.Context(), "own", IdempotencyKey("k1"))
	if e := wantCode(t, err, CodeUnknownOutcome); e.IdempotencyKey != "k1" || s.calls() != 2 {
		t.Errorf("%d calls, %+v", s.calls(), e)
	}
}

func TestRefusalsAreNotRetried(t *testing.T) {
	for _, code := range []string{CodeUnauthorized, CodeForbidden, CodeNotFound, CodeConflict, CodeInvalid, CodeTooLarge, CodeInternal} {
		s := &script{steps: []func(http.ResponseWriter, *http.Request){problem(code, "")}}
		c, _ := start(t, s)
		_, err := c.Status(t.Context())
		wantCode(t, err, code)
		if s.calls() != 1 {
			t.Errorf("%s: %d calls", code, s.calls())
		}
	}
}

// TestAFullDiskSendsTheCallElsewhere: to each other node once, without a pause.
func TestAFullDiskSendsTheCallElsewhere(t *testing.T) {
	full := func() *script {
		return &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeDiskFull, "5")}}
	}
	first, second := full(), &script{steps: []func(http.ResponseWriter, *http.Request){ok(`{"id":"t"}`)}}
	c, slept := start(t, first, second)
	for range 2 {
		if tok, err := c.CreateToken(t.Context(), TokenRequest{}); err != nil || tok.ID != "t" {
			t.Fatalf("%+v, %v", tok, err)
		}
	}
	if first.calls() != 1 || second.calls() != 2 || len(*slept) != 0 {
		t.Errorf("%d and %d calls, slept %v: want it to stay with the node that has room", first.calls(), second.calls(), *slept)
	}
	for nodes := range 3 {
		scripts := []*script{full(), full(), full()}[:nodes+1]
		c, slept := start(t, scripts...)
		_, err := c.CreateToken(t.Context(), TokenRequest{})
		wantCode(t, err, CodeDiskFull)
		for i, s := range scripts {
			if s.calls() != 1 || len(*slept) != 0 {
				t.Errorf("%d nodes: %d calls of node %d, slept %v", nodes+1, s.calls(), i, *slept)
			}
		}
	}
	lost := &script{steps: []func(http.ResponseWriter, *http.Request){drop}}
	c, _ = start(t, lost, full())
	_, err := c.CreateToken(t.Context(), TokenRequest{})
	wantCode(t, err, CodeUnknownOutcome) // the first may have done it
}

func TestNetworkFailures(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c, err := New(Config{Addrs: []string{gone.URL}, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	c.sleep = func(context.Context, time.Duration) error { return nil }
	_, err = c.CreateToken(t.Context(), TokenRequest{})
	wantCode(t, err, CodeUnavailable) // no connection: certainly not done
	s := &script{steps: []func(http.ResponseWriter, *http.Request){drop}}
	c, _ = start(t, s)
	_, err = c.CreateToken(t.Context(), TokenRequest{})
	wantCode(t, err, CodeUnknownOutcome)
	if !same(s.list(&s.keys)) {
		t.Errorf("keys %v", s.list(&s.keys))
	}
	_, err = c.Status(t.Context())
	wantCode(t, err, CodeUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestMeshBanIsNotRepeatedBlindly(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeUnavailable, ""), drop, ok(`{"ok":true}`)}}
	c, _ := start(t, s)
	_, err := c.MeshBan(t.Context(), MeshBanRequest{})
	wantCode(t, err, CodeUnknownOutcome)
	if n := s.calls(); n != 2 || s.header(0).Get(HeaderMeshToken) != "secret" || s.header(0).Get("Authorization") != "" {
		t.Errorf("%d calls, %v", n, s.header(0))
	}
}

func TestTriesAddressesInTurnAndStays(t *testing.T) {
	bad := &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeUnavailable, "")}}
	good := &script{steps: []func(http.ResponseWriter, *http.Request){ok(`{}`)}}
	c, _ := start(t, bad, good)
	var index uint64
	for range 3 {
		if _, err := c.Status(t.Context(), Strong(), MinIndex(7), Index(&index)); err != nil {
			t.Fatal(err)
		}
	}
	if bad.calls() != 1 || good.calls() != 3 || index != 42 {
		t.Errorf("%d and %d calls, index %d", bad.calls(), good.calls(), index)
	}
}

func TestDeadNodeCostsNoSleep(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	good := httptest.NewServer(&script{steps: []func(http.ResponseWriter, *http.Request){ok(`{}`)}})
	defer good.Close()
	c, err := New(Config{Addrs: []string{gone.URL, good.URL}})
	if err != nil {
		t.Fatal(err)
	}
	c.sleep = func(context.Context, time.Duration) error { t.Error("slept"); return nil }
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDeadlineEndsRetries(t *testing.T) {
	s := &script{steps: []func(http.ResponseWriter, *http.Request){problem(CodeOverloaded, "3600")}}
	c, slept := start(t, s)
	_, err := c.Status(t.Context())
	wantCode(t, err, CodeOverloaded)
	if s.calls() != 1 || len(*slept) != 0 {
		t.Errorf("%d calls, slept %v: an hour is beyond the call's minute", s.calls(), *slept)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := &script{steps: []func(http.ResponseWriter, *http.Request){ok(`{}`)}}
	other := httptest.NewServer(elsewhere)
	defer other.Close()
	s := &script{steps: []func(http.ResponseWriter, *http.Request){func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}}}
	c, _ := start(t, s)
	_, err := c.Status(t.Context())
	wantCode(t, err, CodeInternal)
	if elsewhere.calls() != 0 {
		t.Error("the token went elsewhere")
	}
}

func TestStrangeAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		step func(http.ResponseWriter, *http.Request)
		code string
	}{
		"html": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); fmt.Fprint(w, "<html>") }, CodeNotFound},
		"wire error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			fmt.Fprint(w, `{"error":"mesh_unauthorized"}`)
		}, CodeUnauthorized},
		"teapot":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }, CodeInternal},
		"bad json": {ok(`{"node":`), CodeUnavailable},
		"too long": {ok(strings.Repeat(" ", maxResponseBytes+1)), CodeUnavailable},
	} {
		cl, _ := start(t, &script{steps: []func(http.ResponseWriter, *http.Request){c.step}})
		cl.attempts = 1
		_, err := cl.Status(t.Context())
		if e := wantCode(t, err, c.code); e.Detail == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestAuditStreams(t *testing.T) {
	read := func(text string) (string, Audit, error) {
		c, _ := start(t, &script{steps: []func(http.ResponseWriter, *http.Request){ok(text)}})
		var seen strings.Builder
		a, err := c.Audit(t.Context(), func(e json.RawMessage) error { seen.Write(e); return nil })
		return seen.String(), a, err
	}
	seen, a, err := read(`{"version":2,"chainHead":"h","events":[{"a":1},{"b":2}]}`)
	if err != nil || seen != `{"a":1}{"b":2}` || a.Version != 2 || a.ChainHead != "h" {
		t.Errorf("%s %+v %v", seen, a, err)
	}
	for _, bad := range []string{``, `[]`, `{"version":2,"events":[{"a":1}`, `{"version":2,"events":[{"a":1}]`, `{"x":1}`, `{"events":{}}`} {
		if _, _, err := read(bad); err == nil {
			t.Errorf("%s accepted", bad)
		}
	}
}

func TestProblemRoundTrip(t *testing.T) {
	for code := range codes {
		e := &Error{Code: code, Detail: "d", Field: "f", Reason: "r", RetryAfter: 1500 * time.Millisecond, ClaimID: "c", IdempotencyKey: "k", RequestID: "q"}
		if back := e.Problem().Error(); *back != *e {
			t.Errorf("%+v, want %+v", back, e)
		}
	}
}
