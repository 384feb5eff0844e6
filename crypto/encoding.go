package crypto

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

var errBase64 = errors.New("not canonical base64 (standard alphabet, with padding)")

// strictBase64 refuses trailing bits that are not zero. The decoder of the standard library still skips line
// breaks, which decodeBase64 therefore refuses by itself.
var strictBase64 = base64.StdEncoding.Strict()

// decodeBase64 fills dst exactly from s, which must be the one canonical spelling of those bytes (RFC 4648
// section 4). Existing decoders are lenient; we are not, because a second spelling of a signature is a second
// request to anything that compares text. dst is written only when all of s is well-formed.
func decodeBase64(dst []byte, s string) error {
	if len(s) != base64.StdEncoding.EncodedLen(len(dst)) || strings.ContainsAny(s, "\r\n") {
		return errBase64
	}
	raw, err := strictBase64.DecodeString(s)
	if err != nil || len(raw) != len(dst) {
		clear(raw)
		return errBase64
	}
	copy(dst, raw)
	clear(raw)
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
