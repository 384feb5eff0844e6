package crypto

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/oasisprotocol/curve25519-voi/curve"
)

// Sizes of Ed25519 keys and signatures in bytes (RFC 8032 section 5.1).
const (
	PublicKeySize = ed25519.PublicKeySize
	SignatureSize = ed25519.SignatureSize
)

// ErrWeakKey is in the chain of every refusal of a public key whose point is not an acceptable one.
var ErrWeakKey = errors.New("unacceptable public key")

// PublicKey is a raw Ed25519 public key (RFC 8032 section 5.1.5). As text it is canonical base64.
type PublicKey [PublicKeySize]byte

// PrivateKey is the private key of the standard library: 32 bytes of seed, then the public key.
type PrivateKey = ed25519.PrivateKey

// GenerateKey makes a key from 32 bytes of rand.
func GenerateKey(rand io.Reader) (PrivateKey, error) {
	if rand == nil {
		return nil, errors.New("crypto: generate key: no source of randomness given")
	}
	var seed [ed25519.SeedSize]byte
	defer clear(seed[:])
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("crypto: generate key: read randomness: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

// PublicOf returns the public half of priv. Like everything that signs, it panics on a private key of the
// wrong length: private keys come from [GenerateKey] or [ParsePrivateKeyPEM], never from a peer.
func PublicOf(priv PrivateKey) PublicKey {
	if len(priv) != ed25519.PrivateKeySize {
		panic(fmt.Sprintf("crypto: private key of %d bytes, want %d", len(priv), ed25519.PrivateKeySize))
	}
	return PublicKey(priv[ed25519.SeedSize:])
}

// ParsePublicKey reads the canonical base64 of a raw key and checks its point, see [CheckPublicKey].
func ParsePublicKey(s string) (PublicKey, error) {
	var pub PublicKey
	if err := decodeBase64(pub[:], s); err != nil {
		return PublicKey{}, fmt.Errorf("public key %s: %w", quote(s), err)
	}
	if err := CheckPublicKey(pub); err != nil {
		return PublicKey{}, err
	}
	return pub, nil
}

// CheckPublicKey refuses keys that honest signers never have: encodings that are not the canonical one of
// their point, which would give one key two identities, and points of small order, under which one signature
// verifies for any message. See "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020), section 2.
func CheckPublicKey(pub PublicKey) error {
	compressed := curve.CompressedEdwardsY(pub)
	if !compressed.IsCanonicalVartime() {
		return fmt.Errorf("%w %s: point not canonically encoded", ErrWeakKey, pub)
	}
	var point curve.EdwardsPoint
	if _, err := point.SetCompressedY(&compressed); err != nil {
		return fmt.Errorf("%w %s: not a point of the curve", ErrWeakKey, pub)
	}
	if point.IsSmallOrder() {
		return fmt.Errorf("%w %s: point of small order", ErrWeakKey, pub)
	}
	return nil
}

// String returns the canonical base64 of the raw key.
func (p PublicKey) String() string { return base64.StdEncoding.EncodeToString(p[:]) }

// IsZero reports whether p is the zero value, which is no key at all (its point has small order).
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// MarshalText returns the canonical base64 of the raw key.
func (p PublicKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, p[:]), nil
}

// UnmarshalText reads what [ParsePublicKey] reads, and leaves p alone on error.
func (p *PublicKey) UnmarshalText(text []byte) error {
	parsed, err := ParsePublicKey(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// Fingerprint returns the SHA-256 digest of the raw key.
func (p PublicKey) Fingerprint() Hash { return Sum(p[:]) }

// KeyID returns the first 16 hex digits of the fingerprint. It is a label for people and logs; where a
// collision would matter, compare keys.
func (p PublicKey) KeyID() string { return KeyIDOf(p.Fingerprint()) }

// KeyIDOf returns the key id of the key with a fingerprint.
func KeyIDOf(fingerprint Hash) string { return fingerprint.String()[:16] }

// CoordinatorID returns the peer id of the coordinator that signs with this key: "coord-" and the first 12
// hex digits of the fingerprint (DESIGN 7). A new key is a new id, so old chain entries stay verifiable.
func (p PublicKey) CoordinatorID() string { return "coord-" + p.Fingerprint().String()[:12] }
