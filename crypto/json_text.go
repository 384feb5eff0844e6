package crypto

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendJSONString appends s in quotes as JavaScript's JSON.stringify prints it (WIRE 0.2): only the quote, the
// backslash and U+0000 to U+001F are escaped. encoding/json escapes more even when told not to, which would
// change every hash over a text with a line separator in it.
//
// A Go string cannot hold the lone surrogates that JavaScript strings can; the canonicaliser carries them as
// their three generalised UTF-8 bytes, and they are printed as \ud800 here. Any other invalid byte prints as
// U+FFFD, which is what JavaScript would have read.
func AppendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size != 1 {
				i += size
				continue
			}
			dst = append(dst, s[start:i]...)
			dst, size = appendInvalid(dst, s[i:])
			i += size
			start = i
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscaped(dst, c)
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

const lowerHex = "0123456789abcdef"

// appendEscaped appends the escape of one ASCII byte that needs one.
func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\t':
		return append(dst, '\\', 't')
	case '\n':
		return append(dst, '\\', 'n')
	case '\f':
		return append(dst, '\\', 'f')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&0xf])
}

// appendInvalid appends what stands for the invalid bytes at the start of s, and returns how many they are.
func appendInvalid(dst []byte, s string) ([]byte, int) {
	if r, ok := surrogateAt(s); ok {
		return append(dst, '\\', 'u', 'd', lowerHex[r>>8&0xf], lowerHex[r>>4&0xf], lowerHex[r&0xf]), 3
	}
	return utf8.AppendRune(dst, utf8.RuneError), 1
}

// surrogateAt reads a surrogate in generalised UTF-8 (ED A0..BF 80..BF), the form appendSurrogate writes.
func surrogateAt(s string) (rune, bool) {
	if len(s) < 3 || s[0] != 0xed || s[1]&0xe0 != 0xa0 || s[2]&0xc0 != 0x80 {
		return 0, false
	}
	return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), true
}

// appendSurrogate writes a lone surrogate in generalised UTF-8, which utf8.AppendRune refuses to do.
func appendSurrogate(dst []byte, r rune) []byte {
	return append(dst, 0xed, 0x80|byte(r>>6&0x3f), 0x80|byte(r&0x3f))
}

// maxSafeInteger is the largest integer up to which every integer is its own double.
const maxSafeInteger = 1<<53 - 1

// appendJSONNumber appends f as JavaScript prints a number (ECMA-262, Number::toString): shortest digits that
// read back to f, plain up to 1e21, exponents without padding. What JSON cannot say prints as null.
func appendJSONNumber(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case f == 0: // also negative zero
		return append(dst, '0')
	case math.IsInf(f, 0) || math.IsNaN(f):
		return append(dst, "null"...)
	case abs <= maxSafeInteger && f == math.Trunc(f):
		return strconv.AppendInt(dst, int64(f), 10)
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go pads the exponent to two digits, 1e-07; JavaScript does not. Large exponents have two already.
	if n := len(dst); dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
