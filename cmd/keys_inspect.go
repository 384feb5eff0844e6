package cmd

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/node"
)

func (p *program) keysInspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "say what a key file is, and with --open which key it holds",
		UsageText: "edgecoder keys inspect FILE [--open]",
		Description: "FILE is a key file, a key bundle, a server's node.keys, or a private or public key in PEM. Without --open no passphrase is needed: what\n" +
			"is printed then stands in the open, and only opening proves it. Exit status 1: the file is damaged or its parameters are not acceptable.\n\n" +
			"Examples:\n  edgecoder keys inspect agent-1.key\n  edgecoder keys inspect coordinator.json --open --passphrase-file pass.txt --format json",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "open", Usage: "open it with its passphrase"}, passphraseFlag()},
		Action: p.keysInspect,
	}
}

// inspectedView is the JSON of `keys inspect`.
type inspectedView struct {
	File       string            `json:"file"`
	Format     keyfile.Format    `json:"format"`
	Encrypted  bool              `json:"encrypted"`
	Opened     bool              `json:"opened"`
	Cipher     string            `json:"cipher,omitempty"`
	KDF        string            `json:"kdf,omitempty"`
	Iterations int               `json:"iterations,omitempty"`
	Purpose    string            `json:"purpose,omitempty"`
	KeyType    string            `json:"key_type,omitempty"` // as far as it is known without opening
	Key        *publicKey        `json:"key,omitempty"`
	Bundle     *bundleView       `json:"bundle,omitempty"`
	Server     *node.KeyFileInfo `json:"server,omitempty"`
}

// bundleView is what a bundle says of its keys, judged at this moment.
type bundleView struct {
	KeyID       string     `json:"key_id"` // of the bundle, chosen by its maker
	ActivatedMs int64      `json:"activated_ms"`
	ExpiresMs   int64      `json:"expires_ms"`
	RotationDue bool       `json:"rotation_due"`
	Expired     bool       `json:"expired"`
	Previous    *olderView `json:"previous,omitempty"`
}

type olderView struct {
	Key           publicKey `json:"key"`
	ActivatedMs   int64     `json:"activated_ms"`
	DeactivatedMs int64     `json:"deactivated_ms"`
	InGrace       bool      `json:"in_grace"` // it still verifies
}

func (p *program) keysInspect(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	data, err := p.readForInspection(args[0], c.Bool("open"))
	if err != nil {
		return err
	}
	defer clear(data)
	view := inspectedView{File: args[0], Format: keyfile.FormatOf(data)}
	if err := p.describeKeyFile(&view, data); err != nil {
		return err
	}
	if c.Bool("open") && view.Encrypted {
		if err := p.openForInspection(&view, c.String("passphrase-file"), data); err != nil {
			return err
		}
	}
	return p.emit(c, view, func(t *table) { drawInspected(t, view) })
}

// readForInspection reads a file that may be public. Secrets that others may
// read are looked at, with a warning, but not opened.
func (p *program) readForInspection(path string, open bool) ([]byte, error) {
	data, err := keyfile.ReadPrivate(path)
	if err == nil || !errors.Is(err, keyfile.ErrShared) {
		if err != nil {
			return nil, usagef("%w", err)
		}
		return data, nil
	}
	f, openErr := os.Open(path)
	if openErr != nil {
		return nil, usagef("%w", openErr)
	}
	defer f.Close()
	data, readErr := readBounded(f, keyfile.MaxFileBytes)
	if readErr != nil {
		return nil, usagef("%s: %w", path, readErr)
	}
	if keyfile.FormatOf(data) == keyfile.FormatPublicPEM {
		return data, nil
	}
	if open {
		clear(data)
		return nil, usagef("%w", err)
	}
	p.say("warning: %v", err)
	return data, nil
}

// describeKeyFile tells what can be told without a passphrase.
func (p *program) describeKeyFile(view *inspectedView, data []byte) error {
	switch view.Format {
	case keyfile.FormatSealed:
		header, err := keyfile.Inspect(data)
		if err != nil {
			return notSound(view.File, err)
		}
		view.Purpose, view.Iterations = header.Purpose, header.Iterations
		for keyType, purpose := range purposes {
			if purpose == header.Purpose {
				view.KeyType = keyType
			}
		}
	case keyfile.FormatBundle:
		if err := keyfile.InspectBundle(data); err != nil {
			return notSound(view.File, err)
		}
		view.Iterations = keyfile.BundleIterations
	case keyfile.FormatPrivatePEM:
		pair, err := parseKeyPair(data)
		if err != nil {
			return refusedf("%s: %w", view.File, err)
		}
		clear(pair.pem)
		p.say("warning: %s is not encrypted: whoever reads it has the key; `edgecoder keys convert` encrypts it", view.File)
		view.Key, view.KeyType = &pair.publicKey, pair.KeyType
	case keyfile.FormatPublicPEM:
		public, err := parsePublicKey(string(data))
		if err != nil {
			return refusedf("%s: %w", view.File, err)
		}
		view.Key, view.KeyType = &public, public.KeyType
	default:
		return refusedf("%s: this is no key file: neither encrypted, nor a bundle, nor PEM", view.File)
	}
	if view.Key == nil {
		view.Encrypted, view.Cipher, view.KDF = true, "AES-256-GCM", "PBKDF2-HMAC-SHA256"
	}
	return nil
}

// notSound is the verdict on a file that was asked about.
func notSound(path string, err error) error {
	return refusedf("%w", keyFileFault(path, err))
}

// openForInspection opens an encrypted file and tells what may be shown of it.
func (p *program) openForInspection(view *inspectedView, passphraseFile string, data []byte) error {
	f := keyFileFlag{where: view.File, path: view.File, passphraseFile: passphraseFile}
	view.Opened = true
	if view.Purpose == node.KeyFilePurpose {
		passphrase, err := p.passphraseOf(f)
		if err != nil {
			return err
		}
		defer clear(passphrase)
		server, err := node.OpenKeyFile(passphrase, data)
		if err != nil {
			return keyFileFault(view.File, err)
		}
		view.Server = &server
		return nil
	}
	opened, err := p.openKeyData(f, data)
	if err != nil {
		return err
	}
	defer opened.clear()
	pair, err := parseKeyPair(opened.pem)
	if err != nil {
		return refusedf("%s: it opens, but %w", view.File, err)
	}
	clear(pair.pem)
	view.Key, view.KeyType = &pair.publicKey, pair.KeyType
	if opened.bundle == nil {
		return nil
	}
	view.Bundle, err = viewBundle(opened.bundle, p.now().UnixMilli())
	return err
}

func viewBundle(b *keyfile.Bundle, nowMs int64) (*bundleView, error) {
	view := &bundleView{KeyID: b.KeyID, ActivatedMs: b.Current.ActivatedMs, ExpiresMs: b.Current.EndMs,
		RotationDue: b.RotationDue(nowMs, keyfile.BundleWarningDays), Expired: b.Expired(nowMs)}
	if b.Previous == nil {
		return view, nil
	}
	public, err := parsePublicKey(b.Previous.PublicPEM)
	view.Previous = &olderView{public, b.Previous.ActivatedMs, b.Previous.EndMs, b.PreviousInGrace(nowMs)}
	return view, err
}

func drawInspected(t *table, v inspectedView) {
	t.row("file", v.File)
	t.row("format", string(v.Format))
	if v.Encrypted {
		t.row("encrypted", v.Cipher+" under "+v.KDF+", "+number(v.Iterations)+" iterations")
	} else {
		t.row("encrypted", "no")
	}
	if v.Purpose != "" {
		t.row("purpose", v.Purpose)
	}
	if v.KeyType != "" {
		t.row("key type", v.KeyType)
	}
	if v.Key != nil {
		drawKey(t, "", *v.Key)
	}
	if v.Bundle != nil {
		drawBundle(t, *v.Bundle)
	}
	if v.Server != nil {
		drawServerKeys(t, *v.Server)
	}
}

func drawKey(t *table, which string, key publicKey) {
	t.row(which+"key id", key.KeyID)
	t.row(which+"fingerprint", key.Fingerprint)
	t.row(which+"public key", key.Raw)
}

func drawBundle(t *table, b bundleView) {
	state := "good"
	if b.Expired {
		state = "expired"
	} else if b.RotationDue {
		state = "rotation due"
	}
	t.row("bundle id", b.KeyID)
	t.row("activated", t.when(b.ActivatedMs))
	t.row("expires", t.when(b.ExpiresMs))
	t.row("window", state)
	if b.Previous == nil {
		return
	}
	drawKey(t, "previous ", b.Previous.Key)
	t.row("previous activated", t.when(b.Previous.ActivatedMs))
	t.row("previous ended", t.when(b.Previous.DeactivatedMs))
	grace := "over: it no longer verifies"
	if b.Previous.InGrace {
		grace = "it still verifies"
	}
	t.row("previous grace", grace)
}

func drawServerKeys(t *table, s node.KeyFileInfo) {
	t.row("node id", s.NodeID)
	t.row("cluster id", orDash(s.ClusterID))
	t.row("role", orDash(string(s.Role)))
	t.row("signing key id", s.SigningKeyID)
	t.row("peer id", s.PeerID)
	t.row("encryption key id", s.EncryptionKeyID)
	ca := "no"
	if s.HoldsCAKey {
		ca = "yes"
	}
	t.row("holds the CA key", ca)
}
