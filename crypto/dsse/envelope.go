// Package dsse reads, writes, signs and verifies DSSE envelopes: Dead Simple
// Signing Envelope, protocol.md 1.0.0 and envelope.md of
// github.com/secure-systems-lab/dsse. It knows Ed25519 and nothing of what a
// payload means. It is pure: bytes in, bytes or an error out.
//
// The encoding that is signed and the JSON form are the reference library's.
// Its verifier is not used: it takes its contexts and writes to standard output,
// it counts signatures by key id, which protocol.md forbids to decide anything,
// and it reads base64 that has many spellings. Tests hold ours against it.
package dsse

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// MaxEnvelopeBytes bounds the JSON of an envelope: MaxSignatures of them and
	// the largest payload take less than half.
	MaxEnvelopeBytes = 32 << 10
	// MaxPayloadBytes bounds what is signed.
	MaxPayloadBytes = 8 << 10
	// MaxSignatures bounds the signatures of an envelope: each may have to be tried
	// with each trusted key, 50 µs a try.
	MaxSignatures = 64
	// maxKeyIDBytes bounds the hint at a key; ours have 16, others' 64.
	maxKeyIDBytes = 256
)

// ErrEnvelope is in the chain of every refusal to read an envelope.
var ErrEnvelope = errors.New("no DSSE envelope")

// Envelope is a payload and the signatures on it.
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []Signature
}

// Signature is one signature. KeyID is an unauthenticated hint.
type Signature struct {
	KeyID string
	Sig   []byte
}

// Parse reads the JSON of an envelope. Members that it does not know are passed
// over, since other signers add some; a member given twice is refused, since two
// readers could see two payloads. Names are compared exactly. Base64 may be
// standard or URL-safe (protocol.md), padded and in its one canonical spelling.
func Parse(text []byte) (Envelope, error) {
	e, err := parse(text)
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	return e, nil
}

func parse(text []byte) (e Envelope, err error) {
	if len(text) > MaxEnvelopeBytes {
		return e, fmt.Errorf("%d bytes, at most %d", len(text), MaxEnvelopeBytes)
	}
	err = crypto.EachJSONMember(text, func(name string, value json.RawMessage) error {
		switch name {
		case "payloadType":
			return textMember(name, value, &e.PayloadType)
		case "payload":
			return base64Member(name, value, &e.Payload)
		case "signatures":
			return e.parseSignatures(value)
		}
		return nil
	})
	switch {
	case err != nil:
		return e, err
	case e.PayloadType == "":
		return e, errors.New("payloadType is missing")
	case len(e.Payload) == 0:
		return e, errors.New("payload is missing")
	case len(e.Payload) > MaxPayloadBytes:
		return e, fmt.Errorf("a payload of %d bytes, at most %d", len(e.Payload), MaxPayloadBytes)
	case len(e.Signatures) == 0:
		return e, errors.New("it has no signature")
	}
	return e, nil
}

func (e *Envelope) parseSignatures(list json.RawMessage) error {
	var values []json.RawMessage
	if err := json.Unmarshal(list, &values); err != nil || values == nil {
		return errors.New("signatures is no array")
	}
	if len(values) > MaxSignatures {
		return fmt.Errorf("%d signatures, at most %d", len(values), MaxSignatures)
	}
	for i, v := range values {
		var s Signature
		err := crypto.EachJSONMember(v, func(name string, value json.RawMessage) error {
			switch name {
			case "keyid":
				return textMember(name, value, &s.KeyID)
			case "sig":
				return base64Member(name, value, &s.Sig)
			}
			return nil
		})
		if err == nil && (len(s.Sig) == 0 || len(s.KeyID) > maxKeyIDBytes) {
			err = fmt.Errorf("a signature of %d bytes under a key id of %d", len(s.Sig), len(s.KeyID))
		}
		if err != nil {
			return fmt.Errorf("signatures[%d]: %w", i, err)
		}
		e.Signatures = append(e.Signatures, s)
	}
	return nil
}

func textMember(name string, value json.RawMessage, into *string) (err error) {
	if *into, err = crypto.JSONText(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func base64Member(name string, value json.RawMessage, into *[]byte) error {
	var text string
	if err := textMember(name, value, &text); err != nil {
		return err
	}
	encoding := base64.StdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	raw, err := encoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // the decoder skips line breaks
		return fmt.Errorf("%s is no canonical base64", name)
	}
	*into = raw
	return nil
}

// Encode returns the JSON of the envelope, members in the order of envelope.md,
// standard base64, without white space.
func (e Envelope) Encode() []byte {
	out := dsse.Envelope{PayloadType: e.PayloadType, Payload: base64.StdEncoding.EncodeToString(e.Payload)}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, dsse.Signature{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(fmt.Sprintf("dsse: encode: %v", err)) // strings always encode
	}
	return text
}

// PAE returns the bytes that are signed (protocol.md "Signature Definition").
func (e Envelope) PAE() []byte { return dsse.PAE(e.PayloadType, e.Payload) }
