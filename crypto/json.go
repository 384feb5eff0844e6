package crypto

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// CanonicalJSON returns JSON.stringify(JSON.parse(text)) of JavaScript, the form in which the wire formats hash
// and sign JSON (WIRE 0.2): no white space, numbers as doubles, members in order of appearance except that array
// indices come first in ascending order, and of duplicate members the last value at the first place. All of text
// must be one value, in UTF-8, nested at most 64 deep. The caller bounds its length.
//
// The form loses what JavaScript loses: many texts share one canonical form, numbers beyond a double print as
// null. Act on the canonical bytes, not on the received ones.
func CanonicalJSON(text []byte) ([]byte, error) {
	scanner, err := newJSONScanner(text)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	out, err := scanner.canonical(make([]byte, 0, len(text)))
	if err == nil {
		err = scanner.end()
	}
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out, nil
}

// canonical reads one value and appends its canonical form.
func (s *jsonScanner) canonical(dst []byte) ([]byte, error) {
	switch c := s.next(); {
	case c == '{':
		return s.canonicalObject(dst)
	case c == '[':
		return s.canonicalArray(dst)
	case c == '"':
		decoded, err := s.str()
		return AppendJSONString(dst, decoded), err
	case c == 't':
		return append(dst, "true"...), s.literal("true")
	case c == 'f':
		return append(dst, "false"...), s.literal("false")
	case c == 'n':
		return append(dst, "null"...), s.literal("null")
	case c == '-' || ('0' <= c && c <= '9'):
		return s.canonicalNumber(dst)
	}
	return dst, s.unexpected("a value")
}

func (s *jsonScanner) canonicalNumber(dst []byte) ([]byte, error) {
	digits, err := s.number()
	if err != nil {
		return dst, err
	}
	// The grammar was checked; the only error left is out of range, which leaves an infinity, as in JavaScript.
	f, _ := strconv.ParseFloat(digits, 64)
	return appendJSONNumber(dst, f), nil
}

func (s *jsonScanner) canonicalArray(dst []byte) ([]byte, error) {
	dst = append(dst, '[')
	first := true
	err := s.array(func() (err error) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst, err = s.canonical(dst)
		return err
	})
	return append(dst, ']'), err
}

// jsonMember is one member of an object while it waits for its place.
type jsonMember struct {
	key     string
	value   []byte // canonical
	index   uint64 // of an array index key
	isIndex bool
}

func (s *jsonScanner) canonicalObject(dst []byte) ([]byte, error) {
	var members []jsonMember
	place := make(map[string]int)
	err := s.object(func(key string) error {
		value, err := s.canonical(nil)
		if err != nil {
			return err
		}
		if i, seen := place[key]; seen {
			members[i].value = value
			return nil
		}
		place[key] = len(members)
		index, isIndex := arrayIndex(key)
		members = append(members, jsonMember{key: key, value: value, index: index, isIndex: isIndex})
		return nil
	})
	slices.SortStableFunc(members, byPropertyOrder)
	dst = append(dst, '{')
	for i, member := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONString(dst, member.key)
		dst = append(dst, ':')
		dst = append(dst, member.value...)
	}
	return append(dst, '}'), err
}

// byPropertyOrder is the order of own properties in JavaScript (ECMA-262, OrdinaryOwnPropertyKeys).
func byPropertyOrder(a, b jsonMember) int {
	switch {
	case a.isIndex && b.isIndex:
		return cmp.Compare(a.index, b.index)
	case a.isIndex:
		return -1
	case b.isIndex:
		return 1
	}
	return 0
}

// arrayIndex reports whether key is the canonical spelling of an array index, "0" to "4294967294".
func arrayIndex(key string) (uint64, bool) {
	if len(key) > 10 || !plainDecimal(key) {
		return 0, false
	}
	index, err := strconv.ParseUint(key, 10, 64)
	return index, err == nil && index < 1<<32-1
}
