package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/edgecoder/edgecoder/crypto"
)

// Legacy is a signed model manifest of WIRE 20.1. Its signature covers model id,
// version and digest, and not the source: who can change the text on its way can
// name another place to fetch from.
//
// So it is only ever verified against a source that the verifier knows from
// elsewhere, and never accepted by a cluster: what is to be accepted is signed
// again as a Statement, which covers the source.
type Legacy struct {
	ModelID      string `json:"modelId"`
	Version      string `json:"version"`
	Source       string `json:"source"`
	SHA256       string `json:"sha256"`
	Signature    string `json:"signature"` // base64
	SignerPeerID string `json:"signerPeerId"`
}

// maxLegacyBytes bounds the JSON of a legacy manifest: six short texts.
const maxLegacyBytes = 8 << 10

// ParseLegacy reads a legacy manifest: its six members, each exactly once, in
// this spelling, in any order, and no others.
func ParseLegacy(text []byte) (Legacy, error) {
	var m Legacy
	if len(text) > maxLegacyBytes {
		return m, fmt.Errorf("model manifest: %d bytes, at most %d", len(text), maxLegacyBytes)
	}
	missing := map[string]*string{"modelId": &m.ModelID, "version": &m.Version, "source": &m.Source,
		"sha256": &m.SHA256, "signature": &m.Signature, "signerPeerId": &m.SignerPeerID}
	err := crypto.EachJSONMember(text, func(name string, value json.RawMessage) (err error) {
		into := missing[name]
		if into == nil {
			return fmt.Errorf("unknown member %.40q", name)
		}
		delete(missing, name)
		*into, err = crypto.JSONText(value)
		return err
	})
	if err == nil && len(missing) > 0 {
		err = errors.New("want the members modelId, version, source, sha256, signature and signerPeerId")
	}
	if err != nil {
		return Legacy{}, fmt.Errorf("model manifest: %w", err)
	}
	return m, nil
}

// LegacyTrust is what a verifier of legacy manifests knows by itself.
type LegacyTrust struct {
	Peers []string                    // ids of signers that are trusted
	Keys  map[string]crypto.PublicKey // their keys by id
	// Source is where the artifact of this model, version and digest is. A manifest
	// that names another source is refused, whatever it is signed by.
	Source string
}

// Results of VerifyLegacy. The first seven are the wire codes of WIRE 20.1; the
// last two refuse what the reference lets pass.
const (
	LegacyValid               = ""
	LegacyUntrustedPeer       = "untrusted_peer"
	LegacyInvalidURL          = "invalid_source_url"
	LegacySourceNotAllowed    = "source_not_allowlisted"
	LegacyDisallowedExtension = "disallowed_file_extension"
	LegacyNoKey               = "no_public_key_for_peer"
	LegacyInvalidSignature    = "invalid_signature"
	LegacyInsecureSource      = "insecure_source"  // no https URL of one spelling
	LegacySourceNotBound      = "source_not_bound" // not the source that the verifier knows
)

// Hosts and file extensions of WIRE 20.1.
var (
	legacyHosts      = []string{"models.edgecoder.io", "huggingface.co"}
	legacyExtensions = []string{".gguf", ".bin", ".safetensors"}
)

// Text returns what a legacy manifest's signer signed.
func (m Legacy) Text() []byte { return []byte(m.ModelID + "\n" + m.Version + "\n" + m.SHA256) }

// VerifyLegacy returns LegacyValid or why the manifest is refused. It asks in the
// order of WIRE 20.1. The extension is that of the path, which a query cannot fool;
// scheme and source are asked beyond it. Fields with a newline are refused as
// unsigned, since the signed text could be cut in other places.
func VerifyLegacy(m Legacy, trust LegacyTrust) string {
	if !slices.Contains(trust.Peers, m.SignerPeerID) {
		return LegacyUntrustedPeer
	}
	u, err := url.Parse(m.Source)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "":
		return LegacyInvalidURL
	case !slices.Contains(legacyHosts, u.Host):
		return LegacySourceNotAllowed
	case !slices.Contains(legacyExtensions, path.Ext(u.Path)):
		return LegacyDisallowedExtension
	case CheckSource(m.Source) != nil:
		return LegacyInsecureSource
	}
	key, known := trust.Keys[m.SignerPeerID]
	if !known {
		return LegacyNoKey
	}
	if !m.signed(key) {
		return LegacyInvalidSignature
	}
	if m.Source != trust.Source {
		return LegacySourceNotBound
	}
	return LegacyValid
}

func (m Legacy) signed(key crypto.PublicKey) bool {
	_, hashErr := crypto.ParseHash(m.SHA256)
	sig, sigErr := decodeSignature(m.Signature)
	oneReading := !strings.ContainsAny(m.ModelID+m.Version, "\n")
	return hashErr == nil && sigErr == nil && oneReading && crypto.Verify(key, m.Text(), sig)
}
