package crypto

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// EncryptionKeySize is the size of X25519 keys, public and private, in bytes (RFC 7748 section 5).
const EncryptionKeySize = 32

// DER prefixes in front of the raw X25519 key (RFC 8410; WIRE 0.1), beside those of Ed25519 in pem.go.
const (
	x25519SPKIPrefix  = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00"
	x25519PKCS8Prefix = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20"
)

// GenerateEncryptionKey makes an X25519 key from 32 bytes of rand. (GenerateKey of crypto/ecdh no longer reads what
// it is handed.)
func GenerateEncryptionKey(rand io.Reader) (*ecdh.PrivateKey, error) {
	if rand == nil {
		return nil, errors.New("crypto: generate encryption key: no source of randomness given")
	}
	var raw [EncryptionKeySize]byte
	defer clear(raw[:])
	if _, err := io.ReadFull(rand, raw[:]); err != nil {
		return nil, fmt.Errorf("crypto: generate encryption key: read randomness: %w", err)
	}
	return ecdh.X25519().NewPrivateKey(raw[:])
}

// ParseEncryptionPublicKey reads an X25519 public key: the canonical base64 of the raw key, or PEM SPKI with the
// tolerance of [ParsePublicKeyPEM]. It refuses what honest keys never are: points of small order, with which every
// shared secret is zero, and numbers that are not reduced, which would give one key two ids. Errors about the point
// have [ErrWeakKey] in their chain.
func ParseEncryptionPublicKey(text string) (*ecdh.PublicKey, error) {
	var raw [EncryptionKeySize]byte
	if !strings.HasPrefix(text, "-----BEGIN ") {
		if err := decodeBase64(raw[:], text); err != nil {
			return nil, fmt.Errorf("encryption key %s: %w", quote(text), err)
		}
		return NewEncryptionPublicKey(raw[:])
	}
	var der [len(x25519SPKIPrefix) + EncryptionKeySize]byte
	if err := decodePEM(der[:], publicLabel, []byte(text)); err != nil {
		return nil, fmt.Errorf("encryption key PEM: %w", err)
	}
	if string(der[:len(x25519SPKIPrefix)]) != x25519SPKIPrefix {
		return nil, errors.New("encryption key PEM: not an X25519 SPKI")
	}
	return NewEncryptionPublicKey(der[len(x25519SPKIPrefix):])
}

// NewEncryptionPublicKey checks the point of a raw X25519 public key, see [ParseEncryptionPublicKey].
func NewEncryptionPublicKey(raw []byte) (*ecdh.PublicKey, error) {
	pub, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: X25519 key of %d bytes, want %d", ErrWeakKey, len(raw), EncryptionKeySize)
	}
	if !isReduced([EncryptionKeySize]byte(raw)) {
		return nil, fmt.Errorf("%w %s: number not reduced", ErrWeakKey, base64.StdEncoding.EncodeToString(raw))
	}
	// Every scalar is a multiple of eight (RFC 7748 section 5), so exactly the points of small order, of the curve
	// and of its twist, give zero with any; crypto/ecdh makes an error of that.
	probe, err := ecdh.X25519().NewPrivateKey(make([]byte, EncryptionKeySize))
	if err != nil {
		return nil, err
	}
	if _, err := probe.ECDH(pub); err != nil {
		return nil, fmt.Errorf("%w %s: point of small order", ErrWeakKey, base64.StdEncoding.EncodeToString(raw))
	}
	return pub, nil
}

// isReduced reports whether a little-endian number is below 2^255-19. It is public, so time may tell.
func isReduced(raw [EncryptionKeySize]byte) bool {
	if raw[31] != 0x7f {
		return raw[31] < 0x7f
	}
	for _, b := range raw[1:31] {
		if b != 0xff {
			return true
		}
	}
	return raw[0] < 0xed
}

// EncryptionPublicKeyPEM returns the key as SPKI (RFC 8410 section 4), with a trailing newline.
func EncryptionPublicKeyPEM(pub *ecdh.PublicKey) string {
	return string(encodePEM(publicLabel, append([]byte(x25519SPKIPrefix), pub.Bytes()...)))
}

// EncryptionKeyID returns the first 16 hex digits of the SHA-256 of the raw public key, as [PublicKey.KeyID] does. It
// is a label for people and logs; where a collision would matter, compare keys.
func EncryptionKeyID(pub *ecdh.PublicKey) string { return Sum(pub.Bytes()).String()[:16] }

// MarshalEncryptionKeyPEM returns an X25519 key as PKCS#8 (RFC 8410 section 7); any other is an error. The result is
// secret: clear it after use.
func MarshalEncryptionKeyPEM(priv *ecdh.PrivateKey) ([]byte, error) {
	if priv == nil || priv.Curve() != ecdh.X25519() {
		return nil, errors.New("encryption key PEM: not an X25519 key")
	}
	raw := priv.Bytes()
	defer clear(raw)
	var der [len(x25519PKCS8Prefix) + EncryptionKeySize]byte
	defer clear(der[:])
	copy(der[copy(der[:], x25519PKCS8Prefix):], raw)
	return encodePEM(privateLabel, der[:]), nil
}

// ParseEncryptionKeyPEM reads one PKCS#8 X25519 key in its 48-byte form, with the same tolerance as
// [ParsePublicKeyPEM]. Errors never quote the text. What crypto/ecdh keeps of the key cannot be cleared.
func ParseEncryptionKeyPEM(text []byte) (*ecdh.PrivateKey, error) {
	var der [len(x25519PKCS8Prefix) + EncryptionKeySize]byte
	defer clear(der[:])
	if err := decodePEM(der[:], privateLabel, text); err != nil {
		return nil, fmt.Errorf("encryption key PEM: %w", err)
	}
	if string(der[:len(x25519PKCS8Prefix)]) != x25519PKCS8Prefix {
		return nil, errors.New("encryption key PEM: not an X25519 PKCS#8 key")
	}
	return ecdh.X25519().NewPrivateKey(der[len(x25519PKCS8Prefix):])
}
