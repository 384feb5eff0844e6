// Package manifest says what an artifact is: name, version, digest, size, where
// it comes from and until when that holds, in a statement of one spelling that
// signers sign in a DSSE envelope (package dsse). It orders versions, judges
// sources, and verifies the two older formats of WIRE 20.1 and 21. It is pure.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// PayloadType names encoding and schema of a statement in its envelope. It is
// part of what is signed.
const PayloadType = "application/vnd.edgecoder.manifest.v1+json"

const (
	// MaxStatementBytes bounds the JSON of a statement: its texts at their longest,
	// escaped, and its numbers.
	MaxStatementBytes = 4 << 10
	// maxInteger is 2^53-1, which every JSON reader holds exactly.
	maxInteger = 1<<53 - 1
	// MaxLifeMs bounds how long a statement holds: ten years.
	MaxLifeMs = 10 * 365 * 24 * 3_600_000
)

// ErrStatement is in the chain of every refusal to read a statement.
var ErrStatement = errors.New("no manifest statement")

// Statement is what signers vouch for.
type Statement struct {
	Name      string      `json:"name" cbor:"1,keyasint"`       // what it is called: an id
	Version   string      `json:"version" cbor:"2,keyasint"`    // see ParseVersion
	SHA256    crypto.Hash `json:"sha256" cbor:"3,keyasint"`     // of the artifact
	Size      int64       `json:"size" cbor:"4,keyasint"`       // of the artifact, bytes
	Source    string      `json:"source" cbor:"5,keyasint"`     // https URL, see CheckSource
	IssuedMs  int64       `json:"issued_ms" cbor:"6,keyasint"`  // when it was made, Unix milliseconds
	ExpiresMs int64       `json:"expires_ms" cbor:"7,keyasint"` // last millisecond at which it holds
}

// Encode returns the one spelling of the statement: compact JSON, members in
// the order above, strings as JSON.stringify writes them (WIRE 0.2).
func (s Statement) Encode() []byte {
	text := func(dst []byte, name, value string) []byte {
		return crypto.AppendJSONString(append(dst, name...), value)
	}
	number := func(dst []byte, name string, value int64) []byte {
		return strconv.AppendInt(append(dst, name...), value, 10)
	}
	out := text(nil, `{"name":`, s.Name)
	out = text(out, `,"version":`, s.Version)
	out = text(out, `,"sha256":`, s.SHA256.String())
	out = number(out, `,"size":`, s.Size)
	out = text(out, `,"source":`, s.Source)
	out = number(out, `,"issued_ms":`, s.IssuedMs)
	out = number(out, `,"expires_ms":`, s.ExpiresMs)
	return append(out, '}')
}

// ParseStatement reads the payload of an envelope. Only the spelling of Encode
// is taken: members in another order, unknown, missing or given twice, another
// escape or white space are refused, so that nobody reads something else in it.
func ParseStatement(payloadType string, payload []byte) (Statement, error) {
	s, err := parseStatement(payloadType, payload)
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	return s, nil
}

func parseStatement(payloadType string, payload []byte) (s Statement, err error) {
	if payloadType != PayloadType {
		return s, fmt.Errorf("the payload type is %.80q, want %q", payloadType, PayloadType)
	}
	if len(payload) > MaxStatementBytes {
		return s, fmt.Errorf("%d bytes, at most %d", len(payload), MaxStatementBytes)
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return s, err
	}
	if !bytes.Equal(s.Encode(), payload) {
		return s, errors.New("not in its canonical form: members in order, each once, no white space")
	}
	if field, fault := s.Fault(); fault != "" {
		return s, fmt.Errorf("%s: %s", field, fault)
	}
	return s, nil
}

// Fault returns the first member that no statement may have and why, or "".
// Whether the statement holds at a time is for whoever knows the time.
func (s Statement) Fault() (field, fault string) {
	if err := crypto.CheckID(s.Name); err != nil {
		return "name", err.Error()
	}
	if _, err := ParseVersion(s.Version); err != nil {
		return "version", err.Error()
	}
	if err := CheckSource(s.Source); err != nil {
		return "source", err.Error()
	}
	switch {
	case s.SHA256.IsZero():
		return "sha256", "it is zero, which is no digest"
	case s.Size < 1 || s.Size > maxInteger:
		return "size", fmt.Sprintf("%d bytes, want 1 to %d", s.Size, int64(maxInteger))
	case s.IssuedMs < 1 || s.IssuedMs > maxInteger:
		return "issued_ms", fmt.Sprintf("%d is no time in Unix milliseconds", s.IssuedMs)
	case s.ExpiresMs <= s.IssuedMs || s.ExpiresMs > maxInteger || s.ExpiresMs-s.IssuedMs > MaxLifeMs:
		return "expires_ms", fmt.Sprintf("%d is not after issued_ms %d, or more than ten years", s.ExpiresMs, s.IssuedMs)
	}
	return "", ""
}

// Expired tells whether the statement holds no more.
func (s Statement) Expired(nowMs int64) bool { return nowMs > s.ExpiresMs }
