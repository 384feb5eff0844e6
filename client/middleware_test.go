package client

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

// guarded is a handler behind the middleware of a cluster that answers so.
func guarded(t *testing.T, answer string, asked *AdmissionRequest) (h http.Handler, passed *int) {
	t.Helper()
	cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(asked); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(cluster.Close)
	c, err := New(Config{Addrs: []string{cluster.URL}})
	if err != nil {
		t.Fatal(err)
	}
	passed = new(int)
	h, err = c.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { *passed++ }), MiddlewareConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return h, passed
}

// P9: an answer that is 200 and says neither yes nor no is no yes.
func TestMiddlewareTakesNothingButAVerdict(t *testing.T) {
	signed, err := crypto.SignRequest(signerKey, "agent-1", "POST", "/x", []byte("body"), time.Unix(1_767_225_600, 0).UnixMilli(), "nonce")
	if err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]int{
		`{"verdict":"admitted","code":"ok","agent_id":"agent-1"}`: 200,
		`{"verdict":"denied","code":"replay"}`:                    401,
		`{"code":"unavailable","retry_after_ms":1500}`:            503,
		`{"verdict":"maybe"}`:                                     503,
		`{}`:                                                      503,
		`[]`:                                                      503,
		``:                                                        503,
	} {
		var asked AdmissionRequest
		h, passed := guarded(t, answer, &asked)
		req := httptest.NewRequest("POST", "/x?query", nil)
		req.Body = io.NopCloser(strings.NewReader("body"))
		for _, header := range signed.Headers() {
			req.Header.Set(header[0], header[1])
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != want || (*passed == 1) != (want == 200) {
			t.Errorf("%s: %d, passed on %d times", answer, rec.Code, *passed)
		}
		if asked.BodySHA256 != crypto.Sum([]byte("body")).String() || asked.ClaimID == "" || asked.Path != "/x" || len(asked.Headers) != 5 {
			t.Errorf("the cluster was asked %+v", asked)
		}
		if want == 503 && rec.Header().Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", answer)
		}
	}
}

// A body that ends before its length is nobody's verdict.
func TestMiddlewareTornBody(t *testing.T) {
	c, err := New(Config{Addrs: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := c.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("passed on") }), MiddlewareConfig{})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("POST", "/", errReader{io.ErrUnexpectedEOF}))
	if rec.Code != StatusOf(CodeInvalid) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if id, ok := AgentID(t.Context()); ok || id != "" {
		t.Error("a context without an admission has an agent")
	}
}
