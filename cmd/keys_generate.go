package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// keyIterations of PBKDF2 for new key files without --cost; 0 is the default. Tests lower it.
var keyIterations = 0

func (p *program) keysGenerateCommand() *cli.Command {
	return &cli.Command{
		Name: "generate", Usage: "make a key and its encrypted file",
		UsageText: "edgecoder keys generate --type ed25519|x25519 --out FILE [--bundle [--valid 90d]] [--plaintext] [--cost N] [--force]",
		Description: "ed25519 keys sign, x25519 keys open sealed envelopes. The file is encrypted with the passphrase; the public half is printed.\n" +
			"--bundle writes the format of other EdgeCoder programs, whose cost is fixed and which cannot tell a wrong passphrase from damage.\n\n" +
			"Examples:\n  edgecoder keys generate --type x25519 --out agent-1.box\n" +
			"  edgecoder keys generate --type ed25519 --out signer.key --cost 2000000\n" +
			"  edgecoder keys generate --type ed25519 --bundle --out coordinator.json --passphrase-file pass.txt",
		Flags: append(newKeyFlags(), bundleFlags()...),
		Action: func(c *cli.Context) error {
			if c.String("type") == "" {
				return usagef("--type is missing: want %s (signs) or %s (opens envelopes)", typeEd25519, typeX25519)
			}
			return p.generateKey(c, c.String("type"))
		},
	}
}

// newKeyFlags are those of every command that writes a new key file.
func newKeyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "out", Usage: "`FILE` to write"},
		&cli.BoolFlag{Name: "force", Usage: "overwrite the file"},
		&cli.BoolFlag{Name: "plaintext", Usage: "write PEM without a passphrase: whoever reads the file has the key"},
		costFlag(fmt.Sprintf("iterations of PBKDF2 that each guess at the passphrase costs, `N` from %d to %d (default: %d)",
			keyfile.MinIterations, keyfile.MaxIterations, keyfile.DefaultIterations)),
		passphraseFlag(),
	}
}

func bundleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "type", Usage: "ed25519 or x25519"},
		&cli.BoolFlag{Name: "bundle", Usage: "write an EdgeCoder key bundle"},
		validFlag(),
	}
}

func validFlag() cli.Flag {
	return &cli.StringFlag{Name: "valid", Usage: fmt.Sprintf("how long the key of a bundle is good (default: %dd)", keyfile.BundleRotationDays)}
}

// keyView is the JSON of commands that write a key file.
type keyView struct {
	publicKey
	File       string         `json:"file"`
	FileFormat keyfile.Format `json:"file_format"`
	Encrypted  bool           `json:"encrypted"`
}

// generateKey is `keys generate` and `agent keygen`.
func (p *program) generateKey(c *cli.Context, keyType string) error {
	if _, err := operands(c); err != nil {
		return err
	}
	plan, err := p.planKeyFile(c)
	if err != nil {
		return err
	}
	pair, err := newKeyPair(p.rand, keyType)
	if err != nil {
		return err
	}
	defer clear(pair.pem)
	if err := p.writeKeyFile(plan, pair, nil); err != nil {
		return err
	}
	return p.showKeyFile(c, plan, pair)
}

// newKeyFile is where and how to write a key.
type newKeyFile struct {
	path           string
	passphraseFile string
	format         keyfile.Format
	cost           keyfile.Params
	validMs        int64 // of a bundle
	replace        bool  // with --force
}

// planKeyFile checks all flags of a new key file, before anybody types a passphrase.
func (p *program) planKeyFile(c *cli.Context) (newKeyFile, error) {
	plan := newKeyFile{path: c.String("out"), passphraseFile: c.String("passphrase-file"), format: keyfile.FormatSealed,
		validMs: keyfile.BundleEndMs(0, keyfile.BundleRotationDays), replace: c.Bool("force")}
	var err error
	if plan.cost, err = costOf(c); err != nil {
		return plan, err
	}
	if _, err := formatOf(c); err != nil {
		return plan, err
	}
	switch {
	case c.Bool("plaintext") && (c.Bool("bundle") || c.IsSet("cost")):
		return plan, usagef("--plaintext has no passphrase: leave out --bundle and --cost")
	case c.Bool("bundle") && c.IsSet("cost"):
		return plan, usagef("--cost: that of a bundle is always %d", keyfile.BundleIterations)
	case c.String("valid") != "" && !c.Bool("bundle"):
		return plan, usagef("--valid is for --bundle: other key files have no end")
	case c.Bool("plaintext"):
		plan.format = keyfile.FormatPrivatePEM
	case c.Bool("bundle"):
		plan.format = keyfile.FormatBundle
	}
	if text := c.String("valid"); text != "" {
		life, err := parseDuration("valid", text)
		if err != nil {
			return plan, err
		}
		plan.validMs = life.Milliseconds()
	}
	if plan.path == "" {
		return plan, usagef("--out is missing: name the key file to write")
	}
	if _, err := os.Lstat(plan.path); !errors.Is(err, fs.ErrNotExist) && !plan.replace {
		return plan, usagef("--out %s exists: a key that was overwritten is gone; choose another name, or use --force", plan.path)
	}
	return plan, nil
}

// writeKeyFile writes a key under passphrase, or asks for one if that is nil.
func (p *program) writeKeyFile(plan newKeyFile, pair keyPair, passphrase []byte) error {
	if plan.format == keyfile.FormatPrivatePEM {
		p.say("warning: %s is not encrypted: whoever reads it has the key", plan.path)
		return plan.write(pair.pem)
	}
	if passphrase == nil {
		var err error
		if passphrase, err = p.passphraseSource(plan.passphraseFile, "passphrase for "+plan.path, true).Get(); err != nil {
			return usagef("%w", hintPassphrase(err, "give --passphrase-file, or --plaintext to go without"))
		}
		defer clear(passphrase)
	}
	sealed, err := p.sealKey(plan, pair, passphrase)
	if err != nil {
		return usagef("%s: %w", plan.path, err)
	}
	return plan.write(sealed)
}

// write puts the key in its place. Without --force it replaces nothing, even if that came while somebody typed a
// passphrase.
func (plan newKeyFile) write(data []byte) error {
	if plan.replace {
		return keyfile.WriteAtomic(plan.path, data)
	}
	return intoFile(plan.path, false, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

func (p *program) sealKey(plan newKeyFile, pair keyPair, passphrase []byte) ([]byte, error) {
	if plan.format == keyfile.FormatSealed {
		return keyfile.Seal(p.rand, passphrase, purposes[pair.KeyType], pair.pem, plan.cost)
	}
	id, err := crypto.NewUUID(p.rand)
	if err != nil {
		return nil, err
	}
	now := p.now().UnixMilli()
	return keyfile.SealBundle(p.rand, passphrase, &keyfile.Bundle{KeyID: id, Current: keyfile.BundleKey{
		PrivatePEM: pair.pem, PublicPEM: pair.PublicKey, ActivatedMs: now, EndMs: now + plan.validMs}})
}

// showKeyFile prints the public half, which people compare and hand on.
func (p *program) showKeyFile(c *cli.Context, plan newKeyFile, pair keyPair) error {
	view := keyView{pair.publicKey, plan.path, plan.format, plan.format != keyfile.FormatPrivatePEM}
	if format, _ := formatOf(c); format == formatJSON {
		return writeJSON(p.out, view)
	}
	if _, err := fmt.Fprintf(p.out, "key id  %s\n%s", view.KeyID, view.PublicKey); err != nil || view.KeyType != typeX25519 {
		return err
	}
	_, err := fmt.Fprintf(p.out, "raw     %s\n", view.Raw) // what `agent enroll --encryption-key` wants
	return err
}
