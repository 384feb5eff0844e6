package crypto

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// jsonDepth bounds nesting, so that hostile text cannot grow the stack.
const jsonDepth = 64

var errJSONDepth = fmt.Errorf("nested deeper than %d", jsonDepth)

// jsonScanner reads JSON text (RFC 8259) front to back, strictly. It is what the canonicaliser and the parsers of
// wire records share; encoding/json would hide duplicate members, member order and lone surrogates from them.
type jsonScanner struct {
	text  string
	pos   int
	depth int
}

// newJSONScanner refuses text that is not UTF-8, so that later steps need not look again.
func newJSONScanner(text []byte) (*jsonScanner, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	return &jsonScanner{text: string(text)}, nil
}

// fail says what is wrong and where.
func (s *jsonScanner) fail(format string, args ...any) error {
	return fmt.Errorf("offset %d: "+format, append([]any{s.pos}, args...)...)
}

// unexpected names the byte that stands where something else was wanted.
func (s *jsonScanner) unexpected(want string) error {
	if s.pos >= len(s.text) {
		return s.fail("text ends, want %s", want)
	}
	return s.fail("%q, want %s", s.text[s.pos], want)
}

// next skips white space and returns the byte there, or 0 at the end. (A raw NUL is no JSON either.)
func (s *jsonScanner) next() byte {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// accept steps over c if it is next.
func (s *jsonScanner) accept(c byte) bool {
	if s.next() != c {
		return false
	}
	s.pos++
	return true
}

// end demands that nothing but white space is left.
func (s *jsonScanner) end() error {
	if s.next(); s.pos < len(s.text) {
		return s.unexpected("the end")
	}
	return nil
}

// literal steps over true, false or null.
func (s *jsonScanner) literal(word string) error {
	if len(s.text)-s.pos < len(word) || s.text[s.pos:s.pos+len(word)] != word {
		return s.unexpected(word)
	}
	s.pos += len(word)
	return nil
}

// object reads an object and calls member with each key; member must read the value.
func (s *jsonScanner) object(member func(key string) error) error {
	return s.sequence('{', '}', "'{'", func() error {
		if s.next() != '"' {
			return s.unexpected("a member name")
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if !s.accept(':') {
			return s.unexpected("':'")
		}
		return member(key)
	})
}

// array reads an array and calls element before each; element must read the value.
func (s *jsonScanner) array(element func() error) error {
	return s.sequence('[', ']', "'['", element)
}

// sequence reads entries separated by commas between two brackets.
func (s *jsonScanner) sequence(open, closing byte, want string, entry func() error) error {
	if !s.accept(open) {
		return s.unexpected(want)
	}
	if s.depth++; s.depth > jsonDepth {
		return s.fail("%w", errJSONDepth)
	}
	defer func() { s.depth-- }()
	if s.accept(closing) {
		return nil
	}
	for {
		if err := entry(); err != nil {
			return err
		}
		if s.accept(closing) {
			return nil
		}
		if !s.accept(',') {
			return s.unexpected(fmt.Sprintf("',' or %q", closing))
		}
	}
}

// number returns the text of a number, checked against the grammar of RFC 8259 section 6.
func (s *jsonScanner) number() (string, error) {
	s.next()
	start := s.pos
	s.skip('-')
	if !s.skip('0') && s.digits() == 0 {
		return "", s.unexpected("a digit")
	}
	if s.skip('.') && s.digits() == 0 {
		return "", s.unexpected("a digit")
	}
	if s.skip('e') || s.skip('E') {
		if !s.skip('+') {
			s.skip('-')
		}
		if s.digits() == 0 {
			return "", s.unexpected("a digit")
		}
	}
	return s.text[start:s.pos], nil
}

func (s *jsonScanner) skip(c byte) bool {
	if s.pos < len(s.text) && s.text[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *jsonScanner) digits() (n int) {
	for s.pos < len(s.text) && '0' <= s.text[s.pos] && s.text[s.pos] <= '9' {
		s.pos++
		n++
	}
	return n
}
