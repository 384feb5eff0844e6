package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
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
	h, err = c.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { *passed++ }), MiddlewareConfig{AnyHost: true})
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

// local is a middleware whose cluster admits all, and the requests it passed on.
func local(t *testing.T, cfg MiddlewareConfig) (h http.Handler, passed *[]*http.Request) {
	t.Helper()
	c, err := New(Config{Addrs: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	passed = new([]*http.Request)
	h, err = c.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { *passed = append(*passed, r) }), cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.(*middleware).admit = func(_ context.Context, r AdmissionRequest, _ ...Option) (Admission, error) {
		return Admission{Verdict: VerdictAdmitted, Detail: r.Path + " at " + r.Headers[httpsig.HeaderHost]}, nil
	}
	return h, passed
}

// signedFor is a request as it arrives, whose signature is for that host and target.
func signedFor(t *testing.T, host, target string, body io.Reader) *http.Request {
	t.Helper()
	signed, err := httpsig.Sign(signerKey, httpsig.Params{AgentID: "agent-1", Created: 1_767_225_600, Expires: 1_767_225_660, Nonce: "n"},
		httpsig.Request{Method: "POST", Authority: host, Target: target, BodySHA256: crypto.Sum([]byte("body"))})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", target, body)
	r.Host = host
	for _, header := range signed.Headers() {
		r.Header.Set(header[0], header[1])
	}
	return r
}

// A service that says nothing of whom it answers for would take what was signed
// for others.
func TestMiddlewareWantsAnAudience(t *testing.T) {
	c, err := New(Config{Addrs: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]MiddlewareConfig{"nothing": {}, "both": {AnyHost: true, Authorities: []string{"h"}}} {
		if _, err := c.Middleware(http.NotFoundHandler(), cfg); err == nil || !strings.Contains(err.Error(), "Authorities") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What routes by host behind the middleware gets the host that was verified.
func TestMiddlewarePassesTheVerifiedHost(t *testing.T) {
	five, err := crypto.SignRequest(signerKey, "agent-1", "POST", "/run", []byte("body"), 1_767_225_600_000, "n")
	if err != nil {
		t.Fatal(err)
	}
	unsigned := func(host string) *http.Request { // the five headers sign no host
		r := httptest.NewRequest("POST", "/run", strings.NewReader("body"))
		r.Host = host
		for _, header := range five.Headers() {
			r.Header.Set(header[0], header[1])
		}
		return r
	}
	message := func(host, sent string) *http.Request {
		r := signedFor(t, host, "/run", strings.NewReader("body"))
		r.Host = sent
		return r
	}
	absolute := message("public.example", "admin.example")
	absolute.RequestURI, absolute.URL.Scheme, absolute.URL.Host = "http://admin.example/run", "http", "admin.example"
	one, two := []string{"public.example"}, []string{"public.example", "other.example"}
	for name, tt := range map[string]struct {
		authorities []string
		r           *http.Request
		want        string // "": denied
	}{
		"sent to another":              {one, message("public.example", "admin.example"), "public.example"},
		"absolute form":                {one, absolute, "public.example"},
		"one of two":                   {two, message("public.example", "PUBLIC.example:443"), "public.example"},
		"none of two":                  {two, message("admin.example", "admin.example"), ""},
		"five headers":                 {one, unsigned("admin.example"), "public.example"},
		"five headers, one of two":     {two, unsigned("OTHER.example"), "other.example"},
		"five headers, none of two":    {two, unsigned("admin.example"), ""},
		"five headers for any":         {nil, unsigned("admin.example"), "admin.example"},
		"a message, host left to them": {nil, message("Any.example", "Any.example"), "Any.example"},
	} {
		h, passed := local(t, MiddlewareConfig{Authorities: tt.authorities, AnyHost: tt.authorities == nil})
		before := *tt.r.URL
		h.ServeHTTP(httptest.NewRecorder(), tt.r)
		if (tt.want != "") != (len(*passed) == 1) {
			t.Errorf("%s: passed on %d times", name, len(*passed))
			continue
		} else if tt.want == "" {
			continue
		}
		got := (*passed)[0]
		if got.Host != tt.want || got.URL.Host != "" && got.URL.Host != tt.want || *tt.r.URL != before {
			t.Errorf("%s: the handler sees %q and %q, want %q", name, got.Host, got.URL.Host, tt.want)
		}
	}
}

// What counts is the request line as it came, in each of its forms, whatever
// handlers before made of the URL.
func TestMiddlewareVerifiesTheRequestLine(t *testing.T) {
	for line, target := range map[string]string{
		"/admin/wipe?x=1":           "/admin/wipe?x=1",
		"http://h/admin/wipe?x=1":   "/admin/wipe?x=1",
		"HTTP://u@h:80/a?to=b://c/": "/a?to=b://c/",
		"http://h//a":               "//a",
		"http://h":                  "/",
		"http://h?x=://y":           "/?x=://y",
		"/?to=http://h/x":           "/?to=http://h/x",
	} {
		h, passed := local(t, MiddlewareConfig{Authorities: []string{"h"}})
		r := signedFor(t, "h", target, strings.NewReader("body"))
		r.RequestURI = line
		http.StripPrefix("/admin", h).ServeHTTP(httptest.NewRecorder(), r)
		if !strings.HasPrefix(target, "/admin") {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		if len(*passed) != 1 {
			t.Errorf("%s: passed on %d times", line, len(*passed))
		} else if v, _ := AdmissionOf((*passed)[0].Context()); v.Detail != target+" at h" {
			t.Errorf("%s: the cluster was asked for %s, want %s", line, v.Detail, target)
		}
	}
	for _, line := range []string{"*", "h:443", "mailto:x"} {
		h, passed := local(t, MiddlewareConfig{Authorities: []string{"h"}})
		r := signedFor(t, "h", "/", strings.NewReader("body"))
		r.RequestURI = line
		h.ServeHTTP(httptest.NewRecorder(), r)
		if len(*passed) != 0 {
			t.Errorf("%s has a path", line)
		}
	}
}

// untouched is a body that nobody may read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) { u.t.Error("the body was read"); return 0, io.EOF }

// Strangers do not get their body read, and who looks well-formed not for long.
func TestMiddlewareReadsNoBodyOfStrangers(t *testing.T) {
	h, passed := local(t, MiddlewareConfig{Authorities: []string{"h"}})
	for name, change := range map[string]func(*http.Request){
		"no headers":     func(r *http.Request) { r.Header = http.Header{} },
		"malformed":      func(r *http.Request) { r.Header.Set("Signature", "((") },
		"given twice":    func(r *http.Request) { r.Header["X-Nonce"] = []string{"a", "b"} },
		"a huge length":  func(r *http.Request) { r.ContentLength = DefaultBodyBytes + 1 },
		"half a message": func(r *http.Request) { r.Header.Del("Signature") },
	} {
		r := signedFor(t, "h", "/", untouched{t})
		change(r)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if len(*passed) != 0 || rec.Code < 400 || rec.Header().Get("Connection") != "close" {
			t.Errorf("%s: %d %v", name, rec.Code, rec.Header())
		}
		r.ProtoMajor = 2
		rec = httptest.NewRecorder()
		if h.ServeHTTP(rec, r); rec.Header().Get("Connection") != "" {
			t.Errorf("%s: it closes a connection that others share", name)
		}
	}
}

func TestMiddlewareWithoutABody(t *testing.T) {
	h, _ := local(t, MiddlewareConfig{Authorities: []string{"h"}})
	r := signedFor(t, "h", "/", nil)
	r.Body = nil
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, r); rec.Code != 401 || !strings.Contains(rec.Body.String(), "body") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// timedWriter remembers the deadlines that it is given.
type timedWriter struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (w *timedWriter) SetReadDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

func TestMiddlewareBodyDeadline(t *testing.T) {
	for name, tt := range map[string]struct {
		bodyTime time.Duration
		server   *http.Server
		body     io.Reader
		set      int // how often; the last one takes it back
	}{
		"default":            {0, &http.Server{}, strings.NewReader("body"), 2},
		"torn":               {time.Hour, nil, errReader{io.ErrUnexpectedEOF}, 1},
		"for ever":           {-1, nil, strings.NewReader("body"), 0},
		"the server's own":   {0, &http.Server{ReadTimeout: time.Second}, strings.NewReader("body"), 0},
		"nothing to wait on": {0, nil, nil, 0},
	} {
		h, _ := local(t, MiddlewareConfig{Authorities: []string{"h"}, BodyTime: tt.bodyTime})
		r := signedFor(t, "h", "/", tt.body)
		r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, tt.server))
		w := &timedWriter{ResponseRecorder: httptest.NewRecorder()}
		h.ServeHTTP(w, r)
		if len(w.deadlines) != tt.set || tt.set > 0 && w.deadlines[0].IsZero() || tt.set == 2 && !w.deadlines[1].IsZero() {
			t.Errorf("%s: %v", name, w.deadlines)
		}
		if name == "torn" && (w.Code != StatusOf(CodeInvalid) || w.Header().Get("Connection") != "close") {
			t.Errorf("%s: %d %v %s", name, w.Code, w.Header(), w.Body)
		}
	}
	if id, ok := AgentID(t.Context()); ok || id != "" {
		t.Error("a context without an admission has an agent")
	}
}
