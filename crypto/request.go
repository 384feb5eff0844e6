package crypto

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The five headers of a signed request, in the order of WIRE 2.
const (
	HeaderAgentID    = "x-agent-id"
	HeaderTimestamp  = "x-timestamp-ms"
	HeaderNonce      = "x-nonce"
	HeaderBodySHA256 = "x-body-sha256"
	HeaderSignature  = "x-signature"
)

// Bounds on the signed fields. They keep the nonce table and the log bounded; genuine clients use a UUID as the
// nonce and short literal paths.
const (
	MaxNonceBytes  = 128
	MaxPathBytes   = 2048
	maxMethodBytes = 16
	maxTimeDigits  = 16 // covers every integer a JavaScript clock can print exactly
)

var (
	// ErrMissingHeaders says that at least one of the five headers is absent or empty.
	ErrMissingHeaders = errors.New("missing headers")
	// ErrMalformed says that a header, the method or the path breaks its rule.
	ErrMalformed = errors.New("malformed")
)

// SignedRequest is what an agent signs for each call, in either [Profile]. Under the five headers (WIRE 2) the
// agent id is not among the signed fields: it only says whose key to look up, so whoever admits a request must
// bind the nonce to the key, not to the id.
type SignedRequest struct {
	AgentID     string
	TimestampMs int64
	Nonce       string
	Method      string
	Path        string // with "?" and the query if an HTTP message signature covers one
	BodySHA256  Hash
	Signature   [SignatureSize]byte
	Message     *MessageSignature // of [ProfileRFC9421]; nil: the five headers
}

// ParseSignedRequest reads the five headers, strictly: each has one spelling only, and anything a lenient reader
// would mend or ignore is refused. header returns the value of a lower-case name, or "". The error is
// [ErrMissingHeaders] or [ErrMalformed] with the field and the rule. Neither skew nor signature is checked here.
func ParseSignedRequest(method, path string, header func(name string) string) (SignedRequest, error) {
	agentID, timestamp := header(HeaderAgentID), header(HeaderTimestamp)
	nonce, bodyHash, signature := header(HeaderNonce), header(HeaderBodySHA256), header(HeaderSignature)
	if err := missingHeaders(agentID, timestamp, nonce, bodyHash, signature); err != nil {
		return SignedRequest{}, err
	}
	r := SignedRequest{AgentID: agentID, Nonce: nonce, Method: method, Path: path}
	var err error
	if r.TimestampMs, err = parseTimestamp(timestamp); err != nil {
		return SignedRequest{}, malformed(HeaderTimestamp, err)
	}
	if r.BodySHA256, err = ParseHash(bodyHash); err != nil {
		return SignedRequest{}, malformed(HeaderBodySHA256, errors.New("not 64 lower-case hex digits"))
	}
	if err := decodeBase64(r.Signature[:], signature); err != nil {
		return SignedRequest{}, malformed(HeaderSignature, fmt.Errorf("not 64 bytes: %w", err))
	}
	if err := r.checkFields(); err != nil {
		return SignedRequest{}, err
	}
	return r, nil
}

// SignRequest signs one request. The nonce must be fresh: a UUID from [NewUUID] is what other clients send. The
// path is the bare route without host or query.
func SignRequest(priv PrivateKey, agentID, method, path string, body []byte, timestampMs int64, nonce string) (SignedRequest, error) {
	if len(priv) != ed25519.PrivateKeySize {
		return SignedRequest{}, fmt.Errorf("sign request: private key of %d bytes, want %d", len(priv), ed25519.PrivateKeySize)
	}
	r := SignedRequest{
		AgentID: agentID, TimestampMs: timestampMs, Nonce: nonce,
		Method: method, Path: path, BodySHA256: Sum(body),
	}
	if _, err := parseTimestamp(strconv.FormatInt(timestampMs, 10)); err != nil {
		return SignedRequest{}, malformed(HeaderTimestamp, err)
	}
	if err := r.checkFields(); err != nil {
		return SignedRequest{}, err
	}
	copy(r.Signature[:], ed25519.Sign(priv, r.Canonical()))
	return r, nil
}

// Canonical returns the signed bytes: of an HTTP message signature its base, else timestamp, nonce, method, path
// and body hash, joined by single newlines, without a trailing one (WIRE 2).
func (r SignedRequest) Canonical() []byte {
	if r.Message != nil {
		return r.Message.Base
	}
	size := maxTimeDigits + len(r.Nonce) + len(r.Method) + len(r.Path) + 2*HashSize + 4
	return r.AppendCanonical(make([]byte, 0, size))
}

// AppendCanonical appends the bytes of [SignedRequest.Canonical] to dst.
func (r SignedRequest) AppendCanonical(dst []byte) []byte {
	if r.Message != nil {
		return append(dst, r.Message.Base...)
	}
	dst = strconv.AppendInt(dst, r.TimestampMs, 10)
	dst = append(dst, '\n')
	dst = append(dst, r.Nonce...)
	dst = append(dst, '\n')
	dst = append(dst, r.Method...)
	dst = append(dst, '\n')
	dst = append(dst, r.Path...)
	dst = append(dst, '\n')
	return r.BodySHA256.appendHex(dst)
}

// Headers returns the five headers as pairs of lower-case name and value, in the order of WIRE 2.
func (r SignedRequest) Headers() [][2]string {
	return [][2]string{
		{HeaderAgentID, r.AgentID},
		{HeaderTimestamp, strconv.FormatInt(r.TimestampMs, 10)},
		{HeaderNonce, r.Nonce},
		{HeaderBodySHA256, r.BodySHA256.String()},
		{HeaderSignature, base64.StdEncoding.EncodeToString(r.Signature[:])},
	}
}

// MatchesBody reports whether body is the one whose hash was signed. Whoever has the body must ask: the headers
// of a request stay valid under any other body.
func (r SignedRequest) MatchesBody(body []byte) bool { return r.BodySHA256 == Sum(body) }

func missingHeaders(agentID, timestamp, nonce, bodyHash, signature string) error {
	if agentID != "" && timestamp != "" && nonce != "" && bodyHash != "" && signature != "" {
		return nil
	}
	var missing []string
	for _, h := range [...][2]string{
		{HeaderAgentID, agentID}, {HeaderTimestamp, timestamp}, {HeaderNonce, nonce},
		{HeaderBodySHA256, bodyHash}, {HeaderSignature, signature},
	} {
		if h[1] == "" {
			missing = append(missing, h[0])
		}
	}
	return fmt.Errorf("%w: %s", ErrMissingHeaders, strings.Join(missing, ", "))
}

func malformed(field string, err error) error {
	return fmt.Errorf("%w %s: %w", ErrMalformed, field, err)
}

// checkFields holds the rules that reading and signing share.
func (r SignedRequest) checkFields() error {
	if err := CheckID(r.AgentID); err != nil {
		return malformed(HeaderAgentID, err)
	}
	if err := CheckNonce(r.Nonce); err != nil {
		return malformed(HeaderNonce, err)
	}
	if err := CheckMethod(r.Method); err != nil {
		return malformed("method", err)
	}
	if err := checkPath(r.Path); err != nil {
		return malformed("path", err)
	}
	return nil
}
