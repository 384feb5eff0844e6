package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func plainSigner(t *testing.T, change func(*SignerConfig)) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := SignerConfig{AgentID: "agent-1", Key: signerKey, Transport: transport}
	if change != nil {
		change(&cfg)
	}
	s, err := NewSigner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: s}
}

// A server that redirects must not get a signature for what it chooses, neither
// at another host nor on another path of its own.
func TestSignerIsNoOracleForRedirects(t *testing.T) {
	var reached []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		reached = append(reached, r.RequestURI+" "+string(body)+" "+r.Header.Get("Signature-Input"))
	}))
	defer other.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/transfer?to=evil", http.StatusTemporaryRedirect)
		case "/within":
			http.Redirect(w, r, "/away", http.StatusTemporaryRedirect)
		}
	}))
	defer service.Close()
	for _, path := range []string{"/away", "/within"} {
		_, err := plainSigner(t, nil).Post(service.URL+path, "text/plain", strings.NewReader("body"))
		if err == nil || !strings.Contains(err.Error(), "SignRedirect") || len(reached) != 0 {
			t.Errorf("%s: %v, reached %q", path, err, reached)
		}
	}
	within := plainSigner(t, func(c *SignerConfig) {
		c.SignRedirect = func(to, from *http.Request) bool { return to.URL.Host == from.URL.Host }
	})
	if _, err := within.Post(service.URL+"/within", "text/plain", strings.NewReader("body")); err == nil || len(reached) != 0 {
		t.Errorf("allowed within the host: %v, reached %q", err, reached)
	}
	any := plainSigner(t, func(c *SignerConfig) { c.SignRedirect = func(_, _ *http.Request) bool { return true } })
	resp, err := any.Post(service.URL+"/within", "text/plain", strings.NewReader("body"))
	if err != nil || len(reached) != 1 || !strings.HasPrefix(reached[0], "/transfer?to=evil body edgecoder=") {
		t.Fatalf("allowed: %v, reached %q", err, reached)
	}
	resp.Body.Close()
	last := plainSigner(t, nil)
	last.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if resp, err = last.Get(service.URL + "/away"); err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Fatalf("the redirect itself: %v %v", resp, err)
	}
	resp.Body.Close()
}

// Who redirected is known below any transport, also one that does not say so.
func TestSignerKnowsWhoRedirected(t *testing.T) {
	var asked []string
	s, sent := caught(t, func(c *SignerConfig) {
		inner := c.Transport
		c.Transport = roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp, err := inner.RoundTrip(r)
			if r.URL.Path == "/1" {
				resp.StatusCode, resp.Header = 302, http.Header{"Location": {"/2"}}
			}
			return resp, err
		})
		c.SignRedirect = func(to, from *http.Request) bool {
			asked = append(asked, from.URL.Path+" to "+to.URL.Path)
			return true
		}
	})
	resp, err := (&http.Client{Transport: s}).Get("http://h/1")
	if err != nil || len(asked) != 1 || asked[0] != "/1 to /2" || len(*sent) != 2 {
		t.Fatalf("%v, asked %q, sent %d", err, asked, len(*sent))
	}
	resp.Body.Close()
}

// http.Transport must not send a signature again that a server may have acted
// on: the first one was admitted, so the agent would be told of a replay.
func TestSignerSendsASignatureOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		method, body string
		header       http.Header
	}{
		"get":                       {"GET", "", nil},
		"head":                      {"HEAD", "", nil},
		"options":                   {"OPTIONS", "", nil},
		"get with a body":           {"GET", "body", nil},
		"post with a key":           {"POST", "body", http.Header{"Idempotency-Key": {"k"}}},
		"post with a hidden key":    {"POST", "body", http.Header{"X-Idempotency-Key": nil}},
		"post with a key, bodyless": {"POST", "", http.Header{"Idempotency-Key": {"k"}}},
		"post":                      {"POST", "body", nil},
		"delete, bodyless":          {"DELETE", "", nil},
	} {
		var calls atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != tt.body || r.Header.Get("Signature") == "" {
				t.Errorf("%s: arrived with %q, %v, %v", name, body, err, r.Header)
			}
			if tt.body == "" && tt.method != "POST" && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
				t.Errorf("%s: no body became one of %d bytes, %v", name, r.ContentLength, r.TransferEncoding)
			}
			if calls.Add(1) > 1 { // the connection is a used one now: it took effect, but nobody hears of it
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		}))
		c := plainSigner(t, nil)
		send := func() error {
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body) // which http.NewRequest gives a GetBody
			}
			req, err := http.NewRequest(tt.method, server.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tt.header {
				req.Header[k] = v
			}
			resp, err := c.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		if err := send(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := send(); err == nil || calls.Load() != 2 {
			t.Errorf("%s: %v after %d requests, want an error after 2", name, err, calls.Load())
		}
		server.Close()
	}
}

// endless is a body without an end.
type endless struct{ read func() }

func (e endless) Read(p []byte) (int, error) { e.read(); return len(p), nil }

func TestSignerStopsHashingWithItsContext(t *testing.T) {
	s, sent := caught(t, func(c *SignerConfig) { c.MaxBodyBytes = 1 << 40 })
	for name, again := range map[string]bool{"read into memory": false, "had twice": true} {
		ctx, cancel := context.WithCancel(t.Context())
		reads := 0
		body := endless{func() {
			if reads++; reads == 3 {
				cancel()
			} else if reads > 3 {
				t.Fatal("it reads on")
			}
		}}
		req, err := http.NewRequestWithContext(ctx, "POST", "http://h/", body)
		if err != nil {
			t.Fatal(err)
		}
		if again {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body), nil }
		}
		if _, err := s.RoundTrip(req); !errors.Is(err, context.Canceled) || len(*sent) != 0 {
			t.Errorf("%s: %v, sent %d", name, err, len(*sent))
		}
		cancel()
	}
}
