package crypto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// MaxIDBytes bounds every id (CONTRACT).
const MaxIDBytes = 128

// CheckID accepts ids of agents, coordinators, reporters and events: 1 to 128 bytes of valid UTF-8 without
// control characters (CONTRACT). Ids end up in signed texts whose fields are separated by newlines, in logs and
// on terminals; a control character could forge any of them. What cannot be seen is refused as well, else two
// ids could look alike and somebody would approve or ban the wrong one: space at either end, any space but the
// ordinary one, and code points without a glyph.
func CheckID(id string) error {
	if err := checkWireID(id); err != nil {
		return err
	}
	if id[0] == ' ' || id[len(id)-1] == ' ' {
		return fmt.Errorf("id %s: space at its beginning or end", quote(id))
	}
	for _, r := range id {
		if r != ' ' && invisible(r) {
			return fmt.Errorf("id %s: invisible character %U", quote(id), r)
		}
	}
	return nil
}

// checkWireID is the rule for ids in events that were hashed and signed already: a chain must stay verifiable
// however its ids were chosen.
func checkWireID(id string) error {
	switch {
	case id == "":
		return errors.New("id is empty")
	case len(id) > MaxIDBytes:
		return fmt.Errorf("id %s: %d bytes, at most %d", quote(id), len(id), MaxIDBytes)
	case !utf8.ValidString(id):
		return fmt.Errorf("id %s: not valid UTF-8", quote(id))
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return fmt.Errorf("id %s: control character", quote(id))
		}
	}
	return nil
}

// invisible reports whether a character is white space or prints as nothing: format characters, what Unicode
// lets a font ignore, variation selectors, and the letters and symbols whose glyph is blank.
func invisible(r rune) bool {
	switch r {
	case '\u115f', '\u1160', '\u3164', '\uffa0', '\u2800': // Hangul fillers, the Braille pattern without dots
		return true
	}
	return r > unicode.MaxASCII && unicode.In(r, unicode.Cf, unicode.Z, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// NewUUID returns a random UUID, version 4, in lower case (RFC 9562 section 5.4).
func NewUUID(rand io.Reader) (string, error) {
	if rand == nil {
		return "", errors.New("uuid: no source of randomness given")
	}
	var raw [16]byte
	if _, err := io.ReadFull(rand, raw[:]); err != nil {
		return "", fmt.Errorf("uuid: read randomness: %w", err)
	}
	raw[6] = raw[6]&0x0f | 0x40 // version 4
	raw[8] = raw[8]&0x3f | 0x80 // variant of RFC 9562
	var text [36]byte
	hex.Encode(text[0:8], raw[0:4])
	hex.Encode(text[9:13], raw[4:6])
	hex.Encode(text[14:18], raw[6:8])
	hex.Encode(text[19:23], raw[8:10])
	hex.Encode(text[24:36], raw[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:]), nil
}

// EnrollProofText is what a new agent signs with its new key to enrol (CONTRACT): the fixed first line, cluster
// id, agent id and the hex SHA-256 of the token, joined by single newlines. The ids must have passed [CheckID],
// which keeps newlines out of them. The token itself is not in the text, so a proof may be logged.
func EnrollProofText(clusterID, agentID, token string) []byte {
	digest := Sum([]byte(token))
	text := make([]byte, 0, len(clusterID)+len(agentID)+96)
	text = append(text, "edgecoder enroll v1\n"...)
	text = append(text, clusterID...)
	text = append(text, '\n')
	text = append(text, agentID...)
	text = append(text, '\n')
	return digest.appendHex(text)
}

// encryptionKeyLabel is the label of an encryption proof.
const encryptionKeyLabel = "agent encryption key v1"

// SignEncryptionKey makes the encryption proof of an agent: its signing key says that the raw X25519 key is the one to
// seal to. The ids must have passed [CheckID].
func SignEncryptionKey(priv PrivateKey, clusterID, agentID string, key []byte) []byte {
	return SignText(priv, encryptionKeyLabel, []byte(clusterID), []byte(agentID), key)
}

// VerifyEncryptionKey checks a proof of [SignEncryptionKey].
func VerifyEncryptionKey(pub PublicKey, proof []byte, clusterID, agentID string, key []byte) bool {
	return VerifyText(pub, proof, encryptionKeyLabel, []byte(clusterID), []byte(agentID), key)
}

const keyChangeLabel = "agent key change v1"

// SignKeyChange proves that an agent holds the key it changes to: the new key signs cluster id, agent id, the
// fingerprint of the key that is replaced and itself. Each proof is good for one change, because no key that was
// replaced ever comes back.
func SignKeyChange(next PrivateKey, clusterID, agentID string, current PublicKey) []byte {
	return SignText(next, keyChangeLabel, keyChangeParts(PublicOf(next), clusterID, agentID, current)...)
}

// VerifyKeyChange checks a proof of [SignKeyChange].
func VerifyKeyChange(next PublicKey, proof []byte, clusterID, agentID string, current PublicKey) bool {
	return VerifyText(next, proof, keyChangeLabel, keyChangeParts(next, clusterID, agentID, current)...)
}

func keyChangeParts(next PublicKey, clusterID, agentID string, current PublicKey) [][]byte {
	replaced := current.Fingerprint()
	return [][]byte{[]byte(clusterID), []byte(agentID), replaced[:], next[:]}
}
