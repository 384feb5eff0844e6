// Package keyfile keeps secrets on disk: an authenticated, passphrase-encrypted file format, EdgeCoder's own key
// bundle beside it, careful reading and writing of private files, and the places a passphrase may come from. It is
// the one room of crypto that touches files and the terminal.
//
// # Format, version 1
//
//	magic       8   "edgekey\n"
//	version     1   1
//	kdf         1   1 = PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2)
//	iterations  4   big-endian
//	salt       32
//	nonce      12
//	length      1   of the purpose
//	purpose     n   printable ASCII, what the secret is for
//	ciphertext      AES-256-GCM; everything above is its associated data
//	tag        16
//	checksum   32   SHA-256 of everything above
//
// The checksum is no defence, it is a courtesy: it tells a damaged file from a wrong passphrase, and does so
// before the expensive derivation. What defends is the tag, which covers the parameters and the purpose too, so a
// file of one purpose cannot stand in for another.
package keyfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Bounds. The floor keeps a planted or careless file from being cheap to guess, the ceiling keeps one from
// stalling the start of a node; both hold before anything is derived.
const (
	DefaultIterations  = 600_000 // 0.1 to 0.3 s; OWASP's advice for PBKDF2-HMAC-SHA256
	MinIterations      = 100_000
	MaxIterations      = 10_000_000
	MinPassphraseBytes = 8
	MaxPurposeBytes    = 128
	MaxFileBytes       = 1 << 20
)

var (
	// ErrPassphrase says that the file is intact and the passphrase does not open it.
	ErrPassphrase = errors.New("keyfile: wrong passphrase")
	// ErrDamaged says that the bytes are not a key file, or no longer the ones that were written.
	ErrDamaged = errors.New("keyfile: damaged or not a key file")
	// ErrPurpose says that the file holds a secret for something else.
	ErrPurpose = errors.New("keyfile: wrong purpose")
	// ErrParams says that version, derivation or cost are outside of what this program accepts.
	ErrParams = errors.New("keyfile: unacceptable parameters")
)

// Params is the cost of guessing a passphrase.
type Params struct {
	// Iterations of PBKDF2-HMAC-SHA256; zero means [DefaultIterations].
	Iterations int
}

// Check returns [ErrParams] for a cost that [Seal] refuses, so that nobody types a passphrase first.
func (p Params) Check() error {
	if p.Iterations != 0 && (p.Iterations < MinIterations || p.Iterations > MaxIterations) {
		return fmt.Errorf("%w: cost of %d iterations, want %d to %d", ErrParams, p.Iterations, MinIterations, MaxIterations)
	}
	return nil
}

// Seal encrypts plaintext under a passphrase of at least 8 bytes. The purpose ("raft node identity v1") must be
// given again to open the file. rand must be crypto/rand.Reader or as good.
func Seal(rand io.Reader, passphrase []byte, purpose string, plaintext []byte, p Params) ([]byte, error) {
	if p.Iterations == 0 {
		p.Iterations = DefaultIterations
	}
	h := Header{Iterations: p.Iterations, Purpose: purpose}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("%w: seal: %w", ErrParams, err)
	}
	if len(passphrase) < MinPassphraseBytes {
		return nil, fmt.Errorf("%w: seal: passphrase of %d bytes, want at least %d", ErrParams, len(passphrase), MinPassphraseBytes)
	}
	if size := h.size() + len(plaintext) + overhead; size > MaxFileBytes {
		return nil, fmt.Errorf("%w: seal: file of %d bytes, at most %d", ErrParams, size, MaxFileBytes)
	}
	if rand == nil {
		return nil, errors.New("keyfile: seal: no source of randomness given")
	}
	for _, random := range [][]byte{h.Salt[:], h.nonce[:]} {
		if _, err := io.ReadFull(rand, random); err != nil {
			return nil, fmt.Errorf("keyfile: seal: read randomness: %w", err)
		}
	}
	aead, err := h.cipher(passphrase)
	if err != nil {
		return nil, fmt.Errorf("keyfile: seal: %w", err)
	}
	header := h.append(make([]byte, 0, h.size()+len(plaintext)+overhead))
	file := aead.Seal(header, h.nonce[:], plaintext, header)
	sum := sha256.Sum256(file)
	return append(file, sum[:]...), nil
}

// Open decrypts what [Seal] made. The error is one of [ErrDamaged], [ErrParams], [ErrPurpose] and [ErrPassphrase],
// in the order in which they are found out; only the last costs a derivation. The plaintext is secret: clear it
// after use.
func Open(passphrase []byte, purpose string, file []byte) ([]byte, error) {
	h, err := Inspect(file)
	if err != nil {
		return nil, err
	}
	if h.Purpose != purpose {
		return nil, fmt.Errorf("%w: the file is for %q, wanted %q", ErrPurpose, h.Purpose, purpose)
	}
	aead, err := h.cipher(passphrase)
	if err != nil {
		return nil, fmt.Errorf("keyfile: open: %w", err)
	}
	header, sealed := file[:h.size()], file[h.size():len(file)-sha256.Size]
	plaintext, err := aead.Open(nil, h.nonce[:], sealed, header)
	if err != nil {
		return nil, fmt.Errorf("%w for %q", ErrPassphrase, purpose)
	}
	return plaintext, nil
}

func (h *Header) cipher(passphrase []byte) (cipher.AEAD, error) {
	return deriveCipher(passphrase, h.Salt[:], h.Iterations)
}

// deriveCipher derives the key and forgets it. pbkdf2 takes a string, and the cipher expands the key, so copies that
// cannot be cleared stay behind until the collector finds them; what we can clear, we clear.
func deriveCipher(passphrase, salt []byte, iterations int) (cipher.AEAD, error) {
	key, err := pbkdf2.Key(sha256.New, string(passphrase), salt, iterations, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
