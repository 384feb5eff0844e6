package keyfile

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/crypto"
)

// sealedBundle is the four members of a bundle file.
type sealedBundle struct {
	ciphertext []byte
	salt       [saltBytes]byte
	nonce      [nonceBytes]byte
	tag        [tagBytes]byte
}

// append encodes s as JSON.stringify does, so that a file has one spelling.
func (s *sealedBundle) append(dst []byte) []byte {
	dst = append(dst, `{"ciphertext":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, s.ciphertext)
	dst = append(dst, `","salt":"`...)
	dst = hex.AppendEncode(dst, s.salt[:])
	dst = append(dst, `","nonce":"`...)
	dst = hex.AppendEncode(dst, s.nonce[:])
	dst = append(dst, `","tag":"`...)
	dst = hex.AppendEncode(dst, s.tag[:])
	return append(dst, `"}`...)
}

// parseSealedBundle reads a bundle file: the four members once each, in any order, and no others.
func parseSealedBundle(file []byte) (*sealedBundle, error) {
	if len(file) > maxBundleBytes {
		return nil, fmt.Errorf("%w: a bundle of %d bytes, at most %d", ErrDamaged, len(file), maxBundleBytes)
	}
	members, err := textMembers(file)
	if err != nil {
		return nil, fmt.Errorf("%w: not a bundle: %w", ErrDamaged, err)
	}
	var s sealedBundle
	for _, field := range []struct {
		name string
		into []byte
	}{{"salt", s.salt[:]}, {"nonce", s.nonce[:]}, {"tag", s.tag[:]}} {
		if err := readHex(field.into, field.name, members); err != nil {
			return nil, err
		}
	}
	text, ok := members["ciphertext"]
	if !ok || len(members) != 4 {
		return nil, fmt.Errorf("%w: not a bundle: want ciphertext, salt, nonce and tag, and nothing else", ErrDamaged)
	}
	s.ciphertext, err = base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(s.ciphertext) != text { // the decoder skips line breaks
		return nil, fmt.Errorf("%w: not a bundle: its ciphertext is not canonical base64", ErrDamaged)
	}
	return &s, nil
}

// textMembers reads one JSON object of texts.
func textMembers(text []byte) (map[string]string, error) {
	members := map[string]string{}
	err := crypto.EachJSONMember(text, func(name string, value json.RawMessage) (err error) {
		members[name], err = crypto.JSONText(value)
		return err
	})
	return members, err
}

func readHex(dst []byte, name string, members map[string]string) error {
	text := members[name]
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: a bundle whose %s has %d hex digits, want %d", ErrParams, name, len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, []byte(text)); err != nil || hex.EncodeToString(dst) != text {
		return fmt.Errorf("%w: not a bundle: its %s is not lower-case hex", ErrDamaged, name)
	}
	return nil
}

// check holds what sealing and opening share.
func (b *Bundle) check() error {
	if b.KeyID == "" || len(b.KeyID) > maxBundleIDBytes || !plain([]byte(b.KeyID), false) {
		return fmt.Errorf("bundle: key id of %d bytes, want 1 to %d of printable ASCII without quotes and backslashes", len(b.KeyID), maxBundleIDBytes)
	}
	if err := b.Current.check(); err != nil {
		return fmt.Errorf("bundle: current key: %w", err)
	}
	if b.Previous == nil {
		return nil
	}
	if err := b.Previous.check(); err != nil {
		return fmt.Errorf("bundle: previous key: %w", err)
	}
	return nil
}

func (k *BundleKey) check() error {
	for name, size := range map[string]int{"private": len(k.PrivatePEM), "public": len(k.PublicPEM)} {
		if size == 0 || size > maxPEMBytes {
			return fmt.Errorf("%s half of %d bytes, want 1 to %d", name, size, maxPEMBytes)
		}
	}
	if !plain([]byte(k.PublicPEM), true) || !plain(k.PrivatePEM, true) {
		return errors.New("a half that is not PEM")
	}
	if k.ActivatedMs < 0 || k.EndMs < k.ActivatedMs || k.EndMs > maxBundleMs {
		return fmt.Errorf("window from %d to %d ms", k.ActivatedMs, k.EndMs)
	}
	return nil
}

// plain reports whether text, but for ends of lines if it may have any, is the same inside of a JSON string.
func plain(text []byte, lines bool) bool {
	for _, c := range text {
		if lines && c == '\n' {
			continue
		}
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// append encodes b as JSON.stringify does, with the members in the order of WIRE 17. b was checked.
func (b *Bundle) append(dst []byte) []byte {
	dst = append(dst, `{"currentKey":`...)
	dst = b.Current.append(dst, "expiresAt")
	dst = append(dst, `,"previousKey":`...)
	if b.Previous == nil {
		dst = append(dst, "null"...)
	} else {
		dst = b.Previous.append(dst, "deactivatedAt")
	}
	dst = append(dst, `,"keyId":"`...)
	dst = append(dst, b.KeyID...)
	return append(dst, `"}`...)
}

func (k *BundleKey) append(dst []byte, end string) []byte {
	dst = append(dst, `{"privateKeyPem":"`...)
	dst = appendLines(dst, k.PrivatePEM)
	dst = append(dst, `","publicKeyPem":"`...)
	dst = appendLines(dst, []byte(k.PublicPEM))
	dst = append(dst, `","activatedAt":`...)
	dst = strconv.AppendInt(dst, k.ActivatedMs, 10)
	dst = append(dst, `,"`+end+`":`...)
	dst = strconv.AppendInt(dst, k.EndMs, 10)
	return append(dst, '}')
}

func appendLines(dst, text []byte) []byte {
	for _, c := range text {
		if c == '\n' {
			dst = append(dst, `\n`...)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// bundleText is the JSON inside of a bundle.
type bundleText struct {
	Current  keyText  `json:"currentKey"`
	Previous *keyText `json:"previousKey"`
	KeyID    string   `json:"keyId"`
}

type keyText struct {
	Private     pemText `json:"privateKeyPem"`
	Public      pemText `json:"publicKeyPem"`
	Activated   int64   `json:"activatedAt"`
	Expires     int64   `json:"expiresAt"`
	Deactivated int64   `json:"deactivatedAt"`
}

// pemText is a text of lines that was never a string, which nobody could wipe.
type pemText []byte

// UnmarshalJSON undoes the one escape that PEM needs.
func (p *pemText) UnmarshalJSON(quoted []byte) error {
	if len(quoted) < 2 || quoted[0] != '"' || len(quoted) > 2*maxPEMBytes+2 {
		return errors.New("no PEM text")
	}
	body := quoted[1 : len(quoted)-1]
	*p = make(pemText, 0, len(body))
	for len(body) > 0 {
		if rest, ok := bytes.CutPrefix(body, []byte(`\n`)); ok {
			*p, body = append(*p, '\n'), rest
			continue
		}
		*p, body = append(*p, body[0]), body[1:]
	}
	return nil
}

// parseBundle reads what append writes, and only that: one spelling, so no member twice, none unknown, and no number
// that two readers could take differently. Its errors quote nothing.
func parseBundle(plaintext []byte) (_ *Bundle, err error) {
	var text bundleText
	decodeErr := json.Unmarshal(plaintext, &text)
	b := &Bundle{KeyID: text.KeyID, Current: text.Current.key(text.Current.Expires)}
	if text.Previous != nil {
		previous := text.Previous.key(text.Previous.Deactivated)
		b.Previous = &previous
	}
	defer func() {
		if err != nil {
			b.Clear()
		}
	}()
	if decodeErr != nil || b.check() != nil {
		return nil, fmt.Errorf("%w: the bundle opens, but what is in it is no bundle", ErrDamaged)
	}
	again := b.append(make([]byte, 0, maxBundleBytes))
	defer clear(again)
	if !bytes.Equal(again, plaintext) {
		return nil, fmt.Errorf("%w: the bundle opens, but what is in it is not spelt as JSON.stringify does", ErrDamaged)
	}
	return b, nil
}

func (t *keyText) key(endMs int64) BundleKey {
	return BundleKey{PrivatePEM: t.Private, PublicPEM: string(t.Public), ActivatedMs: t.Activated, EndMs: endMs}
}
