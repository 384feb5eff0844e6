package crypto

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
)

// DER prefixes in front of the raw key (RFC 8410; WIRE 0.1). An Ed25519 key has exactly one DER form in each
// container, so reading is a comparison and leaves an ASN.1 parser nothing to be lenient about.
const (
	spkiPrefix  = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"
	pkcs8Prefix = "\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"

	publicLabel  = "PUBLIC KEY"
	privateLabel = "PRIVATE KEY"
)

// PEM returns the key as SPKI (RFC 8410 section 4), with a trailing newline as Node prints it.
func (p PublicKey) PEM() string {
	der := append([]byte(spkiPrefix), p[:]...)
	return string(encodePEM(publicLabel, der))
}

// ParsePublicKeyPEM reads one SPKI Ed25519 key and checks its point, see [CheckPublicKey]. The final newline
// may be missing and lines may end in CR LF; anything else around or inside the block is refused. Compare keys
// by value, never their PEM text.
func ParsePublicKeyPEM(text string) (PublicKey, error) {
	var der [len(spkiPrefix) + PublicKeySize]byte
	if err := decodePEM(der[:], publicLabel, []byte(text)); err != nil {
		return PublicKey{}, fmt.Errorf("public key PEM: %w", err)
	}
	if string(der[:len(spkiPrefix)]) != spkiPrefix {
		return PublicKey{}, errors.New("public key PEM: not an Ed25519 SPKI")
	}
	pub := PublicKey(der[len(spkiPrefix):])
	if err := CheckPublicKey(pub); err != nil {
		return PublicKey{}, err
	}
	return pub, nil
}

// MarshalPrivateKeyPEM returns the key as PKCS#8 (RFC 8410 section 7). The result is secret: clear it after use.
func MarshalPrivateKeyPEM(priv PrivateKey) []byte {
	if len(priv) != ed25519.PrivateKeySize {
		panic(fmt.Sprintf("crypto: private key of %d bytes, want %d", len(priv), ed25519.PrivateKeySize))
	}
	var der [len(pkcs8Prefix) + ed25519.SeedSize]byte
	defer clear(der[:])
	copy(der[copy(der[:], pkcs8Prefix):], priv[:ed25519.SeedSize])
	return encodePEM(privateLabel, der[:])
}

// ParsePrivateKeyPEM reads one PKCS#8 Ed25519 key in its 48-byte form, with the same tolerance as
// [ParsePublicKeyPEM]. Errors never quote the text.
func ParsePrivateKeyPEM(text []byte) (PrivateKey, error) {
	var der [len(pkcs8Prefix) + ed25519.SeedSize]byte
	defer clear(der[:])
	if err := decodePEM(der[:], privateLabel, text); err != nil {
		return nil, fmt.Errorf("private key PEM: %w", err)
	}
	if string(der[:len(pkcs8Prefix)]) != pkcs8Prefix {
		return nil, errors.New("private key PEM: not an Ed25519 PKCS#8 key")
	}
	return ed25519.NewKeyFromSeed(der[len(pkcs8Prefix):]), nil
}

// encodePEM writes a block of one line; both of our keys fit into the 64 characters of a PEM line (RFC 7468).
func encodePEM(label string, der []byte) []byte {
	var out bytes.Buffer
	out.Grow(160)
	out.WriteString("-----BEGIN " + label + "-----\n")
	out.Write(base64.StdEncoding.AppendEncode(out.AvailableBuffer(), der))
	out.WriteString("\n-----END " + label + "-----\n")
	return out.Bytes()
}

// decodePEM fills der from the one block that text must be. The text may be secret: no copy of it stays behind.
func decodePEM(der []byte, label string, text []byte) error {
	if len(text) > 1024 {
		return fmt.Errorf("%d bytes are too many for a key", len(text))
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) // a copy in any case
	defer clear(text)
	body, ok := bytes.CutPrefix(bytes.TrimRight(text, "\n"), []byte("-----BEGIN "+label+"-----\n"))
	if !ok {
		return fmt.Errorf("does not begin with a %s block", label)
	}
	body, ok = bytes.CutSuffix(body, []byte("\n-----END "+label+"-----"))
	if !ok {
		return fmt.Errorf("does not end after one %s block", label)
	}
	if err := decodeBase64(der, body); err != nil {
		return fmt.Errorf("the block does not hold one key: %w", err)
	}
	return nil
}
