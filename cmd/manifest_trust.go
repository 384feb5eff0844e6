package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

func (p *program) manifestTrustCommand() *cli.Command {
	threshold := &cli.Int64Flag{Name: "threshold", Usage: "how many distinct signers, `K`, must sign a manifest"}
	return &cli.Command{
		Name: "trust", Usage: "whose manifests the cluster accepts, and from where",
		UsageText:   "edgecoder manifest trust list|add|remove",
		Description: "Examples:\n  edgecoder manifest trust list\n  edgecoder manifest trust add --signer release=release.pub.pem --source https://models.example/",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "print signers, sources and threshold",
				UsageText: "edgecoder manifest trust list", Description: "Example:\n  edgecoder manifest trust list",
				Flags: []cli.Flag{strongFlag()}, Action: p.manifestTrustList,
			},
			{
				Name: "add", Usage: "trust a signer or a source",
				UsageText: "edgecoder manifest trust add [--signer NAME=KEY]… [--prefix PREFIX] [--source URL]… [--threshold K]",
				Description: "KEY is a file with a PEM public key, or the base64 of the raw key. A source is https://HOST/ or https://HOST/PATH/ and allows what\n" +
					"begins with it. With --prefix the signers may sign only for names that begin with it. The first signer makes the threshold 1.\n\n" +
					"Examples:\n  edgecoder manifest trust add --signer release=release.pub.pem --source https://models.example/\n" +
					"  edgecoder manifest trust add --signer second=3q2+7w… --threshold 2\n  edgecoder manifest trust add --signer ml=ml.pem --prefix model-",
				Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "signer", Usage: "`NAME=KEY` of a signer; may be given again"},
					&cli.StringFlag{Name: "prefix", Usage: "the signers may sign only names that begin with this"},
					&cli.StringSliceFlag{Name: "source", Usage: "`URL` that sources may begin with; may be given again"},
					threshold,
				},
				Action: p.manifestTrustAdd,
			},
			{
				Name: "remove", Usage: "trust a signer or a source no more",
				UsageText: "edgecoder manifest trust remove [--signer NAME]… [--source URL]… [--threshold K]",
				Description: "What too few of the signers left have vouched for is in force no more: nodes with --require-manifest do not start with it until it\n" +
					"is signed by others and accepted again, so do that first. A threshold that nobody could reach is refused: give a lower one along with it, 0 when no\n" +
					"signer is left.\n\n" +
					"Examples:\n  edgecoder manifest trust remove --signer second --threshold 1\n  edgecoder manifest trust remove --source https://models.example/old/",
				Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "signer", Usage: "`NAME` or key id of a signer; may be given again"},
					&cli.StringSliceFlag{Name: "source", Usage: "`URL` as `manifest trust list` prints it; may be given again"},
					threshold,
				},
				Action: p.manifestTrustRemove,
			},
		},
	}
}

func (p *program) manifestTrustList(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	trust, err := api.ManifestTrust(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, trust, func(t *table) { drawTrust(t, trust) })
}

func drawTrust(t *table, trust client.ManifestTrust) {
	t.row("version", number(trust.Version))
	t.row("threshold", fmt.Sprintf("%d of %d", trust.Threshold, len(trust.Signers)))
	for _, g := range trust.Signers {
		names := "all names"
		if g.Prefix != "" {
			names = "names that begin with " + g.Prefix
		}
		t.row("signer", g.Name, "key "+g.KeyID, names, t.when(g.AddedMs))
	}
	for _, source := range trust.Sources {
		t.row("source", source)
	}
}

func (p *program) manifestTrustAdd(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	var signers []client.ManifestSigner
	for _, word := range c.StringSlice("signer") {
		name, text, ok := strings.Cut(word, "=")
		if !ok || name == "" || text == "" {
			return usagef("--signer %q: want NAME=KEY, where KEY is a file or the base64 of a public key", word)
		}
		key, err := p.publicKey("signer", text)
		if err != nil {
			return err
		}
		signers = append(signers, client.ManifestSigner{Name: name, PublicKey: key.String(), Prefix: c.String("prefix")})
	}
	if c.String("prefix") != "" && len(signers) == 0 {
		return usagef("--prefix is for signers: give --signer too")
	}
	return p.changeTrust(c, func(now *client.ManifestTrustUpdate) error {
		now.Signers = append(now.Signers, signers...)
		for _, source := range c.StringSlice("source") {
			if !slices.Contains(now.Sources, source) {
				now.Sources = append(now.Sources, source)
			}
		}
		if now.Threshold == 0 && len(now.Signers) > 0 && !c.IsSet("threshold") {
			now.Threshold = 1
		}
		return nil
	})
}

func (p *program) manifestTrustRemove(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	return p.changeTrust(c, func(now *client.ManifestTrustUpdate) error {
		for _, name := range c.StringSlice("signer") {
			before := len(now.Signers)
			now.Signers = slices.DeleteFunc(now.Signers, func(g client.ManifestSigner) bool { return g.Name == name || g.KeyID == name })
			if len(now.Signers) == before {
				return refusedf("no signer %q is trusted: see `edgecoder manifest trust list`", name)
			}
		}
		for _, source := range c.StringSlice("source") {
			at := slices.Index(now.Sources, source)
			if at < 0 {
				return refusedf("no source %q is trusted: see `edgecoder manifest trust list`", source)
			}
			now.Sources = slices.Delete(now.Sources, at, at+1)
		}
		return nil
	})
}

// changeTrust reads the trust policy and writes it changed, if nobody else did in
// between; then it looks once more, since the change is to single rows.
func (p *program) changeTrust(c *cli.Context, change func(*client.ManifestTrustUpdate) error) error {
	if len(c.StringSlice("signer"))+len(c.StringSlice("source")) == 0 && !c.IsSet("threshold") {
		return usagef("nothing to change: give --signer, --source or --threshold")
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		now, err := api.ManifestTrust(c.Context, client.Strong())
		if err != nil {
			return err
		}
		next := client.ManifestTrustUpdate{Threshold: now.Threshold, Signers: now.Signers, Sources: now.Sources}
		if c.IsSet("threshold") {
			next.Threshold = c.Int64("threshold")
		}
		if err := change(&next); err != nil {
			return err
		}
		changed, err := api.SetManifestTrust(c.Context, now.Version, next)
		var refused *client.Error
		if try == 0 && errors.As(err, &refused) && refused.Code == client.CodeConflict && refused.Field == "version" {
			continue
		}
		if err != nil {
			return err
		}
		return p.emit(c, changed, func(t *table) { drawTrust(t, changed) })
	}
}

// maxPublicKeyBytes bounds a file with a public key.
const maxPublicKeyBytes = 4 << 10

// publicKey reads an Ed25519 public key: base64 of the raw key, or a file with
// that or with PEM.
func (p *program) publicKey(flag, text string) (crypto.PublicKey, error) {
	if key, err := crypto.ParsePublicKey(text); err == nil {
		return key, nil
	}
	data, err := p.readInput(flag, text, maxPublicKeyBytes)
	if err != nil {
		return crypto.PublicKey{}, err
	}
	content := strings.TrimSpace(string(data))
	if !strings.HasPrefix(content, "-----BEGIN") {
		key, err := crypto.ParsePublicKey(content)
		if err != nil {
			return key, usagef("--%s %s: neither a PEM public key nor the base64 of one: %w", flag, text, err)
		}
		return key, nil
	}
	key, err := crypto.ParsePublicKeyPEM(content + "\n")
	if err != nil {
		return key, usagef("--%s %s: %w", flag, text, err)
	}
	return key, nil
}
