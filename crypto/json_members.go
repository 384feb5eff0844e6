package crypto

import (
	"encoding/json"
	"errors"
)

// EachJSONMember reads text, which must be one JSON object in UTF-8 with nothing behind it, and calls member for
// each of its members in order, with the name as it decodes and the text of the value. A name that comes twice is
// refused, since two readers could take different ones; encoding/json would let the last win, and match names in any
// case. The caller bounds the length of text, and says which names it knows.
func EachJSONMember(text []byte, member func(name string, value json.RawMessage) error) error {
	s, err := newJSONScanner(text)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	err = s.object(func(name string) error {
		if seen[name] {
			return s.fail("member %.40q comes twice", name)
		}
		seen[name] = true
		value, err := s.raw()
		if err != nil {
			return err
		}
		return member(name, value)
	})
	if err != nil {
		return err
	}
	return s.end()
}

// JSONText decodes the value of a member that must be a string.
func JSONText(value json.RawMessage) (text string, err error) {
	if len(value) == 0 || value[0] != '"' {
		return "", errors.New("not a string") // the value may be a secret
	}
	err = json.Unmarshal(value, &text)
	return text, err
}

// raw reads one value and returns its text.
func (s *jsonScanner) raw() (json.RawMessage, error) {
	s.next()
	start := s.pos
	if _, err := s.canonical(nil); err != nil {
		return nil, err
	}
	return json.RawMessage(s.text[start:s.pos]), nil
}
