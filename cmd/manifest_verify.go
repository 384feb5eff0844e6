package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

func (p *program) manifestVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check a manifest, and with --file the artifact itself",
		UsageText: "edgecoder manifest verify [--file ARTIFACT] [--trusted-key FILE|BASE64]… [--threshold K] [--source URL] [--as model|release] ENVELOPE",
		Description: "With --trusted-key it needs no cluster: K of these keys must have signed, the manifest must not have expired by this machine's\n" +
			"clock, and its source must begin with --source if that is given. Without, the cluster is asked: its signers, its threshold and\n" +
			"sources hold, and it must have accepted this version with this digest.\n\n" +
			"Manifests in the two older formats are taken only where --as says so: model for a signed model manifest, release for a release\n" +
			"manifest with --signature. They take --trusted-key, have one signature, so no --threshold, and no expiry: an old one passes for\n" +
			"ever. A model manifest's signature does not cover its source, so --source must say which source it has to be.\n\n" +
			"Examples:\n  edgecoder manifest verify --file bin/edgecoder edgecoder.dsse.json\n" +
			"  edgecoder manifest verify --trusted-key a.pem --trusted-key b.pem --threshold 2 --file model.gguf model.dsse.json\n" +
			"  edgecoder manifest verify --as release --trusted-key release.pem --signature release-manifest.json.sig --file dist release-manifest.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "the `ARTIFACT`, whose digest and size must be the manifest's"},
			&cli.StringSliceFlag{Name: "trusted-key", Usage: "public key of a signer, `FILE|BASE64`; may be given again"},
			&cli.Int64Flag{Name: "threshold", Value: 1, Usage: "with --trusted-key: how many of them, `K`, must have signed"},
			&cli.StringFlag{Name: "source", Usage: "with --trusted-key: `URL` that the source must begin with"},
			&cli.StringFlag{Name: "as", Usage: "the older `FORMAT` that it is in, model or release (default: a DSSE envelope)"},
			&cli.StringFlag{Name: "signature", Usage: "of a release manifest: `FILE` with its base64 signature"},
		},
		Action: p.manifestVerify,
	}
}

// manifestReport is the JSON of `manifest verify`.
type manifestReport struct {
	Verified bool `json:"verified"`
	manifest.Statement
	Signers   []string `json:"signers"` // key ids of the trusted signers that signed
	Threshold int64    `json:"threshold"`
	By        string   `json:"by"` // "keys" that were named, or the "cluster"
	File      string   `json:"file,omitempty"`
	Faults    []string `json:"faults"`
}

func (r *manifestReport) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

func (p *program) manifestVerify(c *cli.Context) error {
	args, err := operands(c, "ENVELOPE")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	if err := checkOlderFormat(c); err != nil {
		return err
	}
	text, err := p.readInput("ENVELOPE", args[0], manifest.MaxReleaseBytes)
	if err != nil {
		return err
	}
	keys, err := p.manifestKeys(c)
	if err != nil {
		return err
	}
	switch c.String("as") {
	case formatModel:
		return p.verifyLegacy(c, args[0], text, keys)
	case formatRelease:
		return p.verifyRelease(c, args[0], text, keys)
	}
	if err := hintAtFormat(args[0], text); err != nil {
		return err
	}
	envelope, st, err := parseManifest(args[0], text)
	if err != nil {
		return err
	}
	report := manifestReport{Statement: st, Faults: []string{}}
	if keys != nil {
		p.judgeByKeys(c, &report, envelope, keys)
	} else if err := p.judgeByCluster(c, &report, envelope); err != nil {
		return err
	}
	if err := p.judgeFile(c, &report); err != nil {
		return err
	}
	return p.reportManifest(c, args[0], report)
}

func (p *program) manifestKeys(c *cli.Context) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for _, text := range c.StringSlice("trusted-key") {
		key, err := p.publicKey("trusted-key", text)
		if err != nil {
			return nil, err
		}
		if slices.Contains(keys, key) {
			return nil, usagef("--trusted-key %s: this key is given twice, and a signer counts once", text)
		}
		keys = append(keys, key)
	}
	if k := c.Int64("threshold"); len(keys) > 0 && (k < 1 || k > int64(len(keys))) {
		return nil, usagef("--threshold %d: want 1 to %d, the number of trusted keys", k, len(keys))
	}
	for _, flag := range []string{"threshold", "source", "signature"} {
		if len(keys) == 0 && p.given[flag] {
			return nil, usagef("--%s goes with --trusted-key; without, the cluster's trust policy holds", flag)
		}
	}
	return keys, nil
}

// judgeByKeys judges by keys that were named, and this machine's clock.
func (p *program) judgeByKeys(c *cli.Context, r *manifestReport, envelope dsse.Envelope, keys []crypto.PublicKey) {
	r.By, r.Threshold = "keys", c.Int64("threshold")
	r.judgeSigners(envelope, keys)
	if now := p.now().UnixMilli(); r.Statement.Expired(now) {
		r.fault("it expired at %d, now is %d", r.ExpiresMs, now)
	}
	if rule := c.String("source"); rule != "" && !manifest.Allows(rule, r.Source) {
		r.fault("its source %s does not begin with %s", r.Source, rule)
	}
}

func (r *manifestReport) judgeSigners(envelope dsse.Envelope, keys []crypto.PublicKey) {
	r.Signers = []string{}
	for _, key := range envelope.Signers(keys) {
		r.Signers = append(r.Signers, key.KeyID())
	}
	if int64(len(r.Signers)) < r.Threshold {
		r.fault("%d of the %d trusted signers signed it, it takes %d", len(r.Signers), len(keys), r.Threshold)
	}
}

// judgeByCluster judges by what the cluster trusts and has accepted. The
// signatures are verified here; the rest is the cluster's word.
func (p *program) judgeByCluster(c *cli.Context, r *manifestReport, envelope dsse.Envelope) error {
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	trust, err := api.ManifestTrust(c.Context, client.Strong())
	if err != nil {
		return err
	}
	r.By, r.Threshold = "cluster", trust.Threshold
	var keys []crypto.PublicKey
	for _, g := range trust.Signers {
		key, err := crypto.ParsePublicKey(g.PublicKey)
		if err != nil {
			return fmt.Errorf("the cluster's signer %q: %w", g.Name, err)
		}
		if strings.HasPrefix(r.Name, g.Prefix) {
			keys = append(keys, key)
		}
	}
	r.judgeSigners(envelope, keys)
	if r.Threshold < 1 {
		r.fault("the cluster trusts no signers of manifests")
	}
	if !slices.ContainsFunc(trust.Sources, func(rule string) bool { return manifest.Allows(rule, r.Source) }) {
		r.fault("its source %s is none that the cluster trusts", r.Source)
	}
	row, err := api.Manifest(c.Context, r.Name, client.Strong())
	var refused *client.Error
	switch {
	case errors.As(err, &refused) && refused.Code == client.CodeNotFound:
		r.fault("the cluster has accepted nothing under the name %q", r.Name)
		return nil
	case err != nil:
		return err
	}
	r.judgeAccepted(row)
	return nil
}

func (r *manifestReport) judgeAccepted(row client.Manifest) {
	for _, v := range row.Versions {
		order, err := manifest.CompareVersions(v.Version, r.Version)
		if err != nil || order != 0 {
			continue
		}
		switch {
		case v.SHA256 != r.SHA256.String():
			r.fault("the cluster accepted version %s with another digest, %s", v.Version, v.SHA256)
		case v.State == "untrusted":
			r.fault("the cluster accepted it, and trusts too few of its signers since")
		case v.State != "active":
			r.fault("the cluster accepted it, and it is %s since", v.State)
		}
		return
	}
	r.fault("the cluster has not accepted version %s, or keeps it no more", r.Version)
}

func (p *program) judgeFile(c *cli.Context, r *manifestReport) error {
	r.File = c.String("file")
	if r.File == "" {
		return nil
	}
	err := p.checkArtifact(r.Statement, r.File)
	if err != nil && exitStatus(err) != exitRefused {
		return err
	}
	if err != nil {
		r.fault("%v", err)
	}
	return nil
}

func (p *program) reportManifest(c *cli.Context, path string, r manifestReport) error {
	r.Verified = len(r.Faults) == 0
	err := p.emit(c, r, func(t *table) {
		t.row("manifest", verdictWord(r.Verified))
		drawStatement(t, r.Statement)
		t.row("signers", fmt.Sprintf("%s (%d of the %d that it takes)", orDash(strings.Join(r.Signers, " ")), len(r.Signers), r.Threshold))
		if r.File != "" {
			t.row("file", r.File)
		}
	})
	if err == nil && !r.Verified {
		err = refusedf("%s is not verified: %s", path, strings.Join(r.Faults, "; "))
	}
	return err
}

func verdictWord(verified bool) string {
	if verified {
		return "verified"
	}
	return "NOT verified"
}
