package envelope

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// member is one member of a JSON object and the variable that takes its value.
type member struct {
	name     string
	into     any
	optional bool
}

// readObject reads text, which must be one JSON object of these members, each at most once and none null.
func readObject(text []byte, members ...member) error {
	seen := make([]bool, len(members))
	err := crypto.EachJSONMember(text, func(name string, value json.RawMessage) error {
		i := slices.IndexFunc(members, func(m member) bool { return m.name == name })
		if i < 0 {
			return fmt.Errorf("unknown member %.40q", name)
		}
		seen[i] = true
		if string(value) == "null" || json.Unmarshal(value, members[i].into) != nil {
			return fmt.Errorf("%s has a value of the wrong type", name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for i, m := range members {
		if !seen[i] && !m.optional {
			return fmt.Errorf("%w: %s is missing", ErrMalformed, m.name)
		}
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
