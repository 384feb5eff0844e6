package crypto

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
)

var errBase64 = errors.New("not canonical base64 (standard alphabet, with padding)")

// strictBase64 refuses trailing bits that are not zero. The decoder of the standard library still skips line
// breaks, which decodeBase64 therefore refuses by itself.
var strictBase64 = base64.StdEncoding.Strict()

// decodeBase64 fills dst exactly from s, which must be the one canonical spelling of those bytes (RFC 4648
// section 4). Existing decoders are lenient; we are not, because a second spelling of a signature is a second
// request to anything that compares text. dst is written only when all of s is well-formed.
func decodeBase64[T string | []byte](dst []byte, s T) error {
	var short [96]byte // holds what each request brings, a signature's 88 digits, without an allocation
	var text []byte
	switch s := any(s).(type) {
	case []byte:
		text = s // no copy, it may be secret
	case string:
		text = append(short[:0], s...)
	}
	if len(text) != base64.StdEncoding.EncodedLen(len(dst)) || bytes.ContainsAny(text, "\r\n") {
		return errBase64
	}
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text))) // beyond dst by the padding
	defer clear(raw)
	n, err := strictBase64.Decode(raw, text)
	if err != nil || n != len(dst) {
		return errBase64
	}
	copy(dst, raw)
	return nil
}

// quote shows hostile text in an error: escaped, and cut so that a message stays a line.
func quote(s string) string {
	const most = 48
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
