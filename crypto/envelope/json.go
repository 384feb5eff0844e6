package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// member is one member of a JSON object and the variable that takes its value.
type member struct {
	name     string
	into     any
	optional bool
}

// readObject reads text, which must be one JSON object of these members, each at most once and none null.
// encoding/json alone would match names in any case, let the last of two win and drop what it does not know.
func readObject(text []byte, members ...member) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("%w: not valid UTF-8", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	seen := make([]bool, len(members))
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		if err != nil || !isName {
			return fmt.Errorf("%w: want a member name at byte %d", ErrMalformed, d.InputOffset())
		}
		i := slices.IndexFunc(members, func(m member) bool { return m.name == name })
		if i < 0 || seen[i] {
			return fmt.Errorf("%w: unknown or repeated member %.40q", ErrMalformed, name)
		}
		seen[i] = true
		if err := readMember(d, members[i]); err != nil {
			return err
		}
	}
	if err := readEnd(d); err != nil {
		return err
	}
	for i, m := range members {
		if !seen[i] && !m.optional {
			return fmt.Errorf("%w: %s is missing", ErrMalformed, m.name)
		}
	}
	return nil
}

func readMember(d *json.Decoder, m member) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return fmt.Errorf("%w: %s: no JSON value", ErrMalformed, m.name)
	}
	if string(raw) == "null" || json.Unmarshal(raw, m.into) != nil {
		return fmt.Errorf("%w: %s has a value of the wrong type", ErrMalformed, m.name)
	}
	return nil
}

func readEnd(d *json.Decoder) error {
	if _, err := d.Token(); err != nil { // the closing brace
		return fmt.Errorf("%w: the JSON object does not end", ErrMalformed)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something stands behind the JSON object", ErrMalformed)
	}
	return nil
}

// canonicalBase64 has one text for any bytes (RFC 4648 section 3.5), but for line breaks, which decodeBase64 refuses.
var canonicalBase64 = base64.StdEncoding.Strict()

func decodeBase64(name, text string) ([]byte, error) {
	raw, err := canonicalBase64.DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: %s is not canonical base64", ErrMalformed, name)
	}
	return raw, nil
}

// decodeFixed64 reads the base64 of exactly size bytes.
func decodeFixed64(name, text string, size int) ([]byte, error) {
	raw, err := decodeBase64(name, text)
	if err == nil && len(raw) != size {
		err = fmt.Errorf("%w: %s has %d bytes, want %d", ErrMalformed, name, len(raw), size)
	}
	return raw, err
}

// decodeHex reads exactly size bytes in lower-case hex, their one spelling.
func decodeHex(name, text string, size int) ([]byte, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != size || hex.EncodeToString(raw) != text {
		return nil, fmt.Errorf("%w: %s is not %d bytes in lower-case hex", ErrMalformed, name, size)
	}
	return raw, nil
}

func encode64(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }
