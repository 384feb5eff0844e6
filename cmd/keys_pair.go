package cmd

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"io"

	"github.com/edgecoder/edgecoder/crypto"
)

// Key types, as the command line calls them.
const (
	typeEd25519 = "ed25519"
	typeX25519  = "x25519"
)

// Purposes bind a key file to its use, so that none stands in for another, nor
// a server's for either.
const (
	agentKeyPurpose      = "agent-key"      // Ed25519
	encryptionKeyPurpose = "encryption-key" // X25519
)

// purposes of sealed files by the type of their key.
var purposes = map[string]string{typeEd25519: agentKeyPurpose, typeX25519: encryptionKeyPurpose}

// publicKey is what may be shown of a key.
type publicKey struct {
	KeyType     string `json:"key_type"`
	KeyID       string `json:"key_id"`
	Fingerprint string `json:"fingerprint"`
	PublicKey   string `json:"public_key"`     // PEM SPKI
	Raw         string `json:"public_key_raw"` // base64
}

// keyPair is a private key in PEM (PKCS#8), to be cleared after use, and its
// public half.
type keyPair struct {
	pem []byte
	publicKey
}

func newKeyPair(rand io.Reader, keyType string) (keyPair, error) {
	switch keyType {
	case typeEd25519:
		key, err := crypto.GenerateKey(rand)
		if err != nil {
			return keyPair{}, err
		}
		defer clear(key)
		return pairOfEd25519(key), nil
	case typeX25519:
		key, err := crypto.GenerateEncryptionKey(rand)
		if err != nil {
			return keyPair{}, err
		}
		return pairOfX25519(key)
	}
	return keyPair{}, usagef("--type %q: want %s or %s", keyType, typeEd25519, typeX25519)
}

// parseKeyPair reads a private key of either type.
func parseKeyPair(text []byte) (keyPair, error) {
	if key, err := crypto.ParsePrivateKeyPEM(text); err == nil {
		defer clear(key)
		return pairOfEd25519(key), nil
	}
	key, err := crypto.ParseEncryptionKeyPEM(text)
	if err != nil {
		return keyPair{}, errors.New("it is no Ed25519 or X25519 private key in PEM (PKCS#8)")
	}
	return pairOfX25519(key)
}

// parsePublicKey reads a public key of either type.
func parsePublicKey(text string) (publicKey, error) {
	if key, err := crypto.ParsePublicKeyPEM(text); err == nil {
		return publicOfEd25519(key), nil
	} else if errors.Is(err, crypto.ErrWeakKey) {
		return publicKey{}, err
	}
	key, err := crypto.ParseEncryptionPublicKey(text)
	switch {
	case errors.Is(err, crypto.ErrWeakKey):
		return publicKey{}, err
	case err != nil:
		return publicKey{}, errors.New("it is no Ed25519 or X25519 public key in PEM (SPKI)")
	}
	return publicOfX25519(key), nil
}

func pairOfEd25519(key crypto.PrivateKey) keyPair {
	return keyPair{crypto.MarshalPrivateKeyPEM(key), publicOfEd25519(crypto.PublicOf(key))}
}

func pairOfX25519(key *ecdh.PrivateKey) (keyPair, error) {
	text, err := crypto.MarshalEncryptionKeyPEM(key)
	return keyPair{text, publicOfX25519(key.PublicKey())}, err
}

func publicOfEd25519(key crypto.PublicKey) publicKey {
	return publicKey{typeEd25519, key.KeyID(), key.Fingerprint().String(), key.PEM(), key.String()}
}

func publicOfX25519(key *ecdh.PublicKey) publicKey {
	return publicKey{typeX25519, crypto.EncryptionKeyID(key), crypto.Sum(key.Bytes()).String(),
		crypto.EncryptionPublicKeyPEM(key), base64.StdEncoding.EncodeToString(key.Bytes())}
}
