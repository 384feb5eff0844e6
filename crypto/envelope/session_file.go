package envelope

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/edgecoder/edgecoder/crypto"
)

// The key of a result outlives a process as one line of JSON. It is secret, and
// whoever keeps it sees to it that it is used once.

// sides of a kept key: a text for one is refused as the other.
const (
	sideSeals = "seals a result"
	sideOpens = "opens a result"
)

type keptKey struct {
	Side      string `json:"side"`
	Version   int    `json:"v"`
	SubtaskID string `json:"subtaskId"`
	Recipient string `json:"recipient,omitempty"` // of the result; version 2
	Sender    string `json:"sender,omitempty"`
	Nonce     []byte `json:"nonce,omitempty"` // of the task; version 1
	Key       []byte `json:"key"`
}

// Keep returns the session as text, for [ParseSession].
func (s *Session) Keep() ([]byte, error) { return keep(sideOpens, s.format, s.key) }

// KeepResultKey returns what [ParseResultSealer] needs to seal the result later.
func (o *Opened) KeepResultKey() ([]byte, error) { return keep(sideSeals, o.format, o.key) }

// ParseSession reads what [Session.Keep] returned.
func ParseSession(text []byte) (*Session, error) {
	key, format, _, err := unkeep(sideOpens, text)
	return &Session{key: key, format: format}, err
}

// ParseResultSealer reads what [Opened.KeepResultKey] returned. Of the task it has
// the subtask id alone.
func ParseResultSealer(text []byte) (*Opened, error) {
	key, format, id, err := unkeep(sideSeals, text)
	return &Opened{Clear: Clear{SubtaskID: id}, key: key, format: format}, err
}

func keep(side string, format resultFormat, key []byte) ([]byte, error) {
	if key == nil {
		return nil, fmt.Errorf("envelope: keep: %w", ErrUsed)
	}
	kept := keptKey{Side: side, Key: key}
	switch f := format.(type) {
	case *resultV1:
		kept.Version, kept.SubtaskID, kept.Nonce = 1, f.subtaskID, f.taskNonce
	case *resultV2:
		kept.Version, kept.SubtaskID, kept.Recipient, kept.Sender = 2, f.subtaskID, f.recipient, f.sender
	}
	return json.Marshal(kept)
}

func unkeep(side string, text []byte) (key []byte, format resultFormat, subtaskID string, err error) {
	var kept keptKey
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&kept); err != nil || len(kept.Key) != keySize || crypto.CheckID(kept.SubtaskID) != nil { // the error could quote the key
		return nil, nil, "", fmt.Errorf("envelope: session: %w: it is none, or damaged", ErrMalformed)
	}
	switch {
	case kept.Side != side:
		return nil, nil, "", fmt.Errorf("envelope: session: %w: it %s, this %s", ErrWrongKey, kept.Side, side)
	case kept.Version == 1 && len(kept.Nonce) == nonceSize:
		format = &resultV1{kept.SubtaskID, kept.Nonce}
	case kept.Version == 2 && kept.Recipient != "" && kept.Sender != "":
		format = &resultV2{subtaskID: kept.SubtaskID, recipient: kept.Recipient, sender: kept.Sender}
	default:
		return nil, nil, "", fmt.Errorf("envelope: session: %w: it is of version %d", ErrMalformed, kept.Version)
	}
	return kept.Key, format, kept.SubtaskID, nil
}
