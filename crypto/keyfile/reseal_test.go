package keyfile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
)

func TestFormatOf(t *testing.T) {
	for text, want := range map[string]Format{
		"": FormatUnknown, "ssh-ed25519 AAAA": FormatUnknown, "edgekey": FormatUnknown, " edgekey\n": FormatUnknown,
		string(sealed()): FormatSealed, `{"ciphertext":""}`: FormatBundle, "\n {": FormatBundle,
		"-----BEGIN PUBLIC KEY-----\n":            FormatPublicPEM,
		"-----BEGIN PRIVATE KEY-----\n":           FormatPrivatePEM,
		"\r\n-----BEGIN EC PRIVATE KEY-----\n":    FormatPrivatePEM,
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\n": FormatPrivatePEM,
		"-----BEGIN CERTIFICATE-----\n":           FormatUnknown,
	} {
		if got := FormatOf([]byte(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestReseal(t *testing.T) {
	old, next := []byte(testPassphrase), []byte("another passphrase")
	want, err := open(t, sealed())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ ask, want int }{
		"cost kept": {0, MinIterations}, "cost changed": {MinIterations + 1, MinIterations + 1},
	} {
		file, err := Reseal(rand.Reader, sealed(), old, next, Params{Iterations: c.ask})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h, err := Inspect(file); err != nil || h.Iterations != c.want || h.Purpose != testPurpose {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		if got, err := Open(next, testPurpose, file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Open(old, testPurpose, file); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: the old passphrase: %v", name, err)
		}
	}
}

func TestResealRefused(t *testing.T) {
	v := loadGolden(t)
	old, next := []byte(testPassphrase), []byte("another passphrase")
	damaged := bytes.Clone(sealed())
	damaged[len(damaged)-1] ^= 1
	for name, c := range map[string]struct {
		file, old, next []byte
		iterations      int
		want            error
	}{
		"wrong passphrase":     {sealed(), next, next, 0, ErrPassphrase},
		"damaged":              {damaged, old, next, 0, ErrDamaged},
		"cheap":                {sealed(), old, next, 1, ErrParams},
		"short new passphrase": {sealed(), old, []byte("short"), 0, ErrParams},
		"cost of a bundle":     {v.file(t), old, next, BundleIterations + 1, ErrParams},
		"bundle, wrong":        {v.file(t), old, next, 0, ErrPassphraseOrDamaged},
		"PEM":                  {[]byte("-----BEGIN PRIVATE KEY-----\n"), old, next, 0, ErrDamaged},
	} {
		if file, err := Reseal(rand.Reader, c.file, c.old, c.next, Params{Iterations: c.iterations}); !errors.Is(err, c.want) || file != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Reseal(nil, sealed(), old, next, Params{}); err == nil {
		t.Error("sealed without randomness")
	}
}

func TestResealBundle(t *testing.T) {
	v := loadGolden(t)
	next := []byte("another passphrase")
	file, err := Reseal(rand.Reader, v.file(t), []byte(v.EncryptedKeyBundle.Passphrase), next, Params{Iterations: BundleIterations})
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundle(next, file)
	if err != nil || string(b.append(nil)) != v.EncryptedKeyBundle.PlaintextJSON {
		t.Errorf("%v", err)
	}
}

func TestParamsCheck(t *testing.T) {
	for n, good := range map[int]bool{0: true, MinIterations: true, MaxIterations: true, 1: false, -1: false, MinIterations - 1: false, MaxIterations + 1: false} {
		if err := (Params{Iterations: n}).Check(); (err == nil) != good || (err != nil && !errors.Is(err, ErrParams)) {
			t.Errorf("%d: %v", n, err)
		}
	}
}
