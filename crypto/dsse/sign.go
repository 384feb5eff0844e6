package dsse

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// Sign adds a signature by key, under the key id of its public half. One key
// signs an envelope once: a second signature of it would count for nothing.
func (e *Envelope) Sign(key crypto.PrivateKey) error {
	switch {
	case e.PayloadType == "" || len(e.Payload) == 0 || len(e.Payload) > MaxPayloadBytes:
		return fmt.Errorf("dsse: sign: want a payload type and a payload of 1 to %d bytes", MaxPayloadBytes)
	case len(e.Signatures) >= MaxSignatures:
		return fmt.Errorf("dsse: sign: it has %d signatures already", len(e.Signatures))
	}
	pub := crypto.PublicOf(key)
	if len(e.Signers([]crypto.PublicKey{pub})) > 0 {
		return errors.New("dsse: sign: this key has signed it already")
	}
	e.Signatures = append(e.Signatures, Signature{KeyID: pub.KeyID(), Sig: ed25519.Sign(key, e.PAE())})
	return nil
}

// Signers returns those of the trusted keys that signed the envelope, each once
// however often it did, in the order of trusted. A key id is only a hint: it says
// which key to try, and when it names none of the trusted ones all are tried.
// Signatures of other kinds, or by others, count for nothing. Keys must have
// passed crypto.CheckPublicKey; the rule is that of crypto.Verify.
func (e Envelope) Signers(trusted []crypto.PublicKey) []crypto.PublicKey {
	text := e.PAE()
	signed, byID := map[crypto.PublicKey]bool{}, map[string][]crypto.PublicKey{}
	for _, key := range trusted {
		byID[key.KeyID()] = append(byID[key.KeyID()], key)
	}
	for _, s := range e.Signatures {
		candidates, named := byID[s.KeyID]
		if !named {
			candidates = trusted
		}
		for _, key := range candidates {
			if !signed[key] && crypto.Verify(key, text, s.Sig) {
				signed[key] = true
				break
			}
		}
	}
	var out []crypto.PublicKey
	for _, key := range trusted {
		if signed[key] && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}
