package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format is a kind of key file.
type Format string

// What [FormatOf] tells apart.
const (
	FormatSealed     Format = "sealed" // what Seal writes
	FormatBundle     Format = "bundle" // what SealBundle writes
	FormatPrivatePEM Format = "private_pem"
	FormatPublicPEM  Format = "public_pem"
	FormatUnknown    Format = "unknown"
)

// FormatOf tells what a file claims to be by how it begins.
func FormatOf(file []byte) Format {
	start := bytes.TrimLeft(file, " \t\r\n")
	switch {
	case bytes.HasPrefix(file, []byte(magic)):
		return FormatSealed
	case bytes.HasPrefix(start, []byte("{")):
		return FormatBundle
	case bytes.HasPrefix(start, []byte("-----BEGIN PUBLIC KEY-----")):
		return FormatPublicPEM
	case bytes.HasPrefix(start, []byte("-----BEGIN ")) && bytes.Contains(start, []byte("PRIVATE KEY-----")):
		return FormatPrivatePEM
	}
	return FormatUnknown
}

// Reseal opens a sealed file or a bundle and seals its content again, under another passphrase or at another cost.
// With Iterations zero a file keeps its cost; a bundle has only one. Errors are those of [Open] and [OpenBundle], and
// of [Seal] and [SealBundle]. What it returns was opened again first: it replaces the only copy of a key.
func Reseal(rand io.Reader, file, oldPassphrase, newPassphrase []byte, p Params) ([]byte, error) {
	switch FormatOf(file) {
	case FormatSealed:
		return resealFile(rand, file, oldPassphrase, newPassphrase, p)
	case FormatBundle:
		return resealBundle(rand, file, oldPassphrase, newPassphrase, p)
	}
	return nil, fmt.Errorf("%w: neither a sealed file nor a bundle", ErrDamaged)
}

var errNotTheSame = errors.New("keyfile: reseal: the new file does not open to what was in the old one")

func resealFile(rand io.Reader, file, oldPassphrase, newPassphrase []byte, p Params) ([]byte, error) {
	h, err := Inspect(file)
	if err != nil {
		return nil, err
	}
	if p.Iterations == 0 {
		p.Iterations = h.Iterations
	}
	plaintext, err := Open(oldPassphrase, h.Purpose, file)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	sealed, err := Seal(rand, newPassphrase, h.Purpose, plaintext, p)
	if err != nil {
		return nil, err
	}
	again, err := Open(newPassphrase, h.Purpose, sealed)
	if err != nil {
		return nil, fmt.Errorf("keyfile: reseal: the new file does not open: %w", err)
	}
	defer clear(again)
	if !bytes.Equal(again, plaintext) {
		return nil, errNotTheSame
	}
	return sealed, nil
}

func resealBundle(rand io.Reader, file, oldPassphrase, newPassphrase []byte, p Params) ([]byte, error) {
	if p.Iterations != 0 && p.Iterations != BundleIterations {
		return nil, fmt.Errorf("%w: the cost of a bundle is always %d", ErrParams, BundleIterations)
	}
	b, err := OpenBundle(oldPassphrase, file)
	if err != nil {
		return nil, err
	}
	defer b.Clear()
	sealed, err := SealBundle(rand, newPassphrase, b)
	if err != nil {
		return nil, err
	}
	again, err := OpenBundle(newPassphrase, sealed)
	if err != nil {
		return nil, fmt.Errorf("keyfile: reseal: the new bundle does not open: %w", err)
	}
	defer again.Clear()
	if !bytes.Equal(again.Current.PrivatePEM, b.Current.PrivatePEM) {
		return nil, errNotTheSame
	}
	return sealed, nil
}
