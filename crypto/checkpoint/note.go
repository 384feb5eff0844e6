package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	// MaxNoteBytes bounds a note: MaxCosigners signatures of at most 320 bytes, twice over, and the text of a set. The
	// note library bounds the signatures themselves, at 100.
	MaxNoteBytes = 64 << 10
	// maxTextBytes bounds the text of a note; that of a set is the longest.
	maxTextBytes = 8 << 10
)

// Types of signatures (signed-note "Signature types").
const (
	typeEd25519     = 0x01
	typeCosignature = 0x04
)

// Signature is one signature line of a note. Until somebody verified it, it says nothing.
type Signature struct {
	Name  string
	KeyID uint32
	Bytes []byte // after the key id
}

// keyID is the first four bytes of SHA-256(name || newline || type || key), see signed-note.
func keyID(name string, kind byte, key crypto.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', kind})
	h.Write(key[:])
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// vkey writes a verifier key (signed-note "Verifier keys").
func vkey(name string, kind byte, key crypto.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", name, keyID(name, kind, key), base64.StdEncoding.EncodeToString(append([]byte{kind}, key[:]...)))
}

func sign(priv crypto.PrivateKey, name string, text []byte) Signature {
	return Signature{Name: name, KeyID: keyID(name, typeEd25519, crypto.PublicOf(priv)), Bytes: ed25519.Sign(priv, text)}
}

// by tells whether the line names a key of a type under a name.
func (s Signature) by(name string, kind byte, key crypto.PublicKey) bool {
	return s.Name == name && s.KeyID == keyID(name, kind, key)
}

// encodeNote writes a note: text, an empty line, signature lines.
func encodeNote(text []byte, signatures []Signature) []byte {
	b := bytes.NewBuffer(bytes.Clone(text))
	b.WriteByte('\n')
	for _, s := range signatures {
		raw := append(binary.BigEndian.AppendUint32(nil, s.KeyID), s.Bytes...)
		b.WriteString("— " + s.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n")
	}
	return b.Bytes()
}

// parseNote splits a note into its text and its signatures, and verifies none. The note must be spelled as encodeNote
// does: the library's reader passes over second spellings and repeated lines.
func parseNote(msg []byte) (text []byte, signatures []Signature, err error) {
	if len(msg) > MaxNoteBytes {
		return nil, nil, fmt.Errorf("a note of %d bytes, at most %d", len(msg), MaxNoteBytes)
	}
	var open *note.UnverifiedNoteError
	if _, err := note.Open(msg, nil); !errors.As(err, &open) {
		return nil, nil, fmt.Errorf("no signed note: %w", err)
	}
	for _, s := range open.Note.UnverifiedSigs {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil {
			return nil, nil, fmt.Errorf("signature of %.64q: no canonical base64", s.Name)
		}
		signatures = append(signatures, Signature{Name: s.Name, KeyID: s.Hash, Bytes: raw[4:]})
	}
	text = []byte(open.Note.Text)
	if !bytes.Equal(encodeNote(text, signatures), msg) {
		return nil, nil, errors.New("no signed note in its one spelling")
	}
	return text, signatures, nil
}
