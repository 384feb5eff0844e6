package cmd

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

// The older formats, as --as spells them.
const (
	formatModel   = "model"
	formatRelease = "release"
)

// checkOlderFormat asks the flags that depend on the format. The command line
// chooses it, never the file: else a file could shed the threshold and the expiry
// that were asked for, by being of a format that has none.
func checkOlderFormat(c *cli.Context) error {
	as := c.String("as")
	switch {
	case as != "" && as != formatModel && as != formatRelease:
		return usagef("--as %s: want %s or %s; leave it out for a DSSE envelope", as, formatModel, formatRelease)
	case as != "" && c.Int64("threshold") > 1:
		return usagef("--threshold %d: a manifest in the format %s has one signature; have the artifact signed again with `edgecoder manifest sign`", c.Int64("threshold"), as)
	case as != formatRelease && c.String("signature") != "":
		return usagef("--signature goes with --as %s: other manifests have their signatures inside", formatRelease)
	case as == formatRelease && c.String("source") != "":
		return usagef("--source: a release manifest names no source")
	}
	return nil
}

// hintAtFormat names the flag that a manifest in an older format needs.
func hintAtFormat(path string, text []byte) error {
	what, as := "", ""
	switch manifest.FormatOf(text) {
	case manifest.FormatLegacy:
		what, as = "a signed model manifest (WIRE 20.1)", formatModel
	case manifest.FormatRelease:
		what, as = "a release manifest (WIRE 21)", formatRelease
	default:
		return nil
	}
	return usagef("%s is %s: say --as %s if that is what you expect; it has no expiry and one signature", path, what, as)
}

// legacyReport is the JSON of `manifest verify` for the formats of WIRE 20.1 and 21.
type legacyReport struct {
	Verified bool   `json:"verified"`
	Format   string `json:"format"` // model or release
	Name     string `json:"name,omitempty"`
	Version  string `json:"version"`
	SHA256   string `json:"sha256,omitempty"`
	Source   string `json:"source,omitempty"`
	File     string `json:"file,omitempty"`
	Code     string `json:"code,omitempty"` // why it is refused
}

// verifyLegacy checks a signed model manifest. Its signer's id is a label: it
// counts if one of the trusted keys made the signature.
func (p *program) verifyLegacy(c *cli.Context, path string, text []byte, keys []crypto.PublicKey) error {
	if len(keys) == 0 || c.String("source") == "" {
		return usagef("%s is a signed model manifest (WIRE 20.1), whose signature does not cover the source: give --trusted-key, and --source with the URL that the model has to come from", path)
	}
	m, err := manifest.ParseLegacy(text)
	if err != nil {
		return refusedf("%s: %w", path, err)
	}
	r := legacyReport{Format: formatModel, Name: m.ModelID, Version: m.Version, SHA256: m.SHA256, Source: m.Source, File: c.String("file")}
	for _, key := range keys {
		r.Code = manifest.VerifyLegacy(m, manifest.LegacyTrust{Peers: []string{m.SignerPeerID},
			Keys: map[string]crypto.PublicKey{m.SignerPeerID: key}, Source: c.String("source")})
		if r.Code != manifest.LegacyInvalidSignature {
			break
		}
	}
	if r.Code == manifest.LegacyValid && r.File != "" {
		digest, _, err := p.hashArtifact(r.File)
		if err != nil {
			return err
		}
		if digest.String() != m.SHA256 {
			r.Code = "another_file"
		}
	}
	return p.reportLegacy(c, path, r)
}

// verifyRelease checks a release manifest with its signature in a file beside
// it. --file is one of its artifacts, by base name, or the directory whose tree
// hash it names.
func (p *program) verifyRelease(c *cli.Context, path string, text []byte, keys []crypto.PublicKey) error {
	if len(keys) == 0 || c.String("signature") == "" {
		return usagef("%s is a release manifest (WIRE 21), whose signature lies beside it: give --trusted-key, and --signature FILE", path)
	}
	signature, err := p.readInput("signature", c.String("signature"), maxPublicKeyBytes)
	if err != nil {
		return err
	}
	release, err := manifest.ParseRelease(text)
	if err != nil {
		return refusedf("%s: %w", path, err)
	}
	r := legacyReport{Format: formatRelease, Version: release.Version, File: c.String("file"), Code: "signature_mismatch"}
	for _, key := range keys {
		if release.SignedBy(key, strings.TrimSpace(string(signature))) {
			r.Code = ""
		}
	}
	if r.Code == "" && r.File != "" {
		if r.Code, err = p.judgeReleased(release, r.File); err != nil {
			return err
		}
	}
	return p.reportLegacy(c, path, r)
}

// judgeReleased returns "" if the release has the file, else why not.
func (p *program) judgeReleased(release manifest.Release, path string) (code string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", usagef("--file: %w", err)
	}
	if info.IsDir() {
		files, err := p.hashTree(path)
		if err == nil && manifest.DistTreeHash(files).String() != release.DistTreeHash {
			code = "hash_mismatch"
		}
		return code, err
	}
	digest, _, err := p.hashArtifact(path)
	if err != nil {
		return "", err
	}
	for _, a := range release.Artifacts {
		if a.Name == filepath.Base(path) && a.SHA256 == digest.String() {
			return "", nil
		}
	}
	return "hash_mismatch", nil
}

// hashTree hashes all files below a directory, by relative path with slashes. The
// tree hash covers regular files alone: anything else could stand for a file that
// the signer never saw, so it is refused.
func (p *program) hashTree(dir string) (map[string]crypto.Hash, error) {
	files := map[string]crypto.Hash{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return usagef("--file: %w", err)
		}
		switch {
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return refusedf("--file %s: %s is no regular file, and the release's tree hash covers no others: remove it", dir, path)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], _, err = p.hashArtifact(path)
		return err
	})
	return files, err
}

func (p *program) reportLegacy(c *cli.Context, path string, r legacyReport) error {
	r.Verified = r.Code == ""
	err := p.emit(c, r, func(t *table) {
		t.row("manifest", verdictWord(r.Verified))
		t.row("format", r.Format)
		t.row("name", orDash(r.Name))
		t.row("version", r.Version)
		t.row("sha256", orDash(r.SHA256))
		t.row("source", orDash(r.Source))
		t.row("file", orDash(r.File))
	})
	if err == nil && !r.Verified {
		err = refusedf("%s is not verified: %s", path, r.Code)
	}
	return err
}
