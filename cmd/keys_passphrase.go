package cmd

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/node"
)

func (p *program) keysPassphraseCommand() *cli.Command {
	return &cli.Command{
		Name: "passphrase", Usage: "change the passphrase of a key file, or its cost, in place",
		UsageText: "edgecoder keys passphrase FILE [--cost N [--keep-passphrase]]",
		Description: "FILE is an agent's key file, a key bundle, or the node.keys of a stopped server. After a crash it holds the old bytes or the new ones.\n" +
			"The key stays the same: copies of the old file still open with the old passphrase.\n\n" +
			"Examples:\n  edgecoder keys passphrase agent-1.key\n  edgecoder keys passphrase agent-1.key --cost 2000000 --keep-passphrase\n" +
			"  edgecoder keys passphrase /var/lib/edgecoder/node.keys --passphrase-file old --new-passphrase-file new",
		Flags: []cli.Flag{
			passphraseFlag(),
			&cli.StringFlag{Name: "new-passphrase-file", EnvVars: []string{"EDGECODER_NEW_PASSPHRASE_FILE"},
				Usage: "`FILE` with the new passphrase, - for standard input; else EDGECODER_NEW_PASSPHRASE, or a prompt"},
			&cli.BoolFlag{Name: "keep-passphrase", Usage: "change nothing but the cost"},
			costFlag("iterations of PBKDF2 that each guess at the passphrase costs, `N`; without it the file keeps its cost"),
		},
		Action: p.keysPassphrase,
	}
}

// resealedView is the JSON of `keys passphrase`.
type resealedView struct {
	File       string         `json:"file"`
	Format     keyfile.Format `json:"format"`
	Iterations int            `json:"iterations"`
}

func (p *program) keysPassphrase(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	cost := keyfile.Params{}
	if c.IsSet("cost") {
		if cost, err = costOf(c); err != nil {
			return err
		}
	}
	switch {
	case c.Bool("keep-passphrase") && !c.IsSet("cost"):
		return usagef("--keep-passphrase changes nothing without --cost")
	case c.String("passphrase-file") == "-" && c.String("new-passphrase-file") == "-":
		return usagef("both passphrases from standard input: give one of them another way")
	}
	unlock, err := node.LockKeyFile(args[0])
	if err != nil {
		return refusedf("%w: stop the server first, it would write the file again under the old passphrase", err)
	}
	view, err := p.reseal(c, args[0], cost)
	if err = errors.Join(err, unlock()); err != nil {
		return err
	}
	p.say("%s was written anew; copies of the old file still open with the old passphrase", args[0])
	return p.emit(c, view, func(t *table) {
		t.row("file", view.File)
		t.row("format", string(view.Format))
		t.row("cost", number(view.Iterations))
	})
}

// reseal replaces a key file. It asks for nothing before it knows that the file
// can be opened at all.
func (p *program) reseal(c *cli.Context, path string, cost keyfile.Params) (resealedView, error) {
	data, err := keyfile.ReadPrivate(path)
	if err != nil {
		return resealedView{}, usagef("%w", err)
	}
	defer clear(data)
	if err := checkSealed(data, cost); err != nil {
		return resealedView{}, keyFileFault(path, err)
	}
	f := keyFileFlag{where: path, path: path, passphraseFile: c.String("passphrase-file")}
	old, err := p.passphraseOf(f)
	if err != nil {
		return resealedView{}, err
	}
	defer clear(old)
	next, err := p.newPassphrase(c, path, old)
	if err != nil {
		return resealedView{}, err
	}
	defer clear(next)
	sealed, err := keyfile.Reseal(p.rand, data, old, next, cost)
	if err != nil {
		return resealedView{}, keyFileFault(path, err)
	}
	view := resealedView{path, keyfile.FormatOf(sealed), keyfile.BundleIterations}
	if header, err := keyfile.Inspect(sealed); err == nil {
		view.Iterations = header.Iterations
	}
	return view, keyfile.WriteAtomic(path, sealed)
}

// checkSealed refuses what has no passphrase, and what is seen to be no good.
func checkSealed(data []byte, cost keyfile.Params) error {
	switch keyfile.FormatOf(data) {
	case keyfile.FormatPrivatePEM:
		return errors.New("it has no passphrase: encrypt it with `edgecoder keys convert`")
	case keyfile.FormatPublicPEM:
		return errors.New("it is a public key, which needs no passphrase")
	case keyfile.FormatBundle:
		if cost.Iterations != 0 && cost.Iterations != keyfile.BundleIterations {
			return fmt.Errorf("--cost: that of a bundle is always %d; `edgecoder keys convert` makes a file that can have another", keyfile.BundleIterations)
		}
		return keyfile.InspectBundle(data)
	}
	_, err := keyfile.Inspect(data)
	return err
}

func (p *program) newPassphrase(c *cli.Context, path string, old []byte) ([]byte, error) {
	if c.Bool("keep-passphrase") {
		return bytes.Clone(old), nil
	}
	next, err := keyfile.PassphraseSource{File: c.String("new-passphrase-file"), Env: "EDGECODER_NEW_PASSPHRASE", Prompt: true,
		Label: "new passphrase for " + path, Confirm: true}.Get()
	if err != nil {
		return nil, usagef("new passphrase: %w", hintPassphrase(err, "give --new-passphrase-file, or --keep-passphrase with --cost"))
	}
	if bytes.Equal(old, next) && !c.IsSet("cost") {
		clear(next)
		return nil, usagef("%s: the new passphrase is the old one: nothing was changed", path)
	}
	if len(next) < keyfile.MinPassphraseBytes {
		clear(next)
		return nil, usagef("%s: the new passphrase has less than %d bytes", path, keyfile.MinPassphraseBytes)
	}
	return next, nil
}
