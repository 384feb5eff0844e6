package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

// MiddlewareConfig says what a service expects of signed requests.
type MiddlewareConfig struct {
	// Authorities are the hosts, with ports unless 80 or 443, that HTTP message
	// signatures must be for: what clients see, whatever a proxy makes of it.
	// With several, the request's Host says which; empty: the request's Host,
	// which is safe only if nobody else can choose it.
	Authorities []string
	// MaxBodyBytes bounds the body, which is read before the cluster is asked;
	// 0: DefaultBodyBytes.
	MaxBodyBytes int64
	// Undecided is told of requests that got 503 because the cluster could not
	// decide, or refused to decide for this service; nil: nobody is.
	Undecided func(*http.Request, error)
}

// Middleware passes on to next the requests that the cluster admits, in either
// signature profile, and answers all others itself: 401, 403 or 429 with the
// verdict as a problem document, 503 with Retry-After when there is none. It
// fails closed. The signed body hash is compared with the body that arrived.
// [AgentID] tells next who asks.
func (c *Client) Middleware(next http.Handler, cfg MiddlewareConfig) (http.Handler, error) {
	m := &middleware{next: next, cfg: cfg, admit: c.Admit}
	m.cfg.MaxBodyBytes = cmp.Or(cfg.MaxBodyBytes, DefaultBodyBytes)
	for _, host := range cfg.Authorities {
		authority, err := httpsig.Authority(host)
		if err != nil {
			return nil, fmt.Errorf("middleware: authority %q: %w", host, err)
		}
		m.authorities = append(m.authorities, authority)
	}
	return m, nil
}

type middleware struct {
	next        http.Handler
	cfg         MiddlewareConfig
	authorities []string
	admit       func(context.Context, AdmissionRequest, ...Option) (Admission, error)
}

type admissionKey struct{}

// AgentID returns the agent whose request [Client.Middleware] admitted.
func AgentID(ctx context.Context) (string, bool) {
	a, ok := AdmissionOf(ctx)
	return a.AgentID, ok
}

// AdmissionOf returns the verdict under which a request was passed on.
func AdmissionOf(ctx context.Context) (Admission, bool) {
	a, ok := ctx.Value(admissionKey{}).(Admission)
	return a, ok
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r.Body, m.cfg.MaxBodyBytes)
	switch {
	case errors.Is(err, errBodyTooLarge):
		w.Header().Set("Connection", "close") // the rest of it is not read
		writeProblem(w, (&Error{Code: CodeTooLarge, Field: "body", Detail: fmt.Sprintf("the body is larger than %d bytes", m.cfg.MaxBodyBytes)}).Problem())
		return
	case err != nil:
		writeProblem(w, (&Error{Code: CodeInvalid, Field: "body", Detail: "the body ended early"}).Problem())
		return
	}
	ask, denied := m.question(r, body)
	if denied != nil {
		writeProblem(w, verdictProblem(*denied))
		return
	}
	verdict, err := m.admit(r.Context(), ask)
	if err != nil || verdict.Verdict != VerdictAdmitted && verdict.Verdict != VerdictDenied {
		m.undecided(w, r, verdict, err)
		return
	}
	if verdict.Verdict == VerdictDenied {
		writeProblem(w, verdictProblem(verdict))
		return
	}
	passed := r.WithContext(context.WithValue(r.Context(), admissionKey{}, verdict))
	passed.Body, passed.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	m.next.ServeHTTP(w, passed)
}

// question makes the question to the cluster, or the denial of what needs none:
// headers that nobody could verify must not cost the cluster anything.
func (m *middleware) question(r *http.Request, body []byte) (AdmissionRequest, *Admission) {
	deny := func(code, format string, args ...any) (AdmissionRequest, *Admission) {
		return AdmissionRequest{}, &Admission{Verdict: VerdictDenied, Code: code, Detail: fmt.Sprintf(format, args...)}
	}
	if name := twice(r.Header); name != "" {
		return deny(VerdictMalformed, "malformed %s: given twice", name)
	}
	host, err := m.authority(r.Host)
	get := headerOf(r.Header, host)
	path, target := targetOf(r)
	if get(httpsig.HeaderSignatureInput) == "" {
		target = path
	} else if err != nil {
		return deny(VerdictInvalidSignature, "%v", err)
	}
	signed, err := httpsig.Read(r.Method, target, get)
	switch {
	case errors.Is(err, crypto.ErrMissingHeaders):
		return deny(VerdictMissingHeaders, "%v", err)
	case err != nil:
		return deny(VerdictMalformed, "%v", err)
	case !signed.MatchesBody(body):
		return deny(VerdictInvalidSignature, "the body is not the one that was signed")
	}
	ask := AdmissionRequest{Method: r.Method, Path: path, BodySHA256: signed.BodySHA256.String(), Headers: map[string]string{}, ClaimID: NewClaimID()}
	names := fiveHeaders
	if signed.Message != nil {
		names, ask.Path = messageHeaders, target
		ask.Headers[httpsig.HeaderHost] = host
	}
	for _, name := range names {
		ask.Headers[name] = get(name)
	}
	return ask, nil
}

// authority returns whom the request must be for.
func (m *middleware) authority(host string) (string, error) {
	if len(m.authorities) == 1 {
		return m.authorities[0], nil
	}
	asked, err := httpsig.Authority(host)
	if err != nil || len(m.authorities) == 0 {
		return asked, err
	}
	for _, a := range m.authorities {
		if a == asked {
			return a, nil
		}
	}
	return "", fmt.Errorf("this service does not answer for %q", asked)
}

// targetOf returns the path, which is all that the five headers sign of it, and
// path and query as they stood on the request line: what routers made of them
// since is not what was signed.
func targetOf(r *http.Request) (path, target string) {
	target = r.RequestURI
	if !strings.HasPrefix(target, "/") {
		target = r.URL.RequestURI() // the absolute form, or a request made in memory
	}
	path, _, _ = strings.Cut(target, "?")
	return path, target
}

// defaultRetryAfter is for an undecided request whose cluster gave no hint.
const defaultRetryAfter = time.Second

// undecided answers what is neither admitted nor denied. What the cluster holds
// against this service, such as a bad token, is for its operator alone.
func (m *middleware) undecided(w http.ResponseWriter, r *http.Request, verdict Admission, err error) {
	if err == nil {
		err = &Error{Code: CodeUnavailable, Detail: "the cluster answered without a verdict: " + verdict.Code, RetryAfter: time.Duration(verdict.RetryAfterMs) * time.Millisecond}
	}
	if m.cfg.Undecided != nil {
		m.cfg.Undecided(r, err)
	}
	answer := &Error{Code: CodeUnavailable, RetryAfter: defaultRetryAfter, Detail: "whether this request is admitted could not be decided: sign it again and retry"}
	if e := (*Error)(nil); errors.As(err, &e) && e.RetryAfter > 0 {
		answer.RetryAfter = e.RetryAfter
	}
	writeProblem(w, answer.Problem())
}

// verdictStatus are the HTTP statuses of denials; of the others it is 401.
var verdictStatus = map[string]int{
	VerdictAgentNotActive: http.StatusForbidden,
	VerdictBlacklisted:    http.StatusForbidden,
	VerdictRateLimited:    http.StatusTooManyRequests,
}

func verdictProblem(v Admission) Problem {
	status := http.StatusUnauthorized
	if s, ok := verdictStatus[v.Code]; ok {
		status = s
	}
	return Problem{Type: "urn:edgecoder:verdict:" + v.Code, Title: http.StatusText(status), Status: status,
		Code: v.Code, Detail: v.Detail, RetryAfterMs: v.RetryAfterMs, ClaimID: v.ClaimID}
}

func writeProblem(w http.ResponseWriter, p Problem) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfterMs > 0 {
		h.Set("Retry-After", strconv.FormatInt((p.RetryAfterMs+999)/1000, 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Signature realm="edgecoder"`) // RFC 9110 section 11.6.1 wants one
	}
	w.WriteHeader(p.Status)
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // plain texts and numbers always encode
	}
	_, _ = w.Write(append(text, '\n')) // a client that is gone needs no answer
}
