package client

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

var signerKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// sentRequest is what reached the transport below a signer.
type sentRequest struct {
	*http.Request
	body string
}

// caught makes a signer whose requests go nowhere.
func caught(t *testing.T, change func(*SignerConfig)) (*Signer, *[]sentRequest) {
	t.Helper()
	var sent []sentRequest
	cfg := SignerConfig{AgentID: "agent-1", Key: signerKey, Now: func() time.Time { return time.Unix(1_767_225_600, 5) },
		Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			var body []byte
			if r.Body != nil {
				var err error
				if body, err = io.ReadAll(r.Body); err != nil {
					return nil, err
				}
				r.Body.Close()
			}
			sent = append(sent, sentRequest{r, string(body)})
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})}
	if change != nil {
		change(&cfg)
	}
	s, err := NewSigner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, &sent
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// verify reads a request as a service of that host would.
func (r sentRequest) verify(t *testing.T, host string) crypto.SignedRequest {
	t.Helper()
	signed, err := httpsig.Read(r.Method, r.URL.RequestURI(), headerOf(r.Header, host))
	if err != nil {
		t.Fatalf("%v: %v", r.Header, err)
	}
	if !crypto.Verify(crypto.PublicOf(signerKey), signed.Canonical(), signed.Signature[:]) || !signed.MatchesBody([]byte(r.body)) {
		t.Errorf("the signature does not hold for %s and the body %q", host, r.body)
	}
	return signed
}

// countedBody tells how often it was closed.
type countedBody struct {
	io.Reader
	closed int
}

func (b *countedBody) Close() error { b.closed++; return nil }

func TestSignerSignsWhatIsSent(t *testing.T) {
	s, sent := caught(t, nil)
	for name, tt := range map[string]struct {
		req  func() *http.Request
		host string
	}{
		"no body":   {func() *http.Request { return httptest.NewRequest("GET", "https://Service.example:443/a?b=%20", nil) }, "service.example"},
		"post":      {func() *http.Request { return httptest.NewRequest("POST", "http://h:81/", strings.NewReader("x")) }, "h:81"},
		"own host":  {func() *http.Request { r := httptest.NewRequest("GET", "http://h/", nil); r.Host = "virtual"; return r }, "virtual"},
		"no method": {func() *http.Request { r := httptest.NewRequest("GET", "http://h/", nil); r.Method = ""; return r }, "h"},
		"no header": {func() *http.Request { r := httptest.NewRequest("GET", "http://h/", nil); r.Header = nil; return r }, "h"},
		"no path":   {func() *http.Request { r, _ := http.NewRequest("GET", "http://h?q", nil); return r }, "h"},
	} {
		*sent = nil
		if _, err := s.RoundTrip(tt.req()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := (*sent)[0]
		if got.Method == "" {
			got.Method = "GET"
		}
		signed := got.verify(t, tt.host)
		if signed.AgentID != "agent-1" || signed.TimestampMs != 1_767_225_600_000 || signed.ExpiresMs() != 1_767_225_660_000 || signed.Message.KeyID != crypto.PublicOf(signerKey).KeyID() {
			t.Errorf("%s: %+v", name, signed)
		}
	}
}

// The contract of http.RoundTripper: the request stays as it is, its body is closed.
func TestSignerLeavesTheRequestAlone(t *testing.T) {
	s, sent := caught(t, nil)
	for name, getBody := range map[string]func() (io.ReadCloser, error){
		"read into memory": nil,
		"had twice":        func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("body")), nil },
	} {
		body := &countedBody{Reader: strings.NewReader("body")}
		req := httptest.NewRequest("POST", "http://h/x", nil)
		req.Header.Set("Accept", "text/plain")
		req.Body, req.GetBody = body, getBody
		before := req.Header.Clone()
		if _, err := s.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(before, req.Header) || req.Body != body || req.Method != "POST" || req.URL.String() != "http://h/x" {
			t.Errorf("%s: the caller's request was changed: %+v", name, req)
		}
		got := (*sent)[len(*sent)-1]
		got.verify(t, "h")
		if got.body != "body" || body.closed < 1 || got.Header.Get("Accept") != "text/plain" {
			t.Errorf("%s: sent %q with %v, closed %d times", name, got.body, got.Header, body.closed)
		}
	}
	if (*sent)[0].Header.Get("Signature") == (*sent)[1].Header.Get("Signature") {
		t.Error("one nonce for two requests")
	}
}

func TestSignerBesideOtherSignatures(t *testing.T) {
	s, sent := caught(t, nil)
	req := httptest.NewRequest("POST", "http://h/", strings.NewReader("x"))
	req.Header.Set("Signature-Input", `proxy=("@method");tag="proxy"`)
	req.Header.Set("Signature", "proxy=:AAAA:")
	req.Header.Set("Content-Digest", "sha-512=:AAAA:, "+httpsig.ContentDigest(crypto.Sum([]byte("x"))))
	if _, err := s.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	got := (*sent)[0]
	got.verify(t, "h")
	if len(got.Header.Values("Signature-Input")) != 2 || !strings.Contains(got.Header.Get("Content-Digest"), "sha-512") {
		t.Errorf("%v", got.Header)
	}
	for name, header := range map[string]http.Header{
		"our tag":             {"Signature-Input": {`x=("@method");tag="edgecoder"`}},
		"our label":           {"Signature-Input": {`edgecoder=("@method");tag="x"`}},
		"the five headers":    {"X-Nonce": {"n"}},
		"another body's hash": {"Content-Digest": {httpsig.ContentDigest(crypto.Sum(nil))}},
	} {
		body := &countedBody{Reader: strings.NewReader("x")}
		req := httptest.NewRequest("POST", "http://h/", body)
		req.Header = header
		if _, err := s.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "sign POST http://h/") {
			t.Errorf("%s: %v", name, err)
		}
		if body.closed == 0 {
			t.Errorf("%s: the body is left open", name)
		}
	}
	if len(*sent) != 1 {
		t.Error("what could not be signed was sent")
	}
}

func TestSignerBoundsTheBody(t *testing.T) {
	s, sent := caught(t, func(c *SignerConfig) { c.MaxBodyBytes = 10 })
	for size, ok := range map[int]bool{0: true, 10: true, 11: false} {
		body := &countedBody{Reader: strings.NewReader(strings.Repeat("x", size))}
		req := httptest.NewRequest("POST", "http://h/", body)
		_, err := s.RoundTrip(req)
		if (err == nil) != ok || (!ok && !errors.Is(err, errBodyTooLarge)) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if body.closed == 0 {
			t.Errorf("%d bytes: the body is left open", size)
		}
	}
	large := strings.Repeat("x", 1000)
	req, err := http.NewRequest("POST", "http://h/", strings.NewReader(large)) // with a GetBody
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RoundTrip(req); err != nil {
		t.Errorf("a body that can be had twice: %v", err)
	}
	if last := (*sent)[len(*sent)-1]; last.body != large {
		t.Errorf("%d bytes were sent", len(last.body))
	}
	torn := errors.New("torn")
	for name, req := range map[string]*http.Request{
		"read":     {Method: "POST", URL: req.URL, Body: io.NopCloser(io.MultiReader(strings.NewReader("x"), errReader{torn}))},
		"get body": {Method: "POST", URL: req.URL, Body: io.NopCloser(strings.NewReader("")), GetBody: func() (io.ReadCloser, error) { return nil, torn }},
	} {
		if _, err := s.RoundTrip(req); !errors.Is(err, torn) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestNewSignerRefuses(t *testing.T) {
	for name, change := range map[string]func(*SignerConfig){
		"no agent":      func(c *SignerConfig) { c.AgentID = "" },
		"no key":        func(c *SignerConfig) { c.Key = nil },
		"half a second": func(c *SignerConfig) { c.Lifetime = time.Second / 2 },
		"two hours":     func(c *SignerConfig) { c.Lifetime = 2 * time.Hour },
		"negative":      func(c *SignerConfig) { c.Lifetime = -time.Second },
		"no randomness": func(c *SignerConfig) { c.Rand = strings.NewReader("") },
	} {
		cfg := SignerConfig{AgentID: "a", Key: signerKey}
		change(&cfg)
		if _, err := NewSigner(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
