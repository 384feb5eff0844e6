package cmd

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// keyFileFlag is a key file as the command line names it.
type keyFileFlag struct {
	where          string // "--key agent.key"
	path           string
	passphraseFile string
	purpose        string // that a sealed file must have; empty: that of any key
}

// readKey reads an Ed25519 key file: an encrypted one, an EdgeCoder bundle, or
// PKCS#8 PEM. Each must be private to its owner. Clear the key after use.
func (p *program) readKey(flag, path, passphraseFile string) (crypto.PrivateKey, error) {
	if path == "" {
		return nil, usagef("--%s is missing: name the agent's key file (`edgecoder agent keygen` makes one)", flag)
	}
	return readKeyFile(p, keyFileFlag{"--" + flag + " " + path, path, passphraseFile, agentKeyPurpose}, crypto.ParsePrivateKeyPEM)
}

// readEncryptionKey reads an X25519 key file, as readKey does. What crypto/ecdh
// holds of the key cannot be cleared.
func (p *program) readEncryptionKey(flag, path, passphraseFile string) (*ecdh.PrivateKey, error) {
	if path == "" {
		return nil, usagef("--%s is missing: name the file of an X25519 key (`edgecoder keys generate --type x25519` makes one)", flag)
	}
	return readKeyFile(p, keyFileFlag{"--" + flag + " " + path, path, passphraseFile, encryptionKeyPurpose}, crypto.ParseEncryptionKeyPEM)
}

// readKeyFile reads a key file and forgets its text, of which parse keeps nothing.
func readKeyFile[K any](p *program, f keyFileFlag, parse func(text []byte) (K, error)) (key K, err error) {
	opened, err := p.openKeyFile(f)
	if err != nil {
		return key, err
	}
	defer opened.clear()
	if key, err = parse(opened.pem); err != nil {
		return key, usagef("%s: %w", f.where, err)
	}
	return key, nil
}

// openedKey is a private key file without its cover.
type openedKey struct {
	pem        []byte          // PKCS#8
	bundle     *keyfile.Bundle // what else was in a bundle
	passphrase []byte          // that opened it; nil for PEM
}

func (k *openedKey) clear() {
	clear(k.pem)
	clear(k.passphrase)
	if k.bundle != nil {
		k.bundle.Clear()
	}
}

// openKeyFile reads a file of one private key in any of the formats.
func (p *program) openKeyFile(f keyFileFlag) (*openedKey, error) {
	data, err := keyfile.ReadPrivate(f.path)
	if err != nil {
		return nil, usagef("%s: %w", f.where, err)
	}
	return p.openKeyData(f, data)
}

// openKeyData clears data, unless it is the key itself.
func (p *program) openKeyData(f keyFileFlag, data []byte) (*openedKey, error) {
	switch keyfile.FormatOf(data) {
	case keyfile.FormatPrivatePEM, keyfile.FormatPublicPEM: // parsing tells what is wrong with the latter
		return &openedKey{pem: data}, nil
	case keyfile.FormatBundle:
		return p.openBundle(f, data)
	}
	defer clear(data)
	header, err := keyfile.Inspect(data)
	if err != nil {
		return nil, keyFileFault(f.where, err) // before anybody types a passphrase
	}
	purpose := f.purpose
	if purpose == "" {
		purpose = header.Purpose
	}
	if purpose != agentKeyPurpose && purpose != encryptionKeyPurpose {
		return nil, usagef("%s: it holds %q, not a key of its own", f.where, purpose)
	}
	passphrase, err := p.passphraseOf(f)
	if err != nil {
		return nil, err
	}
	text, err := keyfile.Open(passphrase, purpose, data)
	if err != nil {
		clear(passphrase)
		return nil, keyFileFault(f.where, err)
	}
	return &openedKey{pem: text, passphrase: passphrase}, nil
}

func (p *program) openBundle(f keyFileFlag, data []byte) (*openedKey, error) {
	if err := keyfile.InspectBundle(data); err != nil {
		return nil, keyFileFault(f.where, err)
	}
	passphrase, err := p.passphraseOf(f)
	if err != nil {
		return nil, err
	}
	b, err := keyfile.OpenBundle(passphrase, data)
	if err != nil {
		clear(passphrase)
		return nil, keyFileFault(f.where, err)
	}
	opened := &openedKey{pem: bytes.Clone(b.Current.PrivatePEM), bundle: b, passphrase: passphrase}
	if err := checkBundle(b); err != nil {
		opened.clear()
		return nil, usagef("%s: %w", f.where, err)
	}
	if now := p.now(); b.Expired(now.UnixMilli()) {
		p.say("warning: %s: the key expired on %s", f.path, time.UnixMilli(b.Current.EndMs).UTC().Format(time.DateOnly))
	}
	return opened, nil
}

// checkBundle holds the halves of each key of a bundle together: readers may
// take either for the truth.
func checkBundle(b *keyfile.Bundle) error {
	for name, key := range map[string]*keyfile.BundleKey{"current": &b.Current, "previous": b.Previous} {
		if key == nil {
			continue
		}
		pair, err := parseKeyPair(key.PrivatePEM)
		if err != nil {
			return fmt.Errorf("its %s key: %w", name, err)
		}
		clear(pair.pem)
		public, err := parsePublicKey(key.PublicPEM)
		if err != nil {
			return fmt.Errorf("its %s key: %w", name, err)
		}
		if public != pair.publicKey {
			return fmt.Errorf("the two halves of its %s key do not belong together", name)
		}
	}
	return nil
}

func (p *program) passphraseOf(f keyFileFlag) ([]byte, error) {
	passphrase, err := p.passphraseSource(f.passphraseFile, "passphrase of "+f.path, false).Get()
	if err != nil {
		return nil, usagef("%s: %w", f.where, hintPassphrase(err, "give --passphrase-file"))
	}
	return passphrase, nil
}

// hintPassphrase says how to give a passphrase when none was given.
func hintPassphrase(err error, hint string) error {
	if errors.Is(err, keyfile.ErrNoPassphrase) {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	return err
}

// keyFileFault tells what to do about a key file that does not open.
func keyFileFault(where string, err error) error {
	next := ""
	switch {
	case errors.Is(err, keyfile.ErrPassphrase):
		next = "; give the right one with --passphrase-file or EDGECODER_PASSPHRASE"
	case errors.Is(err, keyfile.ErrPassphraseOrDamaged):
		next = "; try the passphrase again, else restore the file from a backup"
	case errors.Is(err, keyfile.ErrDamaged):
		next = "; is it the right file?"
	case errors.Is(err, keyfile.ErrPurpose):
		next = "; name the file that was made for this"
	case errors.Is(err, keyfile.ErrParams):
		next = "; a newer version made it, or somebody changed it: restore it from a backup"
	}
	return usagef("%s: %w%s", where, err, next)
}
