package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// agentKeyPurpose binds a key file to its use: a server's cannot stand in.
const agentKeyPurpose = "agent-key"

// keyIterations of PBKDF2 for new key files; 0 is the default. Tests lower it.
var keyIterations = 0

func passphraseFlag() cli.Flag {
	return &cli.StringFlag{Name: "passphrase-file", EnvVars: []string{"EDGECODER_PASSPHRASE_FILE"},
		Usage: "`FILE` with the key file's passphrase, - for standard input; else EDGECODER_PASSPHRASE, a systemd credential, or a prompt"}
}

// passphraseSource lists where passphrases come from, here and in `server`.
func (p *program) passphraseSource(file, label string, confirm bool) keyfile.PassphraseSource {
	return keyfile.PassphraseSource{
		File: file, Env: "EDGECODER_PASSPHRASE", CredentialName: "passphrase", Prompt: true,
		Label: label, Confirm: confirm, Warn: func(text string) { p.say("warning: %s", text) },
	}
}

func (p *program) agentKeygenCommand() *cli.Command {
	return &cli.Command{
		Name: "keygen", Usage: "make the Ed25519 key of an agent",
		UsageText: "edgecoder agent keygen --out FILE [--force] [--plaintext]",
		Description: "The key is encrypted with the passphrase. Its public half is printed, for whoever wants to compare.\n\n" +
			"Examples:\n  edgecoder agent keygen --out agent-1.key\n  edgecoder agent keygen --out agent-1.key --passphrase-file pass.txt --format json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write"},
			&cli.BoolFlag{Name: "force", Usage: "overwrite the file"},
			&cli.BoolFlag{Name: "plaintext", Usage: "write PEM without a passphrase: whoever reads the file is the agent"},
			passphraseFlag(),
		},
		Action: p.agentKeygen,
	}
}

// keyView is the JSON of `agent keygen`.
type keyView struct {
	KeyID       string `json:"key_id"`
	Fingerprint string `json:"fingerprint"`
	PublicKey   string `json:"public_key"` // PEM SPKI
	File        string `json:"file"`
	Encrypted   bool   `json:"encrypted"`
}

func (p *program) agentKeygen(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	path := c.String("out")
	if path == "" {
		return usagef("--out is missing: name the key file to write")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) && !c.Bool("force") {
		return usagef("--out %s exists: a key that was overwritten is gone; choose another name, or use --force", path)
	}
	key, err := crypto.GenerateKey(p.rand)
	if err != nil {
		return err
	}
	defer clear(key)
	if err := p.writeKey(c, path, key); err != nil {
		return err
	}
	pub := crypto.PublicOf(key)
	view := keyView{KeyID: pub.KeyID(), Fingerprint: pub.Fingerprint().String(), PublicKey: pub.PEM(), File: path, Encrypted: !c.Bool("plaintext")}
	if format, _ := formatOf(c); format == formatJSON {
		return writeJSON(p.out, view)
	}
	_, err = fmt.Fprintf(p.out, "key id  %s\n%s", view.KeyID, view.PublicKey)
	return err
}

func (p *program) writeKey(c *cli.Context, path string, key crypto.PrivateKey) error {
	text := crypto.MarshalPrivateKeyPEM(key)
	defer clear(text)
	if c.Bool("plaintext") {
		p.say("warning: %s is not encrypted: whoever reads it is the agent", path)
		return keyfile.WriteAtomic(path, text)
	}
	passphrase, err := p.passphraseSource(c.String("passphrase-file"), "passphrase for "+path, true).Get()
	if err != nil {
		return usagef("%w (give --passphrase-file, or --plaintext to go without)", err)
	}
	defer clear(passphrase)
	sealed, err := keyfile.Seal(p.rand, passphrase, agentKeyPurpose, text, keyfile.Params{Iterations: keyIterations})
	if err != nil {
		return usagef("%w", err)
	}
	return keyfile.WriteAtomic(path, sealed)
}

// readKey reads an agent's key file: an encrypted one, or PKCS#8 PEM. Either
// must be private to its owner.
func (p *program) readKey(flag, path, passphraseFile string) (crypto.PrivateKey, error) {
	if path == "" {
		return nil, usagef("--%s is missing: name the agent's key file (`edgecoder agent keygen` makes one)", flag)
	}
	data, err := keyfile.ReadPrivate(path)
	if err != nil {
		return nil, usagef("--%s: %w", flag, err)
	}
	defer clear(data)
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		if data, err = p.openKey(flag, path, passphraseFile, data); err != nil {
			return nil, err
		}
		defer clear(data)
	}
	key, err := crypto.ParsePrivateKeyPEM(data)
	if err != nil {
		return nil, usagef("--%s %s: %w", flag, path, err)
	}
	return key, nil
}

func (p *program) openKey(flag, path, passphraseFile string, sealed []byte) ([]byte, error) {
	if _, err := keyfile.Inspect(sealed); err != nil {
		return nil, usagef("--%s %s: %w", flag, path, err) // before anybody types a passphrase
	}
	passphrase, err := p.passphraseSource(passphraseFile, "passphrase of "+path, false).Get()
	if err != nil {
		return nil, usagef("--%s %s: %w (give --passphrase-file)", flag, path, err)
	}
	defer clear(passphrase)
	text, err := keyfile.Open(passphrase, agentKeyPurpose, sealed)
	if err != nil {
		return nil, usagef("--%s %s: %w", flag, path, err)
	}
	return text, nil
}
