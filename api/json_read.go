package api

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/edgecoder/edgecoder/client"
)

// jsonReader reads one JSON text (RFC 8259) and accepts exactly one reading of
// it: encoding/json would match names in any case, take the last of duplicate
// names and mend broken UTF-8, so that two readers could see two requests.
// Strings without escapes share the text.
type jsonReader struct {
	text    string
	at      int
	lenient bool // skip unknown members (WIRE.md routes)
}

// jsonFault says what is wrong with which member.
type jsonFault struct {
	field    string
	what     string
	tooLarge bool
}

// apiError is the fault as the caller gets it.
func (f *jsonFault) apiError() error {
	e := &client.Error{Code: client.CodeInvalid, Field: f.field, Detail: f.what}
	if f.tooLarge {
		e.Code = client.CodeTooLarge
	}
	if e.Field == "" {
		e.Field = "body"
	}
	return e
}

// under names the member in which the fault is.
func (f *jsonFault) under(name string) *jsonFault {
	switch {
	case f.field == "":
		f.field = name
	case strings.HasPrefix(f.field, "["):
		f.field = name + f.field
	default:
		f.field = name + "." + f.field
	}
	return f
}

func (r *jsonReader) fault(format string, args ...any) *jsonFault {
	return &jsonFault{what: fmt.Sprintf(format, args...) + fmt.Sprintf(" (at byte %d)", r.at)}
}

// next skips white space and returns the next byte without taking it; 0 at the end.
func (r *jsonReader) next() byte {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) accept(c byte) bool {
	if r.next() != c || r.at >= len(r.text) {
		return false
	}
	r.at++
	return true
}

// end refuses anything after the document.
func (r *jsonReader) end() *jsonFault {
	if r.next() != 0 || r.at < len(r.text) {
		return r.fault("trailing data after the JSON value")
	}
	return nil
}

// found names what stands where something else belongs.
func (r *jsonReader) found() string {
	switch c := r.next(); {
	case r.at >= len(r.text):
		return "the end"
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '-' || (c >= '0' && c <= '9'):
		return "a number"
	case strings.HasPrefix(r.text[r.at:], "null"):
		return "null"
	case strings.HasPrefix(r.text[r.at:], "true"), strings.HasPrefix(r.text[r.at:], "false"):
		return "a boolean"
	default:
		return "malformed JSON"
	}
}

// object calls member for each name, positioned at its value.
func (r *jsonReader) object(member func(name string) *jsonFault) *jsonFault {
	if !r.accept('{') {
		return r.fault("want an object, found %s", r.found())
	}
	if r.accept('}') {
		return nil
	}
	for {
		name, f := r.str()
		if f != nil {
			return f
		}
		if !r.accept(':') {
			return r.fault("want a colon after the name, found %s", r.found())
		}
		if f := member(name); f != nil {
			return f
		}
		if r.accept('}') {
			return nil
		}
		if !r.accept(',') {
			return r.fault("want a comma or a closing brace, found %s", r.found())
		}
	}
}

// array calls element for each element, positioned at it.
func (r *jsonReader) array(element func(i int) *jsonFault) *jsonFault {
	if !r.accept('[') {
		return r.fault("want an array, found %s", r.found())
	}
	if r.accept(']') {
		return nil
	}
	for i := 0; ; i++ {
		if f := element(i); f != nil {
			return f
		}
		if r.accept(']') {
			return nil
		}
		if !r.accept(',') {
			return r.fault("want a comma or a closing bracket, found %s", r.found())
		}
	}
}

// str reads a string. Without escapes it is a piece of the text.
func (r *jsonReader) str() (string, *jsonFault) {
	if !r.accept('"') {
		return "", r.fault("want a string, found %s", r.found())
	}
	start, ascii := r.at, true
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			s := r.text[start:r.at]
			r.at++
			if !ascii && !utf8.ValidString(s) {
				return "", r.fault("the string is not valid UTF-8")
			}
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return "", r.fault("a control character in a string must be escaped")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		r.at++
	}
	return "", r.fault("the string does not end")
}

// escaped goes on with a string at its first escape.
func (r *jsonReader) escaped(start int) (string, *jsonFault) {
	out := []byte(r.text[start:r.at])
	for r.at < len(r.text) {
		c := r.text[r.at]
		switch {
		case c == '"':
			r.at++
			if !utf8.Valid(out) {
				return "", r.fault("the string is not valid UTF-8")
			}
			return string(out), nil
		case c < ' ':
			return "", r.fault("a control character in a string must be escaped")
		case c != '\\':
			out = append(out, c)
			r.at++
			continue
		}
		var f *jsonFault
		if out, f = r.escape(out); f != nil {
			return "", f
		}
	}
	return "", r.fault("the string does not end")
}

func (r *jsonReader) escape(out []byte) ([]byte, *jsonFault) {
	if r.at+1 >= len(r.text) {
		return nil, r.fault("the string does not end")
	}
	c := r.text[r.at+1]
	if c == 'u' {
		return r.unicodeEscape(out)
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 {
		return nil, r.fault("no such escape: \\%s", quote(string(rune(c))))
	}
	r.at += 2
	return append(out, "\"\\/\b\f\n\r\t"[i]), nil
}

// unicodeEscape refuses halves of surrogate pairs: they are no characters, and
// readers mend them in different ways.
func (r *jsonReader) unicodeEscape(out []byte) ([]byte, *jsonFault) {
	u, ok := r.hex4()
	if !ok {
		return nil, r.fault("\\u needs four hex digits")
	}
	if utf16.IsSurrogate(u) {
		low, ok := r.hex4()
		if !ok {
			return nil, r.fault("half a surrogate pair")
		}
		if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
			return nil, r.fault("half a surrogate pair")
		}
	}
	return utf8.AppendRune(out, u), nil
}

func (r *jsonReader) hex4() (rune, bool) {
	if r.at+6 > len(r.text) || r.text[r.at] != '\\' || r.text[r.at+1] != 'u' {
		return 0, false
	}
	digits := r.text[r.at+2 : r.at+6]
	if strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 16)
	if err != nil {
		return 0, false
	}
	r.at += 6
	return rune(n), true
}

// number takes the text of a number by the grammar of RFC 8259.
func (r *jsonReader) number() (string, *jsonFault) {
	if c := r.next(); c != '-' && (c < '0' || c > '9') {
		return "", r.fault("want a number, found %s", r.found())
	}
	start := r.at
	if r.text[r.at] == '-' {
		r.at++
	}
	zero := r.at < len(r.text) && r.text[r.at] == '0'
	if n := r.digits(); n == 0 || (zero && n > 1) {
		return "", r.fault("malformed number")
	}
	if r.at < len(r.text) && r.text[r.at] == '.' {
		r.at++
		if r.digits() == 0 {
			return "", r.fault("malformed number")
		}
	}
	if r.at < len(r.text) && (r.text[r.at] == 'e' || r.text[r.at] == 'E') {
		r.at++
		if r.at < len(r.text) && (r.text[r.at] == '+' || r.text[r.at] == '-') {
			r.at++
		}
		if r.digits() == 0 {
			return "", r.fault("malformed number")
		}
	}
	return r.text[start:r.at], nil
}

func (r *jsonReader) digits() int {
	start := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at - start
}

func (r *jsonReader) literal(word string) bool {
	r.next()
	if !strings.HasPrefix(r.text[r.at:], word) {
		return false
	}
	r.at += len(word)
	return true
}

// maxSkipDepth bounds what a lenient reader skips.
const maxSkipDepth = 32

// skip passes over any value.
func (r *jsonReader) skip(depth int) *jsonFault {
	if depth > maxSkipDepth {
		return r.fault("nested deeper than %d", maxSkipDepth)
	}
	var f *jsonFault
	switch c := r.next(); c {
	case '{':
		return r.object(func(name string) *jsonFault {
			if name == "__proto__" {
				return r.fault("a member __proto__ is refused")
			}
			return r.skip(depth + 1)
		})
	case '[':
		return r.array(func(int) *jsonFault { return r.skip(depth + 1) })
	case '"':
		_, f = r.str()
	case 't', 'f', 'n':
		if !r.literal("true") && !r.literal("false") && !r.literal("null") {
			f = r.fault("want a value, found malformed JSON")
		}
	default:
		_, f = r.number()
	}
	return f
}
