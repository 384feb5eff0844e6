package envelope

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// encSize is the size of an encapsulated X25519 key in bytes (RFC 9180 section 7.1).
const encSize = crypto.EncryptionKeySize

var errNoX25519 = errors.New("not an X25519 key")

// newSender makes the sending side of an HPKE context of the one suite we use.
func newSender(to *ecdh.PublicKey, info []byte) (enc []byte, s *hpke.Sender, err error) {
	if to.Curve() != ecdh.X25519() {
		return nil, nil, errNoX25519
	}
	pub, err := hpke.NewDHKEMPublicKey(to)
	if err != nil {
		return nil, nil, fmt.Errorf("HPKE: %w", err)
	}
	enc, s, err = hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, nil, fmt.Errorf("HPKE: %w", err)
	}
	return enc, s, nil
}

// newRecipient makes the receiving side. It refuses an encapsulated key that no honest sender makes.
func newRecipient(key *ecdh.PrivateKey, enc, info []byte) (*hpke.Recipient, error) {
	if key.Curve() != ecdh.X25519() {
		return nil, errNoX25519
	}
	if _, err := crypto.NewEncryptionPublicKey(enc); err != nil {
		return nil, fmt.Errorf("%w: enc: %w", ErrMalformed, err)
	}
	priv, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("HPKE: %w", err)
	}
	r, err := hpke.NewRecipient(enc, priv, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, fmt.Errorf("HPKE: %w", err)
	}
	return r, nil
}
