package manifest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/edgecoder/edgecoder/crypto"
)

// MaxReleaseBytes bounds the JSON of a release manifest: a few hundred artifacts.
const MaxReleaseBytes = 64 << 10

// Release is a release manifest of WIRE 21. It names no source and no expiry, so
// like Legacy it is verified, and never accepted by a cluster.
type Release struct {
	Version      string            `json:"version"`
	Artifacts    []ReleaseArtifact `json:"artifacts"`
	DistTreeHash string            `json:"distTreeHash"` // see DistTreeHash
	Timestamp    string            `json:"timestamp"`
}

// ReleaseArtifact is a file of a release.
type ReleaseArtifact struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // hex
}

// ParseRelease reads a release manifest, pretty-printed or not. Members that its
// signed text does not cover are refused.
func ParseRelease(text []byte) (Release, error) {
	var r Release
	if len(text) > MaxReleaseBytes {
		return r, fmt.Errorf("release manifest: %d bytes, at most %d", len(text), MaxReleaseBytes)
	}
	canonical, err := crypto.CanonicalJSON(text)
	if err != nil {
		return r, fmt.Errorf("release manifest: %w", err)
	}
	if err := json.Unmarshal(canonical, &r); err != nil {
		return r, fmt.Errorf("release manifest: %w", err)
	}
	if string(r.Text()) != string(canonical) {
		return r, errors.New("release manifest: want the members version, artifacts (name, sha256), distTreeHash and timestamp, in this order, and no others")
	}
	return r, nil
}

// Text returns the compact JSON that is signed.
func (r Release) Text() []byte {
	out := crypto.AppendJSONString([]byte(`{"version":`), r.Version)
	out = append(out, `,"artifacts":[`...)
	for i, a := range r.Artifacts {
		if i > 0 {
			out = append(out, ',')
		}
		out = crypto.AppendJSONString(append(out, `{"name":`...), a.Name)
		out = crypto.AppendJSONString(append(out, `,"sha256":`...), a.SHA256)
		out = append(out, '}')
	}
	out = crypto.AppendJSONString(append(out, `],"distTreeHash":`...), r.DistTreeHash)
	out = crypto.AppendJSONString(append(out, `,"timestamp":`...), r.Timestamp)
	return append(out, '}')
}

// SignedBy tells whether the base64 signature over the compact text is by the
// key. The reference's own builds signed the pretty-printed text, which its
// verifier never took; nor do we.
func (r Release) SignedBy(key crypto.PublicKey, signature string) bool {
	sig, err := decodeSignature(signature)
	return err == nil && crypto.Verify(key, r.Text(), sig)
}

// DistTreeHash returns the hash of a tree of files, by relative path with
// slashes: SHA-256 over path, NUL, hex digest and newline of each, in the order
// of UTF-16 code units (WIRE 21).
func DistTreeHash(files map[string]crypto.Hash) crypto.Hash {
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int {
		return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
	})
	var text []byte
	for _, p := range paths {
		text = append(append(text, p...), 0)
		text = append(append(text, files[p].String()...), '\n')
	}
	return crypto.Sum(text)
}

// decodeSignature reads the canonical base64 of a signature.
func decodeSignature(text string) ([]byte, error) {
	sig, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(sig) != crypto.SignatureSize || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("no canonical base64 of %d bytes", crypto.SignatureSize)
	}
	return sig, nil
}
