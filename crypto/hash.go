package crypto

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

// HashSize is the length of a [Hash] in bytes.
const HashSize = sha256.Size

// Hash is a SHA-256 digest. On the wire and in logs it is 64 lower-case hex digits (WIRE 0.1).
type Hash [HashSize]byte

// Sum returns the SHA-256 digest of b.
func Sum(b []byte) Hash { return sha256.Sum256(b) }

// ParseHash reads exactly 64 lower-case hex digits. Upper case is refused: hashes are compared and signed as
// text in the wire formats, so a digest must have one spelling.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*HashSize {
		return Hash{}, fmt.Errorf("want %d lower-case hex digits, got %d bytes", 2*HashSize, len(s))
	}
	for i := range h {
		hi, lo := hexDigit(s[2*i]), hexDigit(s[2*i+1])
		if hi > 0xf || lo > 0xf {
			return Hash{}, fmt.Errorf("%s is not lower-case hex", quote(s))
		}
		h[i] = hi<<4 | lo
	}
	return h, nil
}

// String returns the 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is the zero value, which stands for "no hash".
func (h Hash) IsZero() bool { return h == Hash{} }

// Equal compares in constant time. Use it wherever h stands for a secret, such as the digest of a token;
// comparing digests of fixed length leaks neither content nor length.
func (h Hash) Equal(other Hash) bool { return subtle.ConstantTimeCompare(h[:], other[:]) == 1 }

// MarshalText returns the 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) { return h.appendHex(nil), nil }

// UnmarshalText reads what [ParseHash] reads, and leaves h alone on error.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

func (h Hash) appendHex(dst []byte) []byte { return hex.AppendEncode(dst, h[:]) }

// hexDigit returns the value of a lower-case hex digit, or 0xff for any other byte.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
