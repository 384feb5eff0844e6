package crypto

import (
	"errors"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// parseTimestamp reads ^(0|[1-9][0-9]{0,15})$. One spelling only: the text is part of what was signed, and we
// print it again from the number.
func parseTimestamp(s string) (int64, error) {
	if !plainDecimal(s) {
		return 0, fmt.Errorf("%s is not a plain decimal of at most %d digits", quote(s), maxTimeDigits)
	}
	return strconv.ParseInt(s, 10, 64)
}

// plainDecimal reports whether s is zero or up to 16 digits without sign or leading zero.
func plainDecimal(s string) bool {
	if s == "" || len(s) > maxTimeDigits || (s[0] == '0' && s != "0") {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// CheckNonce accepts 1 to [MaxNonceBytes] bytes of printable ASCII without spaces.
func CheckNonce(nonce string) error {
	if nonce == "" || len(nonce) > MaxNonceBytes {
		return fmt.Errorf("%d bytes, want 1 to %d", len(nonce), MaxNonceBytes)
	}
	for i := range len(nonce) {
		if nonce[i] <= ' ' || nonce[i] > '~' {
			return fmt.Errorf("%s: only printable ASCII without spaces", quote(nonce))
		}
	}
	return nil
}

// CheckMethod accepts the methods of HTTP as they are registered: upper-case letters.
func CheckMethod(method string) error {
	if method == "" || len(method) > maxMethodBytes {
		return fmt.Errorf("%s: want 1 to %d upper-case letters", quote(method), maxMethodBytes)
	}
	for i := range len(method) {
		if method[i] < 'A' || method[i] > 'Z' {
			return fmt.Errorf("%s: want 1 to %d upper-case letters", quote(method), maxMethodBytes)
		}
	}
	return nil
}

// checkPath keeps out what could move the newline that ends the path in the signed text, or hide in a log.
func checkPath(path string) error {
	switch {
	case path == "" || path[0] != '/':
		return fmt.Errorf("%s does not begin with a slash", quote(path))
	case len(path) > MaxPathBytes:
		return fmt.Errorf("%d bytes, at most %d", len(path), MaxPathBytes)
	case !utf8.ValidString(path):
		return errors.New("not valid UTF-8")
	}
	for _, r := range path {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return fmt.Errorf("%s: control character or space", quote(path))
		}
	}
	return nil
}
