package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/httpsig"
)

const (
	// DefaultBodyBytes bounds a body that has to be held in memory, to be hashed before it is sent or passed on.
	DefaultBodyBytes = 1 << 20
	// DefaultLifetime is how long a signature of a Signer is good.
	DefaultLifetime = time.Minute
)

// SignerConfig says who signs, and how.
type SignerConfig struct {
	AgentID string
	Key     crypto.PrivateKey

	Transport    http.RoundTripper // that sends what was signed; nil: http.DefaultTransport
	Lifetime     time.Duration     // from signing to the signature's end, whole seconds up to an hour; 0: DefaultLifetime
	MaxBodyBytes int64             // of a body without GetBody, which is read into memory; 0: DefaultBodyBytes
	Now          func() time.Time  // nil: time.Now
	Rand         io.Reader         // of nonces; nil: crypto/rand

	// SignRedirect tells whether to sign the request that a server redirects to,
	// which may have another host, path or query and the same body; from is the one
	// that was redirected. nil: no redirect is signed, else every server could have
	// signed whatever it likes.
	SignRedirect func(to, from *http.Request) bool
}

// Signer is an http.RoundTripper that signs each request with an HTTP message
// signature (RFC 9421, profile of package httpsig) and sends it. Every RoundTrip
// is a new signature with a nonce of its own. http.Transport puts one on the wire
// twice only if nothing of the first was written, or HTTP/2 takes it for not done;
// what a server may have acted on ends as an error, for the caller to try again.
// It is safe for concurrent use.
type Signer struct {
	cfg SignerConfig
}

// NewSigner returns a Signer, or what is wrong with its configuration.
func NewSigner(cfg SignerConfig) (*Signer, error) {
	if err := crypto.CheckID(cfg.AgentID); err != nil {
		return nil, fmt.Errorf("signer: agent %w", err)
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	cfg.Lifetime = cmp.Or(cfg.Lifetime, DefaultLifetime)
	cfg.MaxBodyBytes = cmp.Or(cfg.MaxBodyBytes, DefaultBodyBytes)
	if cfg.Lifetime%time.Second != 0 || cfg.Lifetime < time.Second || cfg.Lifetime > httpsig.MaxLifetime*time.Second {
		return nil, fmt.Errorf("signer: a lifetime of %s, want whole seconds up to %s", cfg.Lifetime, httpsig.MaxLifetime*time.Second)
	}
	s := &Signer{cfg: cfg}
	_, err := s.sign(httpsig.Request{Method: http.MethodGet, Authority: "localhost", Target: "/"}) // a bad key shows now, not in service
	return s, err
}

// RoundTrip signs a copy of the request and sends it: the caller's request
// stays as it is, but for its body, which is read and closed. A request that
// cannot be signed is not sent, nor is a redirect that SignRedirect does not
// allow; with a CheckRedirect that returns http.ErrUseLastResponse http.Client
// hands the answer with the redirect back instead of following it.
func (s *Signer) RoundTrip(req *http.Request) (*http.Response, error) {
	out, err := s.signed(req)
	if err != nil {
		return nil, fmt.Errorf("sign %s %s: %w", req.Method, req.URL.Redacted(), errors.Join(err, closeBody(req)))
	}
	resp, err := s.cfg.Transport.RoundTrip(out)
	if resp != nil && resp.Request == nil {
		resp.Request = out // the next RoundTrip asks who redirected
	}
	return resp, err
}

// signed returns the copy to send. The caller's body is closed with the copy's,
// or by the caller after an error.
func (s *Signer) signed(req *http.Request) (*http.Request, error) {
	if err := s.checkRedirect(req); err != nil {
		return nil, err
	}
	body, hash, err := s.hashed(req)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.Body = body
	signed, err := s.signRequest(out, hash)
	if err != nil {
		return nil, err
	}
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header.Set(httpsig.HeaderContentDigest, signed.ContentDigest)
	// Lines of a list: signatures of others stay beside ours.
	out.Header.Add(httpsig.HeaderSignatureInput, signed.SignatureInput)
	out.Header.Add(httpsig.HeaderSignature, signed.Signature)
	sendOnce(out)
	return out, nil
}

// checkRedirect: of a request that http.Client makes to follow a redirect,
// Response is the answer that asked for it; of others it is nil.
func (s *Signer) checkRedirect(req *http.Request) error {
	if req.Response == nil {
		return nil
	}
	if from := req.Response.Request; from != nil && s.cfg.SignRedirect != nil && s.cfg.SignRedirect(req, from) {
		return nil
	}
	return fmt.Errorf("a server redirected here (%s) and SignRedirect does not allow it: ask for the final URL yourself, if that is what you mean to sign", req.Response.Status)
}

// sendOnce keeps http.Transport from sending a request again by itself after a
// server may have acted on it: the nonce is used then, and the answer would be a
// replay. It does so with methods it takes for safe, and with an Idempotency-Key,
// if the body can be had again or there is none. A body that is empty but cannot
// be had again looks the same on the wire to a GET, HEAD or OPTIONS.
func sendOnce(out *http.Request) {
	switch out.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
	default:
		_, key := out.Header["Idempotency-Key"] // nil too: that says so to http.Transport alone
		_, xKey := out.Header["X-Idempotency-Key"]
		if !key && !xKey {
			return
		}
	}
	out.GetBody = nil
	if (out.Body == nil || out.Body == http.NoBody) && out.Method != http.MethodTrace { // which has neither body nor effect
		out.Body, out.ContentLength = io.NopCloser(strings.NewReader("")), 0
	}
}

func (s *Signer) signRequest(req *http.Request, hash crypto.Hash) (httpsig.Signed, error) {
	get := headerOf(req.Header, "")
	for _, name := range fiveHeaders {
		if get(name) != "" {
			return httpsig.Signed{}, fmt.Errorf("the request carries %s of the five-header signature already: no verifier takes both", name)
		}
	}
	if before := get(httpsig.HeaderSignatureInput); httpsig.HasOurs(before) {
		return httpsig.Signed{}, fmt.Errorf("the request carries a signature with the tag or label %q already: no verifier takes two", httpsig.Tag)
	}
	return s.sign(httpsig.Request{Method: cmp.Or(req.Method, http.MethodGet), Authority: cmp.Or(req.Host, req.URL.Host),
		Target: req.URL.RequestURI(), ContentDigest: get(httpsig.HeaderContentDigest), BodySHA256: hash})
}

func (s *Signer) sign(r httpsig.Request) (httpsig.Signed, error) {
	nonce, err := crypto.NewUUID(s.cfg.Rand)
	if err != nil {
		return httpsig.Signed{}, err
	}
	created := s.cfg.Now().Unix()
	return httpsig.Sign(s.cfg.Key, httpsig.Params{AgentID: s.cfg.AgentID, Created: created,
		Expires: created + int64(s.cfg.Lifetime/time.Second), Nonce: nonce}, r)
}

// hashed returns the body to send and its hash. A body that can be had twice is
// hashed as it streams by, whatever its size; any other is read into memory.
func (s *Signer) hashed(req *http.Request) (body io.ReadCloser, hash crypto.Hash, err error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return req.Body, crypto.Sum(nil), nil
	case req.GetBody != nil:
		again, err := req.GetBody()
		if err != nil {
			return nil, hash, err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, &untilDone{req.Context(), again})
		return req.Body, crypto.Hash(sum.Sum(nil)), errors.Join(err, again.Close())
	}
	data, err := readBody(&untilDone{req.Context(), req.Body}, s.cfg.MaxBodyBytes)
	if err != nil {
		return nil, hash, err
	}
	return io.NopCloser(bytes.NewReader(data)), crypto.Sum(data), req.Body.Close()
}

// untilDone ends with its context: to hash a large body takes time.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (r *untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// errBodyTooLarge refuses a body that would have to be held in memory.
var errBodyTooLarge = errors.New("the body is too large")

// readBody reads a body of at most limit bytes; one that is larger is not read
// to its end.
func readBody(body io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: at most %d bytes can be read into memory (give the request a GetBody, or set MaxBodyBytes)", errBodyTooLarge, limit)
	}
	return data, nil
}

func closeBody(req *http.Request) error {
	if req.Body == nil {
		return nil
	}
	return req.Body.Close()
}
