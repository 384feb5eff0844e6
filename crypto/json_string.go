package crypto

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string and decodes its escapes. Lone surrogates come out in generalised UTF-8, see
// AppendJSONString; in text that was valid UTF-8 they can only come from escapes.
func (s *jsonScanner) str() (string, error) {
	if !s.accept('"') {
		return "", s.unexpected("a string")
	}
	rest := s.text[s.pos:]
	plain := strings.IndexAny(rest, "\"\\")
	if plain < 0 {
		s.pos = len(s.text)
		return "", s.unexpected("a closing quote")
	}
	if err := s.checkNoControl(rest[:plain]); err != nil {
		return "", err
	}
	s.pos += plain
	if s.skip('"') {
		return rest[:plain], nil
	}
	return s.escapedString([]byte(rest[:plain]))
}

func (s *jsonScanner) checkNoControl(part string) error {
	for i := range len(part) {
		if part[i] < ' ' {
			s.pos += i
			return s.fail("unescaped control character in a string")
		}
	}
	return nil
}

// escapedString goes on after the first stretch without escapes.
func (s *jsonScanner) escapedString(out []byte) (string, error) {
	for s.pos < len(s.text) {
		c := s.text[s.pos]
		s.pos++
		switch {
		case c == '"':
			return string(out), nil
		case c == '\\':
			var err error
			if out, err = s.escape(out); err != nil {
				return "", err
			}
		case c < ' ':
			s.pos--
			return "", s.fail("unescaped control character in a string")
		default:
			out = append(out, c)
		}
	}
	return "", s.unexpected("a closing quote")
}

// escape decodes what follows a backslash.
func (s *jsonScanner) escape(out []byte) ([]byte, error) {
	if s.pos >= len(s.text) {
		return nil, s.unexpected("an escape")
	}
	if s.text[s.pos] == 'u' {
		s.pos++
		return s.unicodeEscape(out)
	}
	const names, values = "\"\\/bfnrt", "\"\\/\b\f\n\r\t"
	i := strings.IndexByte(names, s.text[s.pos])
	if i < 0 {
		return nil, s.unexpected("an escape")
	}
	s.pos++
	return append(out, values[i]), nil
}

// unicodeEscape decodes the four digits after \u, and joins a pair of surrogates into one character.
func (s *jsonScanner) unicodeEscape(out []byte) ([]byte, error) {
	r, ok := hex4(s.text[s.pos:])
	if !ok {
		return nil, s.unexpected("four hex digits")
	}
	s.pos += 4
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(out, r), nil
	}
	if rest := s.text[s.pos:]; strings.HasPrefix(rest, `\u`) {
		if low, ok := hex4(rest[2:]); ok {
			if joined := utf16.DecodeRune(r, low); joined != utf8.RuneError {
				s.pos += 6
				return utf8.AppendRune(out, joined), nil
			}
		}
	}
	return appendSurrogate(out, r), nil
}

// hex4 reads four hex digits of either case, as JSON allows.
func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := s[i]
		if 'A' <= c && c <= 'F' {
			c += 'a' - 'A'
		}
		d := hexDigit(c)
		if d > 0xf {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}
