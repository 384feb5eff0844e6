package httpsig

import (
	"encoding/base64"
	"errors"

	"github.com/dunglas/httpsfv"

	"github.com/edgecoder/edgecoder/crypto"
)

// digestAlgorithm is the one that must be there (RFC 9530 section 5).
const digestAlgorithm = "sha-256"

// ContentDigest returns the value of the Content-Digest header for a body of this hash (RFC 9530 section 2).
func ContentDigest(body crypto.Hash) string {
	return byteSequence(digestAlgorithm, body[:])
}

// byteSequence is a dictionary of one byte sequence (RFC 9651 section 4.1.8).
func byteSequence(name string, b []byte) string {
	return name + "=:" + base64.StdEncoding.EncodeToString(b) + ":"
}

// ParseContentDigest returns the SHA-256 of the body that a Content-Digest header names. Other algorithms beside
// it are left alone.
func ParseContentDigest(value string) (body crypto.Hash, err error) {
	d, err := dictionary(HeaderContentDigest, trimmed(value))
	if err != nil {
		return crypto.Hash{}, err
	}
	member, ok := d.Get(digestAlgorithm)
	if !ok {
		return crypto.Hash{}, malformed(HeaderContentDigest, errors.New("no member sha-256"))
	}
	raw, ok := plainBytes(member)
	if !ok || len(raw) != crypto.HashSize {
		return crypto.Hash{}, malformed(HeaderContentDigest, errors.New("sha-256 is not a byte sequence of 32 bytes"))
	}
	return crypto.Hash(raw), nil
}

// plainBytes returns a byte sequence without parameters.
func plainBytes(member httpsfv.Member) ([]byte, bool) {
	item, ok := member.(httpsfv.Item)
	if !ok || len(item.Params.Names()) > 0 {
		return nil, false
	}
	raw, ok := item.Value.([]byte)
	return raw, ok
}
