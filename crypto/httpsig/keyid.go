package httpsig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

const upperHex = "0123456789ABCDEF"

// keyIDDigits is the length of crypto.PublicKey.KeyID.
const keyIDDigits = 16

// KeyID returns the keyid of an agent's key: the agent id, a colon, and the key's id of 16 lower-case hex digits.
// Of the agent id every byte but letters, digits and -._~ is percent-encoded with upper-case digits (RFC 3986
// section 2.1), so that any id fits a string of ASCII and none has a colon of its own.
func KeyID(agentID string, pub crypto.PublicKey) string {
	return escape(agentID) + ":" + pub.KeyID()
}

func escape(id string) string {
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&0xf]})
		}
	}
	return b.String()
}

// parseKeyID reads what [KeyID] writes, and nothing else.
func parseKeyID(s string) (agentID, keyID string, err error) {
	escaped, keyID, ok := strings.Cut(s, ":")
	if !ok || len(keyID) != keyIDDigits || strings.Trim(keyID, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("%q: want the agent id, a colon and the %d lower-case hex digits of the key id", cut(s), keyIDDigits)
	}
	agentID, ok = unescape(escaped)
	if !ok || escape(agentID) != escaped {
		return "", "", errors.New("the agent id is not percent-encoded in the one way: all but letters, digits and -._~, in upper-case hex")
	}
	return agentID, keyID, crypto.CheckID(agentID)
}

func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), true
}

// cut shortens hostile text for an error.
func cut(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
