package cmd

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
)

func (p *program) manifestCommand() *cli.Command {
	return &cli.Command{
		Name: "manifest", Usage: "signed statements of artifacts: sign, verify, and what the cluster accepted",
		Subcommands: []*cli.Command{
			p.manifestSignCommand(),
			p.manifestVerifyCommand(),
			p.manifestAcceptCommand(),
			p.manifestRevokeCommand(),
			{
				Name: "list", Usage: "what the cluster accepted, the newest version of each name",
				UsageText:   "edgecoder manifest list",
				Description: "Example:\n  edgecoder manifest list --format json\n\nJSON has the older versions too that are kept.",
				Flags:       []cli.Flag{strongFlag()}, Action: p.manifestList,
			},
			p.manifestTrustCommand(),
		},
	}
}

func (p *program) manifestAcceptCommand() *cli.Command {
	return &cli.Command{
		Name: "accept", Usage: "have the cluster accept the artifact of a signed manifest",
		UsageText: "edgecoder manifest accept ENVELOPE",
		Description: "Examples:\n  edgecoder manifest accept edgecoder-1.4.2.dsse.json\n  edgecoder manifest sign … | edgecoder manifest accept -\n\n" +
			"The cluster asks that enough signers it trusts have signed, that the source is one it trusts, that the manifest has not expired,\n" +
			"and that nothing newer was accepted under that name. One version has one digest. A manifest of the newest version again, signed\n" +
			"until later, renews it.",
		Action: p.manifestAccept,
	}
}

func (p *program) manifestAccept(c *cli.Context) error {
	args, err := operands(c, "ENVELOPE")
	if err != nil {
		return err
	}
	text, err := p.readInput("ENVELOPE", args[0], dsse.MaxEnvelopeBytes)
	if err != nil {
		return err
	}
	envelope, st, err := parseManifest(args[0], text)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	accepted, err := api.AcceptManifest(c.Context, envelope.Encode())
	if err != nil {
		return err
	}
	return p.emit(c, accepted, func(t *table) {
		t.row("accepted", st.Name+" "+st.Version)
		t.row("sha256", accepted.SHA256)
		t.row("signers", strings.Join(accepted.Signers, " "))
		t.row("index", number(accepted.Index))
		if accepted.Repeated {
			t.row("repeated", "it was accepted already")
		}
	})
}

func (p *program) manifestRevokeCommand() *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "take back a version that the cluster accepted",
		UsageText: "edgecoder manifest revoke NAME VERSION [--forget]",
		Description: "Nodes with --require-manifest neither join nor start with a revoked artifact; those that run it go on until they restart. A revoked\n" +
			"version is still the floor: nothing older is accepted. To undo a slip, such as a version number that blocks all that was to\n" +
			"follow, --forget takes the newest version out, and the one before it is the floor again. Both are in the history.\n\n" +
			"Examples:\n  edgecoder manifest revoke worker 1.4.0\n  edgecoder manifest revoke worker 20260101 --forget",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "forget", Usage: "as if this newest version had never been accepted"}},
		Action: p.manifestRevoke,
	}
}

func (p *program) manifestRevoke(c *cli.Context) error {
	args, api, err := p.ask(c, "NAME", "VERSION")
	if err != nil {
		return err
	}
	done, err := api.RevokeManifest(c.Context, args[0], client.ManifestRevokeRequest{Version: args[1], Forget: c.Bool("forget")})
	if err != nil {
		return err
	}
	return p.emit(c, done, func(t *table) {
		t.row("revoked", done.Name+" "+done.Version)
		if done.Forgotten {
			t.row("forgotten", "the version before it is the floor again")
		}
		t.row("index", number(done.Index))
	})
}

// parseManifest reads an envelope with a statement in it. Its signatures have
// not been verified.
func parseManifest(path string, text []byte) (dsse.Envelope, manifest.Statement, error) {
	envelope, err := dsse.Parse(text)
	if err != nil {
		return envelope, manifest.Statement{}, refusedf("%s: %w", path, err)
	}
	st, err := manifest.ParseStatement(envelope.PayloadType, envelope.Payload)
	if err != nil {
		return envelope, st, refusedf("%s: %w", path, err)
	}
	return envelope, st, nil
}

func (p *program) manifestList(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	all := client.Manifests{Manifests: []client.Manifest{}}
	for after := ""; ; {
		page, err := api.Manifests(c.Context, append(freshness(c), client.Page(after, pageSize))...)
		if err != nil {
			return err
		}
		all.Manifests = append(all.Manifests, page.Manifests...)
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.emit(c, all, func(t *table) { drawManifests(t, all) })
}

func drawManifests(t *table, all client.Manifests) {
	t.row("NAME", "VERSION", "STATE", "SHA256", "EXPIRES", "ACCEPTED", "SIGNERS")
	for _, m := range all.Manifests {
		if len(m.Versions) == 0 {
			continue
		}
		v := m.Versions[0]
		t.row(m.Name, v.Version, v.State, short(v.SHA256), t.when(v.ExpiresMs), t.when(v.AcceptedMs), strings.Join(v.Signers, " "))
	}
}
