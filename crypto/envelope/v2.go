package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	infoV2        = "edgecoder envelope v2\n"
	resultLabelV2 = "edgecoder envelope v2 result"
	signLabelV2   = "envelope v2"

	directionTask   = "task"
	directionResult = "result"
)

// SealV2 seals a task in version 2 and signs it. The session opens its result.
func SealV2(signer crypto.PrivateKey, to *ecdh.PublicKey, c Clear, payload []byte) (text []byte, s *Session, err error) {
	if err := c.check(); err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	if err := checkPayload(payload); err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	sender := crypto.PublicOf(signer)
	info := contextV2(sender, to)
	enc, context, err := newSender(to, info)
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: %w", err)
	}
	e := taskV2{clear: c, recipient: crypto.EncryptionKeyID(to), sender: sender.KeyID(), enc: enc}
	aad := e.aad()
	if e.payload, err = context.Seal(aad, payload); err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: HPKE: %w", err)
	}
	e.signature = crypto.SignText(signer, signLabelV2, info, aad, enc, e.payload)
	key, err := context.Export(resultLabelV2, keySize)
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: seal: HPKE: %w", err)
	}
	return e.json(), &Session{key: key, format: e.result()}, nil
}

// OpenV2 opens a task of version 2 that one of senders signed: the keys from which the recipient takes tasks. All that
// it returns is authenticated.
func OpenV2(key *ecdh.PrivateKey, senders []crypto.PublicKey, text []byte) (*Opened, error) {
	e, err := parseTaskV2(text)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", err)
	}
	if own := crypto.EncryptionKeyID(key.PublicKey()); e.recipient != own {
		return nil, fmt.Errorf("envelope: open: %w: %s, this is %s", ErrWrongKey, e.recipient, own)
	}
	i := slices.IndexFunc(senders, func(p crypto.PublicKey) bool { return p.KeyID() == e.sender })
	if i < 0 {
		return nil, fmt.Errorf("envelope: open: %w: signed by key %s", ErrWrongSender, e.sender)
	}
	info, aad := contextV2(senders[i], key.PublicKey()), e.aad()
	if !crypto.VerifyText(senders[i], e.signature, signLabelV2, info, aad, e.enc, e.payload) {
		return nil, fmt.Errorf("envelope: open: %w: its signature is not of key %s", ErrNotAuthentic, e.sender)
	}
	context, err := newRecipient(key, e.enc, info)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", err)
	}
	payload, err := context.Open(aad, e.payload)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: %w", ErrNotAuthentic)
	}
	resultKey, err := context.Export(resultLabelV2, keySize)
	if err != nil {
		return nil, fmt.Errorf("envelope: open: HPKE: %w", err)
	}
	return &Opened{Clear: e.clear, Payload: payload, Sender: e.sender, key: resultKey, format: e.result()}, nil
}

// contextV2 is the info of HPKE. Both keys have a fixed size, so there is one way to read it.
func contextV2(sender crypto.PublicKey, to *ecdh.PublicKey) []byte {
	return slices.Concat([]byte(infoV2), sender[:], to.Bytes())
}

// taskV2 is a parsed envelope of version 2.
type taskV2 struct {
	clear             Clear
	recipient, sender string // key ids
	enc               []byte
	payload           []byte // ciphertext and tag
	signature         []byte
}

// result is the format of the task's result: sender and recipient change places.
func (e *taskV2) result() *resultV2 {
	return &resultV2{subtaskID: e.clear.SubtaskID, recipient: e.sender, sender: e.recipient}
}

func (e *taskV2) aad() []byte { return append(e.appendClear(nil), '}') }

func (e *taskV2) appendClear(text []byte) []byte {
	text = appendClearV2(text, directionTask, e.clear.SubtaskID, e.recipient, e.sender)
	return e.clear.Metadata.appendJSON(append(text, `,"metadata":`...))
}

// appendClearV2 writes the clear members that tasks and results share; the object stays open.
func appendClearV2(text []byte, direction, subtaskID, recipient, sender string) []byte {
	text = append(text, `{"v":2,"direction":"`+direction+`","subtaskId":`...)
	text = crypto.AppendJSONString(text, subtaskID)
	text = crypto.AppendJSONString(append(text, `,"recipient":`...), recipient)
	return crypto.AppendJSONString(append(text, `,"sender":`...), sender)
}

func (e *taskV2) json() []byte {
	return fmt.Appendf(e.appendClear(nil), `,"enc":"%s","payload":"%s","signature":"%s"}`,
		encode64(e.enc), encode64(e.payload), encode64(e.signature))
}

// headV2 are the members that tell what an envelope of version 2 is.
type headV2 struct {
	version                                 int
	direction, subtaskID, recipient, sender string
}

func (h *headV2) members() []member {
	return []member{{name: "v", into: &h.version}, {name: "direction", into: &h.direction}, {name: "subtaskId", into: &h.subtaskID},
		{name: "recipient", into: &h.recipient}, {name: "sender", into: &h.sender}}
}

// parseTaskV2 takes the one spelling of an envelope: what it reads must print as what was read.
func parseTaskV2(text []byte) (*taskV2, error) {
	if len(text) > MaxTextBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(text), MaxTextBytes)
	}
	var h headV2
	var enc, payload, signature string
	var metadata json.RawMessage
	err := readObject(text, append(h.members(), member{name: "metadata", into: &metadata},
		member{name: "enc", into: &enc}, member{name: "payload", into: &payload}, member{name: "signature", into: &signature})...)
	if err != nil {
		return nil, err
	}
	e := taskV2{recipient: h.recipient, sender: h.sender, clear: Clear{SubtaskID: h.subtaskID}}
	if e.enc, err = decodeFixed64("enc", enc, encSize); err != nil {
		return nil, err
	}
	if e.payload, err = decodePayloadV2(payload); err != nil {
		return nil, err
	}
	if e.signature, err = decodeFixed64("signature", signature, crypto.SignatureSize); err != nil {
		return nil, err
	}
	if e.clear.Metadata, err = readMetadata(metadata); err != nil {
		return nil, err
	}
	if err := e.clear.check(); err != nil {
		return nil, err
	}
	return &e, sameSpelling(text, e.json()) // version and direction too
}

func decodePayloadV2(text string) ([]byte, error) {
	sealed, err := decodeBase64("payload", text)
	if n := len(sealed) - tagSize; err == nil && (n < 0 || n > MaxPayloadBytes) {
		err = fmt.Errorf("%w: payload of %d bytes, want %d to %d with the tag", ErrMalformed, len(sealed), tagSize, tagSize+MaxPayloadBytes)
	}
	return sealed, err
}

func sameSpelling(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: not the canonical spelling of an envelope of version 2", ErrMalformed)
	}
	return nil
}

// resultV2 is the format of the one result of a task.
type resultV2 struct{ subtaskID, recipient, sender string }

func (f *resultV2) appendClear(text []byte) []byte {
	return appendClearV2(text, directionResult, f.subtaskID, f.recipient, f.sender)
}

func (f *resultV2) aad() []byte { return append(f.appendClear(nil), '}') }

func (f *resultV2) json(nonce, sealed []byte) []byte {
	return fmt.Appendf(f.appendClear(nil), `,"nonce":"%x","payload":"%s"}`, nonce, encode64(sealed))
}

func (f *resultV2) seal(aead cipher.AEAD, nonce, payload []byte) ([]byte, error) {
	return f.json(nonce, aead.Seal(nil, nonce, payload, f.aad())), nil
}

func (f *resultV2) open(aead cipher.AEAD, text []byte) ([]byte, error) {
	nonce, sealed, err := f.parse(text)
	if err != nil {
		return nil, err
	}
	return openGCM(aead, nonce, sealed, f.aad())
}

func (f *resultV2) parse(text []byte) (nonce, sealed []byte, err error) {
	var h headV2
	var nonceText, payload string
	if err := readObject(text, append(h.members(), member{name: "nonce", into: &nonceText}, member{name: "payload", into: &payload})...); err != nil {
		return nil, nil, err
	}
	if nonce, err = decodeHex("nonce", nonceText, nonceSize); err != nil {
		return nil, nil, err
	}
	if sealed, err = decodePayloadV2(payload); err != nil {
		return nil, nil, err
	}
	as := resultV2{h.subtaskID, h.recipient, h.sender}
	switch err = sameSpelling(text, as.json(nonce, sealed)); {
	case err == nil && as.recipient != f.recipient:
		err = fmt.Errorf("%w: key %s, this is %s", ErrWrongKey, as.recipient, f.recipient)
	case err == nil && as.sender != f.sender:
		err = fmt.Errorf("%w: key %s, the task went to %s", ErrWrongSender, as.sender, f.sender)
	case err == nil && as.subtaskID != f.subtaskID:
		err = fmt.Errorf("%w: it names another subtask", ErrNotAuthentic)
	}
	return nonce, sealed, err
}
