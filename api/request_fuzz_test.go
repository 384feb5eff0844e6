package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
)

// FuzzRequest sends whole requests through the server, each route with each
// kind of credential: nothing panics, no answer is a 500, and an error is a
// problem document with a code that clients know.
func FuzzRequest(f *testing.F) {
	fx := newFixture(f)
	for i, rt := range fx.server.table() {
		f.Add(uint8(i), rt.pattern, "limit=1&min_index=0", "", "{}", uint8(i))
		f.Add(uint8(i), rt.pattern, "level=strong&from=%ff", "v", `{"agent_id":"a","reason":"\u0000"}`, uint8(0))
	}
	f.Fuzz(func(t *testing.T, route uint8, path, query, header, body string, credential uint8) {
		table := fx.server.table()
		rt := table[int(route)%len(table)]
		if strings.Contains(path, "/events") {
			return // goes on for ever, as it should
		}
		fx.t = t
		req := httptest.NewRequest(rt.method, "/", strings.NewReader(body))
		req.URL.Path, req.URL.RawQuery = path, query
		role := allRoles[int(credential)%len(allRoles)]
		switch credential % 3 {
		case 0:
			req.Header.Set("Authorization", "Bearer "+fx.tokens[role])
		case 1:
			req.Header.Set("X-Mesh-Token", fx.tokens[role])
		}
		for _, name := range []string{"Idempotency-Key", "If-Match", "X-Forwarded-For", "Forwarded", "Last-Event-ID", "X-Agent-Id"} {
			req.Header.Set(name, header)
		}
		answer := httptest.NewRecorder()
		fx.server.Handler().ServeHTTP(answer, req)
		if answer.Code == http.StatusInternalServerError {
			t.Fatalf("%s %s?%s: %s", rt.method, path, query, answer.Body)
		}
		if answer.Header().Get("Content-Type") != "application/problem+json" {
			return
		}
		var p client.Problem
		if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil || !client.KnownCode(p.Code) {
			t.Errorf("%s %s: %s", rt.method, path, answer.Body)
		}
	})
}
