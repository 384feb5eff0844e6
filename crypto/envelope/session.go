package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
)

// Sizes of AES-256-GCM in bytes. Only whole tags are taken: existing services accept four bytes of one.
const (
	keySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// Session is what the sealer of a task keeps to open the one result. It is not for concurrent use. Whoever keeps it
// bounds how long: existing coordinators do for an hour (WIRE 19).
type Session struct {
	key    []byte // of the result; nil once it is gone
	format resultFormat
}

// Opened is a task whose envelope verified.
type Opened struct {
	Clear   Clear
	Payload []byte
	// Sender is the key id of the task's signer; "" in version 1, which has none.
	Sender string

	key    []byte // of the result; nil once it is gone
	format resultFormat
}

// String keeps payload and key out of logs.
func (o Opened) String() string { return fmt.Sprintf("opened task %q", o.Clear.SubtaskID) }

// GoString keeps payload and key out of logs.
func (o Opened) GoString() string { return o.String() }

// String keeps the key out of logs.
func (s Session) String() string { return "session of a sealed task" }

// GoString keeps the key out of logs.
func (s Session) GoString() string { return s.String() }

// resultFormat is how results of a version are spelt, for one task.
type resultFormat interface {
	seal(aead cipher.AEAD, nonce, payload []byte) (text []byte, err error)
	open(aead cipher.AEAD, text []byte) (payload []byte, err error)
}

// OpenResult opens the result of the task. The key opens one result: after that it is gone, and the error is
// [ErrUsed]. What does not open leaves the key alone, or anybody could void the result by sending another.
func (s *Session) OpenResult(text []byte) (payload []byte, err error) {
	if s.key == nil {
		return nil, fmt.Errorf("envelope: open result: %w", ErrUsed)
	}
	if len(text) > MaxTextBytes {
		return nil, fmt.Errorf("envelope: open result: %w: %d bytes, at most %d", ErrMalformed, len(text), MaxTextBytes)
	}
	if payload, err = s.format.open(newGCM(s.key), text); err != nil {
		return nil, fmt.Errorf("envelope: open result: %w", err)
	}
	s.Close()
	return payload, nil
}

// Close forgets the key of the result.
func (s *Session) Close() {
	clear(s.key)
	s.key = nil
}

// SealResult seals the one result of the task; rand gives its nonce. Send the same text again if it got lost: a
// second call is [ErrUsed].
func (o *Opened) SealResult(rand io.Reader, payload []byte) (text []byte, err error) {
	if o.key == nil {
		return nil, fmt.Errorf("envelope: seal result: %w", ErrUsed)
	}
	if err := checkPayload(payload); err != nil {
		return nil, fmt.Errorf("envelope: seal result: %w", err)
	}
	nonce, err := newNonce(rand)
	if err != nil {
		return nil, fmt.Errorf("envelope: seal result: %w", err)
	}
	if text, err = o.format.seal(newGCM(o.key), nonce, payload); err != nil {
		return nil, fmt.Errorf("envelope: seal result: %w", err)
	}
	o.Close()
	return text, nil
}

// Close forgets the key of the result.
func (o *Opened) Close() {
	clear(o.key)
	o.key = nil
}

func checkPayload(payload []byte) error {
	if len(payload) > MaxPayloadBytes {
		return fmt.Errorf("%w: %d bytes, at most %d: use a stream", ErrTooLarge, len(payload), MaxPayloadBytes)
	}
	return nil
}

func newNonce(rand io.Reader) ([]byte, error) {
	if rand == nil {
		return nil, errors.New("no source of randomness given")
	}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return nonce, nil
}

// newGCM panics on a key of the wrong size: keys come from key derivation, never from a peer.
func newGCM(key []byte) cipher.AEAD {
	if len(key) != keySize {
		panic(fmt.Sprintf("envelope: AES key of %d bytes, want %d", len(key), keySize))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("envelope: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("envelope: " + err.Error())
	}
	return aead
}

// openGCM verifies and decrypts. The sizes of nonce and tag were checked.
func openGCM(aead cipher.AEAD, nonce, sealed, aad []byte) ([]byte, error) {
	payload, err := aead.Open(nil, nonce, sealed, aad)
	if err != nil {
		return nil, ErrNotAuthentic
	}
	return payload, nil
}
