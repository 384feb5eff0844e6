package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// idleNode decides nothing: what is left is the cost of this room.
type idleNode struct{ *fakeNode }

func (idleNode) Admit(_ context.Context, requests []AdmitRequest) []AdmitOutcome {
	out := make([]AdmitOutcome, len(requests))
	for i := range out {
		out[i].Result = fsm.ClaimResult{Code: fsm.CodeOK, Index: 7, ClockMs: testClock}
	}
	return out
}

// nullWriter drops the answer.
type nullWriter struct{ h http.Header }

func (w nullWriter) Header() http.Header         { return w.h }
func (w nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nullWriter) WriteHeader(status int) {
	if status != http.StatusOK {
		panic(fmt.Sprint("status ", status))
	}
}

func benchmarkHandler(b *testing.B, path string, body any) {
	f := newFixture(b)
	f.server.node = idleNode{f.node}
	text := string(must(json.Marshal(body)))
	h := f.server.Handler()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequest("POST", path, strings.NewReader(text))
		req.Header["Authorization"] = []string{"Bearer " + f.tokens[fsm.RoleVerifier]}
		h.ServeHTTP(nullWriter{http.Header{}}, req)
	}
}

func benchmarkRequest(b *testing.B) client.AdmissionRequest {
	req := newFixture(b).agent("agent-1", fsm.AgentActive).request(testClock, "body")
	req.ClaimID = client.NewClaimID()
	return req
}

func BenchmarkAdmission(b *testing.B) { benchmarkHandler(b, "/v1/admissions", benchmarkRequest(b)) }

func BenchmarkAdmissionBatch(b *testing.B) {
	batch := client.AdmissionBatch{}
	for range 256 {
		batch.Requests = append(batch.Requests, benchmarkRequest(b))
	}
	benchmarkHandler(b, "/v1/admissions/batch", batch)
}

func BenchmarkDecodeAdmission(b *testing.B) {
	text := string(must(json.Marshal(benchmarkRequest(b))))
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeAdmission(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding_json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var req client.AdmissionRequest
			if err := json.Unmarshal([]byte(text), &req); err != nil {
				b.Fatal(err)
			}
		}
	})
}
