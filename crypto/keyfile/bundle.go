package keyfile

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// The key bundle of EdgeCoder (WIRE 17): the present signing key, the one before it, and their windows, sealed as
//
//	{"ciphertext":<base64>,"salt":<64 hex digits>,"nonce":<24 hex digits>,"tag":<32 hex digits>}
//
// with AES-256-GCM, nothing associated, under PBKDF2-HMAC-SHA256 at a cost that the format fixes. It has no version,
// purpose, cost or checksum, so it cannot tell a wrong passphrase from damage; new files are better sealed with
// [Seal]. Shorter tags, which GCM could verify and forgers would like, are refused.

// BundleIterations is the cost of every bundle; the format has no place to say another.
const BundleIterations = 600_000

const (
	maxBundleBytes   = 16 << 10  // two keys in PEM, sealed and in base64, take about 1 KiB; four halves of maxPEMBytes fit
	maxPEMBytes      = 1 << 10   // one half takes about 120
	maxBundleIDBytes = 128       // a UUID has 36
	maxBundleMs      = 1<<53 - 1 // what a reader in JavaScript holds exactly
)

// ErrPassphraseOrDamaged says that a bundle does not open. Which of the two it is, its format cannot tell.
var ErrPassphraseOrDamaged = errors.New("keyfile: wrong passphrase, or the bundle is damaged (its format cannot tell which)")

// Bundle is the content of a bundle file. It is secret: call Clear after use. Whether the halves of its keys belong
// together is for the caller to check; the format only carries their texts.
type Bundle struct {
	KeyID    string // chosen by who made the bundle, mostly a UUID; printable ASCII
	Current  BundleKey
	Previous *BundleKey // nil before the first rotation
}

// BundleKey is one key of a bundle and its window.
type BundleKey struct {
	PrivatePEM  []byte // PKCS#8
	PublicPEM   string // SPKI
	ActivatedMs int64
	EndMs       int64 // when the current key expires; when the previous one was put out of use
}

// Clear wipes the private keys.
func (b *Bundle) Clear() {
	clear(b.Current.PrivatePEM)
	if b.Previous != nil {
		clear(b.Previous.PrivatePEM)
	}
}

// SealBundle encrypts b under a passphrase of at least 8 bytes. rand must be crypto/rand.Reader or as good. What
// cannot be written is [ErrParams].
func SealBundle(rand io.Reader, passphrase []byte, b *Bundle) ([]byte, error) {
	if len(passphrase) < MinPassphraseBytes {
		return nil, fmt.Errorf("%w: seal: passphrase of %d bytes, want at least %d", ErrParams, len(passphrase), MinPassphraseBytes)
	}
	return sealBundle(rand, b, bundleCipher(passphrase))
}

// OpenBundle decrypts what [SealBundle] or EdgeCoder wrote. The error is one of [ErrDamaged] when the file is no
// bundle, [ErrParams] when its sizes are not those of the format, and [ErrPassphraseOrDamaged]; only the last costs
// a derivation.
func OpenBundle(passphrase, file []byte) (*Bundle, error) {
	return openBundle(file, bundleCipher(passphrase))
}

// InspectBundle checks what can be checked without a passphrase. Errors are [ErrDamaged] and [ErrParams].
func InspectBundle(file []byte) error {
	_, err := parseSealedBundle(file)
	return err
}

// deriver makes a cipher from a salt. Tests flip every bit of a file and cannot wait for the real one each time.
type deriver func(salt []byte) (cipher.AEAD, error)

func bundleCipher(passphrase []byte) deriver {
	return func(salt []byte) (cipher.AEAD, error) { return deriveCipher(passphrase, salt, BundleIterations) }
}

func sealBundle(rand io.Reader, b *Bundle, derive deriver) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("%w: seal: %w", ErrParams, err)
	}
	if rand == nil {
		return nil, errors.New("keyfile: seal: no source of randomness given")
	}
	var s sealedBundle
	for _, random := range [][]byte{s.salt[:], s.nonce[:]} {
		if _, err := io.ReadFull(rand, random); err != nil {
			return nil, fmt.Errorf("keyfile: seal: read randomness: %w", err)
		}
	}
	aead, err := derive(s.salt[:])
	if err != nil {
		return nil, fmt.Errorf("keyfile: seal: %w", err)
	}
	plaintext := b.append(make([]byte, 0, maxBundleBytes)) // large enough never to be copied
	defer clear(plaintext)
	sealed := aead.Seal(nil, s.nonce[:], plaintext, nil)
	tag := len(sealed) - tagBytes
	s.ciphertext, s.tag = sealed[:tag], [tagBytes]byte(sealed[tag:])
	return s.append(nil), nil
}

func openBundle(file []byte, derive deriver) (*Bundle, error) {
	s, err := parseSealedBundle(file)
	if err != nil {
		return nil, err
	}
	aead, err := derive(s.salt[:])
	if err != nil {
		return nil, fmt.Errorf("keyfile: open: %w", err)
	}
	plaintext, err := aead.Open(nil, s.nonce[:], append(s.ciphertext, s.tag[:]...), nil)
	if err != nil {
		return nil, ErrPassphraseOrDamaged
	}
	defer clear(plaintext)
	return parseBundle(plaintext)
}
