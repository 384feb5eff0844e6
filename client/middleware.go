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
	// Authorities are the hosts, with ports unless 80 or 443, that this service
	// answers for: what clients see, whatever a proxy makes of it. HTTP message
	// signatures must be for one of them, and the handler sees that one as the
	// request's Host. With several, the Host that arrived says which.
	Authorities []string
	// AnyHost, in place of Authorities, takes signatures for whatever Host the
	// request names. Whoever can choose that can bring here what was signed for
	// another service: only for where a Host that is not ours never arrives.
	AnyHost bool
	// MaxBodyBytes bounds the body, which is read before the cluster is asked;
	// 0: DefaultBodyBytes.
	MaxBodyBytes int64
	// BodyTime is how long the body may take to arrive, unless the http.Server has a
	// ReadTimeout; 0: DefaultBodyTime, negative: for ever.
	BodyTime time.Duration
	// Undecided is told of requests that got 503 because the cluster could not
	// decide, or refused to decide for this service; nil: nobody is.
	Undecided func(*http.Request, error)
}

// DefaultBodyTime lets DefaultBodyBytes arrive over a slow line, and no more.
const DefaultBodyTime = 30 * time.Second

// Middleware passes on to next the requests that the cluster admits, in either
// signature profile, and answers all others itself: 401, 403 or 429 with the
// verdict as a problem document, 503 with Retry-After when there is none. It
// fails closed. The signed body hash is compared with the body that arrived,
// which is not read before the headers are in order. [AgentID] tells next who
// asks.
func (c *Client) Middleware(next http.Handler, cfg MiddlewareConfig) (http.Handler, error) {
	if (len(cfg.Authorities) == 0) != cfg.AnyHost {
		return nil, errors.New("middleware: set Authorities to the hosts that this service answers for, or else AnyHost: a signature for another service must not pass here")
	}
	m := &middleware{next: next, cfg: cfg, admit: c.Admit}
	m.cfg.MaxBodyBytes = cmp.Or(cfg.MaxBodyBytes, DefaultBodyBytes)
	m.cfg.BodyTime = cmp.Or(cfg.BodyTime, DefaultBodyTime)
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
	q, denied := m.question(r)
	if denied != nil {
		leaveBody(w, r)
		writeProblem(w, verdictProblem(*denied))
		return
	}
	body, refused := m.body(w, r)
	if refused != nil {
		leaveBody(w, r)
		writeProblem(w, refused.Problem())
		return
	}
	if !q.signed.MatchesBody(body) {
		writeProblem(w, verdictProblem(*denial(VerdictInvalidSignature, "the body is not the one that was signed")))
		return
	}
	verdict, err := m.admit(r.Context(), q.ask)
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
	if !m.cfg.AnyHost {
		forHost(passed, q.host)
	}
	m.next.ServeHTTP(w, passed)
}

// forHost: who routes by host must see the one that was verified.
func forHost(r *http.Request, host string) {
	r.Host = host
	if r.URL.Host != "" { // of a request line in the absolute form
		u := *r.URL
		u.Host = host
		r.URL = &u
	}
}

// body reads the body of a request whose headers are in order. Those anybody can
// make up, so its size and time are bounded.
func (m *middleware) body(w http.ResponseWriter, r *http.Request) ([]byte, *Error) {
	tooLarge := &Error{Code: CodeTooLarge, Field: "body", Detail: fmt.Sprintf("the body is larger than %d bytes", m.cfg.MaxBodyBytes)}
	switch {
	case r.Body == nil || r.Body == http.NoBody: // nil: a request made in memory
		return nil, nil
	case r.ContentLength > m.cfg.MaxBodyBytes:
		return nil, tooLarge
	}
	endTime := m.bodyDeadline(w, r)
	body, err := readBody(r.Body, m.cfg.MaxBodyBytes)
	switch {
	case errors.Is(err, errBodyTooLarge):
		return nil, tooLarge
	case err != nil:
		return nil, &Error{Code: CodeInvalid, Field: "body", Detail: fmt.Sprintf("the body ended early, or took more than %s", m.cfg.BodyTime)}
	}
	endTime()
	return body, nil
}

// bodyDeadline sets how long the body may take, and returns what takes that back:
// net/http goes on reading, to see that the client is gone, and would take the
// deadline for that.
func (m *middleware) bodyDeadline(w http.ResponseWriter, r *http.Request) (end func()) {
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if m.cfg.BodyTime < 0 || server != nil && server.ReadTimeout > 0 { // which is not for us to lengthen
		return func() {}
	}
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(m.cfg.BodyTime)) != nil { // a writer that cannot: the server's own must do
		return func() {}
	}
	return func() { _ = control.SetReadDeadline(time.Time{}) } // an error is of a connection that is gone, and shows later
}

// leaveBody says that the connection ends with the answer if a body is left
// unread: the server would read on to keep it. HTTP/2 can leave one stream alone.
func leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && r.ProtoMajor < 2 {
		w.Header().Set("Connection", "close")
	}
}

// question is what the cluster is to be asked.
type question struct {
	signed crypto.SignedRequest
	ask    AdmissionRequest
	host   string // that the request counts as being for
}

func denial(code, format string, args ...any) *Admission {
	return &Admission{Verdict: VerdictDenied, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// question makes the question to the cluster, or the denial of what needs none:
// headers that nobody could verify must not cost anything, no body to be read
// and no question.
func (m *middleware) question(r *http.Request) (q question, denied *Admission) {
	if name := twice(r.Header); name != "" {
		return q, denial(VerdictMalformed, "malformed %s: given twice", name)
	}
	host, err := m.authority(r.Host)
	get := headerOf(r.Header, host)
	path, target := targetOf(r)
	message := get(httpsig.HeaderSignatureInput) != ""
	if !message {
		target = path
	}
	if err != nil && (message || !m.cfg.AnyHost) { // the five headers do not sign the host that anybody may name
		return q, denial(VerdictInvalidSignature, "%v", err)
	}
	q.host = host
	q.signed, err = httpsig.Read(r.Method, target, get)
	switch {
	case errors.Is(err, crypto.ErrMissingHeaders):
		return q, denial(VerdictMissingHeaders, "%v", err)
	case err != nil:
		return q, denial(VerdictMalformed, "%v", err)
	}
	q.ask = AdmissionRequest{Method: r.Method, Path: path, BodySHA256: q.signed.BodySHA256.String(), Headers: map[string]string{}, ClaimID: NewClaimID()}
	names := fiveHeaders
	if q.signed.Message != nil {
		names, q.ask.Path = messageHeaders, target
		q.ask.Headers[httpsig.HeaderHost] = host
	}
	for _, name := range names {
		q.ask.Headers[name] = get(name)
	}
	return q, nil
}

// authority returns whom the request must be for.
func (m *middleware) authority(host string) (string, error) {
	if len(m.authorities) == 1 {
		return m.authorities[0], nil
	}
	asked, err := httpsig.Authority(host)
	if err != nil || m.cfg.AnyHost {
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
	if target == "" { // a request made in memory
		target = r.URL.RequestURI()
	}
	if _, rest, absolute := strings.Cut(target, "://"); absolute && target[0] != '/' {
		target = "/"
		if at := strings.IndexAny(rest, "/?"); at >= 0 {
			target += strings.TrimPrefix(rest[at:], "/")
		}
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
