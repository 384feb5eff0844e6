package client

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
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
}

// Signer is an http.RoundTripper that signs each request with an HTTP message
// signature (RFC 9421, profile of package httpsig) and sends it. Every try is a
// new signature with a nonce of its own. It is safe for concurrent use.
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
// cannot be signed is not sent. A redirect that http.Client follows is signed
// for where it leads; whoever does not want that sets its CheckRedirect.
func (s *Signer) RoundTrip(req *http.Request) (*http.Response, error) {
	body, hash, err := s.hashed(req)
	if err != nil {
		return nil, fmt.Errorf("sign %s %s: %w", req.Method, req.URL.Redacted(), errors.Join(err, closeBody(req)))
	}
	out := req.Clone(req.Context())
	out.Body = body
	signed, err := s.signRequest(out, hash)
	if err != nil {
		return nil, fmt.Errorf("sign %s %s: %w", req.Method, req.URL.Redacted(), errors.Join(err, closeBody(out)))
	}
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header.Set(httpsig.HeaderContentDigest, signed.ContentDigest)
	// Lines of a list: signatures of others stay beside ours.
	out.Header.Add(httpsig.HeaderSignatureInput, signed.SignatureInput)
	out.Header.Add(httpsig.HeaderSignature, signed.Signature)
	return s.cfg.Transport.RoundTrip(out)
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
		_, err = io.Copy(sum, again)
		return req.Body, crypto.Hash(sum.Sum(nil)), errors.Join(err, again.Close())
	}
	data, err := readBody(req.Body, s.cfg.MaxBodyBytes)
	if err != nil {
		return nil, hash, err
	}
	return io.NopCloser(bytes.NewReader(data)), crypto.Sum(data), req.Body.Close()
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
