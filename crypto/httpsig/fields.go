package httpsig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"

	"github.com/edgecoder/edgecoder/crypto"
)

// The headers of the profile, as lower-case names.
const (
	HeaderSignatureInput = "signature-input"
	HeaderSignature      = "signature"
	HeaderContentDigest  = "content-digest"
	HeaderHost           = "host" // where "@authority" is taken from; not a header of ours
)

// Tag marks our signatures among those of others (RFC 9421 section 2.3).
const Tag = "edgecoder"

// MaxLifetime is how many seconds expires may lie after created: as wide as the widest acceptance window, after
// which nobody admits the request anyhow.
const MaxLifetime = 3600

const (
	// maxFieldBytes bounds each field: ours take some 300 bytes, and other parties' signatures stand in the same ones.
	maxFieldBytes = 8 << 10
	// maxSeconds keeps milliseconds below 2^53, which every JSON reader holds exactly.
	maxSeconds = (1<<53 - 1) / 1000
)

var errNotCanonical = errors.New("not the canonical form of a structured field (RFC 9651 section 4.1), or a member given twice")

// dictionary reads a structured field that is a dictionary, in its one spelling.
func dictionary(name, text string) (*httpsfv.Dictionary, error) {
	if len(text) > maxFieldBytes {
		return nil, malformed(name, fmt.Errorf("%d bytes, at most %d", len(text), maxFieldBytes))
	}
	d, err := httpsfv.UnmarshalDictionary([]string{text})
	if err != nil {
		return nil, malformed(name, fmt.Errorf("no dictionary of structured fields: %w", err))
	}
	if again, err := httpsfv.Marshal(d); err != nil || again != text {
		return nil, malformed(name, errNotCanonical)
	}
	return d, nil
}

// trimmed is the field value without the white space around it (RFC 9421 section 2.1).
func trimmed(value string) string { return strings.Trim(value, " \t") }

func malformed(what string, err error) error {
	return fmt.Errorf("%w %s: %w", crypto.ErrMalformed, what, err)
}
