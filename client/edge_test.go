package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestGuardNeedsFreshAnswers: what best_effort answers without a lease passes nobody; what the operator listed does.
func TestGuardNeedsFreshAnswers(t *testing.T) {
	var answer Allowed
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer) }))
	defer edge.Close()
	c, err := NewEdge(EdgeConfig{Addr: edge.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	guard := c.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(*http.Request) string { return "agent" })
	fresh, stale, halted := Freshness{Fresh: true}, Freshness{Mode: EdgeBestEffort}, Freshness{Mode: EdgeBestEffort, Fresh: true, Halted: "two lists"}
	ok, listed, banned := AllowedAnswer{Allowed: true, Code: AllowedOK}, AllowedAnswer{Allowed: true, Code: AllowedListed}, AllowedAnswer{Code: AllowedBlacklisted}
	for _, tt := range []struct {
		answer Allowed
		status int
		says   string
	}{
		{Allowed{ok, fresh}, 200, ""},
		{Allowed{ok, stale}, 503, AllowedStale},
		{Allowed{ok, halted}, 503, AllowedHalted},
		{Allowed{listed, stale}, 200, ""},
		{Allowed{banned, stale}, 403, VerdictBlacklisted},
		{Allowed{AllowedAnswer{Code: AllowedUnknown}, stale}, 503, AllowedUnknown},
	} {
		answer = tt.answer
		w := httptest.NewRecorder()
		guard.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%+v: %d %s", tt.answer, w.Code, w.Body)
		}
	}
}

// TestEdgeIsOnThisMachine: an edge answers without a credential, so it is asked over loopback or a unix socket alone.
func TestEdgeIsOnThisMachine(t *testing.T) {
	for addr, good := range map[string]bool{
		"unix:/run/edge.sock": true, "http://127.0.0.1:4501": true, "http://[::1]:4501": true, "http://localhost:4501": true,
		"http://10.0.0.1:4501": false, "http://example.com": false, "http://127.0.0.1.example.com": false, "http://127.0.0.1@example.com": false,
		"http://0.0.0.0:4501": false, "http://": false, "https://127.0.0.1:4501": false, "unix:": false,
	} {
		if _, err := NewEdge(EdgeConfig{Addr: addr}); (err == nil) != good {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
