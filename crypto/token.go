package crypto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// tokenPrefix begins every token's text, so that secret scanners find leaked ones.
const tokenPrefix = "edgc"

// ErrToken is wrapped by every refusal to parse a token's text.
var ErrToken = errors.New("this is no EdgeCoder token")

// TokenText is the parts of a token's text:
// edgc_<cluster id>_<role>_<token id>_<secret>[_<ca pin>[_<set>_<set hash>]]. All
// but role and set, a decimal, are lower-case hex. Only the SHA-256 of the whole
// text is ever stored.
type TokenText struct {
	ClusterID string // 32 hex digits
	Role      string
	ID        string // 16 hex digits
	Secret    string // 64 hex digits: 256 random bits
	Pin       string // of join and enrolment tokens: SHA-256 of the cluster CA certificate
	// Set and SetHash, of tokens that let edges join, are version and hash of the
	// cosigner set in force when it was made: whom the edge believes, whatever the
	// one that it asks may tell it.
	Set     uint64
	SetHash Hash
}

// NewClusterID returns 128 random bits in hex.
func NewClusterID(rand io.Reader) (string, error) { return randomHex(rand, 16) }

// NewTokenText returns a token with a fresh id and secret.
func NewTokenText(rand io.Reader, clusterID, role, pin string) (TokenText, error) {
	id, err := randomHex(rand, 8)
	if err != nil {
		return TokenText{}, err
	}
	secret, err := randomHex(rand, 32)
	if err != nil {
		return TokenText{}, err
	}
	return TokenText{ClusterID: clusterID, Role: role, ID: id, Secret: secret, Pin: pin}, nil
}

func randomHex(rand io.Reader, n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(rand, b); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// String returns the token's text, a secret.
func (t TokenText) String() string {
	parts := []string{tokenPrefix, t.ClusterID, t.Role, t.ID, t.Secret}
	if t.Pin != "" {
		parts = append(parts, t.Pin)
		if t.Set != 0 {
			parts = append(parts, strconv.FormatUint(t.Set, 10), t.SetHash.String())
		}
	}
	return strings.Join(parts, "_")
}

// Hash returns what the cluster stores of the token.
func (t TokenText) Hash() Hash { return Sum([]byte(t.String())) }

// ParseTokenText parses a token's text. It says nothing of its validity.
func ParseTokenText(text string) (TokenText, error) {
	parts := strings.Split(text, "_")
	if n := len(parts); n != 5 && n != 6 && n != 8 || parts[0] != tokenPrefix {
		return TokenText{}, fmt.Errorf("%w: want %s_<cluster>_<role>_<id>_<secret>", ErrToken, tokenPrefix)
	}
	t := TokenText{ClusterID: parts[1], Role: parts[2], ID: parts[3], Secret: parts[4]}
	if len(parts) > 5 {
		t.Pin = parts[5]
	}
	if len(parts) == 8 {
		if err := t.parseSet(parts[6], parts[7]); err != nil {
			return TokenText{}, err
		}
	}
	for _, f := range []struct {
		name, v string
		digits  int
	}{{"cluster id", t.ClusterID, 32}, {"token id", t.ID, 16}, {"secret", t.Secret, 64}, {"ca pin", t.Pin, 64}} {
		if f.name == "ca pin" && len(parts) == 5 {
			continue
		}
		if len(f.v) != f.digits || strings.Trim(f.v, "0123456789abcdef") != "" {
			return TokenText{}, fmt.Errorf("%w: its %s is not %d hex digits", ErrToken, f.name, f.digits)
		}
	}
	if t.Role == "" || len(t.Role) > 16 || strings.Trim(t.Role, "abcdefghijklmnopqrstuvwxyz") != "" {
		return TokenText{}, fmt.Errorf("%w: its role is not a word", ErrToken)
	}
	return t, nil
}

func (t *TokenText) parseSet(version, hash string) (err error) {
	t.Set, err = strconv.ParseUint(version, 10, 64)
	if err != nil || t.Set == 0 || strconv.FormatUint(t.Set, 10) != version {
		return fmt.Errorf("%w: its cosigner set is no version from 1 on", ErrToken)
	}
	if t.SetHash, err = ParseHash(hash); err != nil {
		return fmt.Errorf("%w: the hash of its cosigner set: %w", ErrToken, err)
	}
	return nil
}
