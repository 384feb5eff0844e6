package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/edgecoder/edgecoder/crypto"
)

// infoV1 is what HKDF is told of its use (WIRE 19).
const infoV1 = "edgecoder-envelope"

var errRepeatedNonce = errors.New("the source of randomness repeats itself")

// SealV1 seals a task in version 1 (WIRE 19): 32 bytes of rand become the ephemeral key, the next 12 the nonce. The
// session opens its result.
func SealV1(rand io.Reader, to *ecdh.PublicKey, c Clear, payload []byte) (text []byte, s *Session, err error) {
	if err := errors.Join(c.check(), checkPayload(payload)); err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	ephemeral, err := crypto.GenerateEncryptionKey(rand)
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	nonce, err := newNonce(rand)
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	key, err := keyV1(ephemeral, to, c.SubtaskID)
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	e := taskV1{clear: c, ephemeral: ephemeral.PublicKey().Bytes(), nonce: nonce}
	e.sealed = newGCM(key).Seal(nil, nonce, payload, nil)
	return e.json(), &Session{key: key, format: &resultV1{c.SubtaskID, nonce}}, nil
}

// OpenV1 opens a task of version 1. What it proves is little: somebody who has the public key sealed this payload for
// this subtask id. Of the metadata nothing is authenticated, only bounded: anybody on the way may have changed resource
// class, priority and timeout, and the language too, unless [Opened.Task] compares it.
func OpenV1(key *ecdh.PrivateKey, text []byte) (*Opened, error) {
	e, err := parseTaskV1(text)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", err)
	}
	ephemeral, err := crypto.NewEncryptionPublicKey(e.ephemeral)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w: ephemeralPublicKey: %w", ErrMalformed, err)
	}
	aesKey, err := keyV1(key, ephemeral, e.clear.SubtaskID)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", err)
	}
	payload, err := openGCM(newGCM(aesKey), e.nonce, e.sealed, nil)
	if err != nil {
		clear(aesKey)
		return nil, fmt.Errorf("envelope: open: %w: altered, or sealed to another key: version 1 cannot tell", err)
	}
	return &Opened{Clear: e.clear, Payload: payload, key: aesKey, format: &resultV1{e.clear.SubtaskID, e.nonce}}, nil
}

// keyV1 derives the AES key, the same for both directions.
func keyV1(own *ecdh.PrivateKey, other *ecdh.PublicKey, subtaskID string) ([]byte, error) {
	shared, err := own.ECDH(other)
	if err != nil {
		return nil, fmt.Errorf("X25519: %w", err)
	}
	defer clear(shared)
	return hkdf.Key(sha256.New, shared, []byte(subtaskID), infoV1, keySize)
}

// taskV1 is a parsed envelope of version 1.
type taskV1 struct {
	clear            Clear
	ephemeral, nonce []byte
	sealed           []byte // ciphertext and tag
}

func (e *taskV1) json() []byte {
	text := crypto.AppendJSONString([]byte(`{"subtaskId":`), e.clear.SubtaskID)
	text = fmt.Appendf(text, `,"ephemeralPublicKey":"%s"`, encode64(e.ephemeral))
	text = appendSealedV1(text, e.nonce, e.sealed)
	return append(e.clear.Metadata.appendJSON(append(text, `,"metadata":`...)), '}')
}

// appendSealedV1 writes the members that tasks and results share.
func appendSealedV1(text, nonce, sealed []byte) []byte {
	body, tag := sealed[:len(sealed)-tagSize], sealed[len(sealed)-tagSize:]
	return fmt.Appendf(text, `,"encryptedPayload":"%s","nonce":"%x","tag":"%x"`, encode64(body), nonce, tag)
}

// parseTaskV1 takes the members in any order and with white space, as other writers of JSON have it, but none that WIRE
// 19 does not name.
func parseTaskV1(text []byte) (*taskV1, error) {
	if len(text) > MaxTextBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(text), MaxTextBytes)
	}
	var e taskV1
	var r ResultV1
	var ephemeral string
	var metadata json.RawMessage
	err := readObject(text, member{name: "subtaskId", into: &r.SubtaskID}, member{name: "ephemeralPublicKey", into: &ephemeral},
		member{name: "encryptedPayload", into: &r.EncryptedPayload}, member{name: "nonce", into: &r.Nonce},
		member{name: "tag", into: &r.Tag}, member{name: "metadata", into: &metadata})
	if err != nil {
		return nil, err
	}
	if e.ephemeral, err = decodeFixed64("ephemeralPublicKey", ephemeral, crypto.EncryptionKeySize); err != nil {
		return nil, err
	}
	if e.nonce, e.sealed, err = r.decode(); err != nil {
		return nil, err
	}
	if e.clear.Metadata, err = readMetadata(metadata); err != nil {
		return nil, err
	}
	e.clear.SubtaskID = r.SubtaskID
	return &e, e.clear.check()
}

// ResultV1 holds the members of a version 1 result that are about encryption. In the body of a posted result (WIRE
// 7.5) others stand beside them; a service takes these out and hands their JSON to [Session.OpenResult].
type ResultV1 struct {
	SubtaskID        string `json:"subtaskId"`
	EncryptedPayload string `json:"encryptedPayload"` // base64, without the tag
	Nonce            string `json:"nonce"`            // hex
	Tag              string `json:"tag"`              // hex
}

// JSON returns the four members, as a result of version 1 is sealed.
func (r ResultV1) JSON() []byte {
	text := []byte{'{'}
	for i, m := range [][2]string{{"subtaskId", r.SubtaskID}, {"encryptedPayload", r.EncryptedPayload}, {"nonce", r.Nonce}, {"tag", r.Tag}} {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(crypto.AppendJSONString(text, m[0]), ':')
		text = crypto.AppendJSONString(text, m[1])
	}
	return append(text, '}')
}

// decode returns the nonce, and ciphertext and tag as AES-GCM takes them.
func (r ResultV1) decode() (nonce, sealed []byte, err error) {
	body, err := decodeBase64("encryptedPayload", r.EncryptedPayload)
	if err != nil {
		return nil, nil, err
	}
	if len(body) > MaxPayloadBytes {
		return nil, nil, fmt.Errorf("%w: encryptedPayload has %d bytes, at most %d", ErrMalformed, len(body), MaxPayloadBytes)
	}
	if nonce, err = decodeHex("nonce", r.Nonce, nonceSize); err != nil {
		return nil, nil, err
	}
	tag, err := decodeHex("tag", r.Tag, tagSize)
	return nonce, append(body, tag...), err
}

// resultV1 is the format of the one result of a task.
type resultV1 struct {
	subtaskID string
	taskNonce []byte
}

func (f *resultV1) seal(aead cipher.AEAD, nonce, payload []byte) ([]byte, error) {
	if bytes.Equal(nonce, f.taskNonce) {
		return nil, errRepeatedNonce // under the same key that would give both payloads away
	}
	sealed := aead.Seal(nil, nonce, payload, nil)
	body, tag := sealed[:len(payload)], sealed[len(payload):]
	return ResultV1{f.subtaskID, encode64(body), hex.EncodeToString(nonce), hex.EncodeToString(tag)}.JSON(), nil
}

func (f *resultV1) open(aead cipher.AEAD, text []byte) ([]byte, error) {
	var r ResultV1
	if err := readObject(text, member{name: "subtaskId", into: &r.SubtaskID}, member{name: "encryptedPayload", into: &r.EncryptedPayload},
		member{name: "nonce", into: &r.Nonce}, member{name: "tag", into: &r.Tag}); err != nil {
		return nil, err
	}
	nonce, sealed, err := r.decode()
	switch {
	case err != nil:
		return nil, err
	case r.SubtaskID != f.subtaskID:
		return nil, fmt.Errorf("%w: it names another subtask", ErrNotAuthentic)
	case bytes.Equal(nonce, f.taskNonce):
		// Both directions share the key, so the task itself would verify as its own result.
		return nil, fmt.Errorf("%w: it is the task sent back", ErrNotAuthentic)
	}
	return openGCM(aead, nonce, sealed, nil)
}
