package crypto

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func testEncryptionKey(t testing.TB, b byte) *ecdh.PrivateKey {
	t.Helper()
	key, err := GenerateEncryptionKey(bytes.NewReader(bytes.Repeat([]byte{b}, EncryptionKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Alice's keys in RFC 7748 section 6.1, and the SHA-256 of the public one, computed with sha256sum.
const (
	alicePrivate = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
	alicePublic  = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
	aliceID      = "300c9c9603b92a4b"
)

// TestEncryptionKeyFromRandomness: the very bytes of the reader become the key, so that vectors can be reproduced.
func TestEncryptionKeyFromRandomness(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, EncryptionKeySize)
	key := testEncryptionKey(t, 7)
	if !bytes.Equal(key.Bytes(), raw) {
		t.Errorf("key %x", key.Bytes())
	}
	for name, r := range map[string]io.Reader{
		"nil": nil, "short": bytes.NewReader(make([]byte, 31)), "failing": iotest.ErrReader(errors.New("no entropy")),
	} {
		if key, err := GenerateEncryptionKey(r); err == nil || key != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEncryptionKeyPEMForeign: our PEM is what the standard library reads and writes.
func TestEncryptionKeyPEMForeign(t *testing.T) {
	key := testEncryptionKey(t, 9)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	ours, err := MarshalEncryptionKeyPEM(key)
	if err != nil || !bytes.Equal(ours, private) {
		t.Errorf("private: %v\n%s\n%s", err, ours, private)
	}
	if back, err := ParseEncryptionKeyPEM(private); err != nil || !back.Equal(key) {
		t.Errorf("private: %v", err)
	}
	if der, err = x509.MarshalPKIXPublicKey(key.PublicKey()); err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if EncryptionPublicKeyPEM(key.PublicKey()) != public {
		t.Errorf("public:\n%s", EncryptionPublicKeyPEM(key.PublicKey()))
	}
	for name, text := range map[string]string{
		"PEM": public, "no final newline": strings.TrimSuffix(public, "\n"), "CR LF": strings.ReplaceAll(public, "\n", "\r\n"),
		"base64": base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()),
	} {
		if back, err := ParseEncryptionPublicKey(text); err != nil || !back.Equal(key.PublicKey()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEncryptionKeyID(t *testing.T) {
	key, err := GenerateEncryptionKey(bytes.NewReader(unhex(t, alicePrivate)))
	if err != nil || hex.EncodeToString(key.PublicKey().Bytes()) != alicePublic {
		t.Fatalf("public key %x, %v", key.PublicKey().Bytes(), err)
	}
	if got := EncryptionKeyID(key.PublicKey()); got != aliceID {
		t.Errorf("key id %s", got)
	}
}

// weakEncryptionKeys are the points of small order of the curve and its twist, and numbers that are not reduced
// (RFC 7748 section 6.1, https://cr.yp.to/ecdh.html#validate).
var weakEncryptionKeys = map[string]string{
	"0":                 "0000000000000000000000000000000000000000000000000000000000000000",
	"1":                 "0100000000000000000000000000000000000000000000000000000000000000",
	"order 8, a":        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"order 8, b":        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"p-1":               "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"p":                 "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"p+1":               "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"p+9, order full":   "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"9, high bit set":   "0900000000000000000000000000000000000000000000000000000000000080",
	"all ones":          "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"2p-1":              "d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"order 8, high bit": "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
}

func TestWeakEncryptionKeysRefused(t *testing.T) {
	for name, h := range weakEncryptionKeys {
		raw := unhex(t, h)
		der := append([]byte(x25519SPKIPrefix), raw...)
		for how, text := range map[string]string{"base64": b64(raw), "PEM": string(encodePEM(publicLabel, der))} {
			if pub, err := ParseEncryptionPublicKey(text); !errors.Is(err, ErrWeakKey) || pub != nil {
				t.Errorf("%s, %s: %v", name, how, err)
			}
		}
	}
	for _, raw := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		if _, err := NewEncryptionPublicKey(raw); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
	}
	// The largest reduced number, and one below p in a higher byte, are keys like any other.
	for _, h := range []string{
		"ebffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe7f",
	} {
		if _, err := NewEncryptionPublicKey(unhex(t, h)); err != nil {
			t.Errorf("%s: %v", h, err)
		}
	}
}

func TestEncryptionKeyRefused(t *testing.T) {
	key := testEncryptionKey(t, 1)
	good, err := MarshalEncryptionKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	public := EncryptionPublicKeyPEM(key.PublicKey())
	raw := base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())
	for name, text := range map[string]string{
		"empty": "", "Ed25519": PublicOf(testKey(t, 1)).PEM(), "private": string(good), "text before": "x" + public, "text after": public + "x",
		"no padding": strings.TrimRight(raw, "="), "base64 of 31 bytes": b64(make([]byte, 31)), "line break": raw[:20] + "\n" + raw[20:],
		"huge": public + strings.Repeat("\n", 2000),
	} {
		if pub, err := ParseEncryptionPublicKey(text); err == nil || pub != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "Ed25519": string(MarshalPrivateKeyPEM(testKey(t, 1))), "public": public, "text after": string(good) + "x", "cut": string(good[:60]),
	} {
		priv, err := ParseEncryptionKeyPEM([]byte(text))
		if err == nil || priv != nil {
			t.Errorf("%s: accepted", name)
		} else if len(text) > 60 && strings.Contains(err.Error(), text[30:60]) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
	p256, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*ecdh.PrivateKey{nil, p256} {
		if _, err := MarshalEncryptionKeyPEM(other); err == nil {
			t.Errorf("marshalled %v", other)
		}
	}
}

// TestEncryptionKeyEveryBit: a flipped bit is refused or is another key, never the same one in other words.
func TestEncryptionKeyEveryBit(t *testing.T) {
	key := testEncryptionKey(t, 5)
	private, err := MarshalEncryptionKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(private) {
		bad := bytes.Clone(private)
		bad[bit/8] ^= 1 << (bit % 8)
		if got, err := ParseEncryptionKeyPEM(bad); err == nil && bytes.Equal(got.Bytes(), key.Bytes()) {
			t.Errorf("private, bit %d: read as the same key", bit)
		}
	}
	public := EncryptionPublicKeyPEM(key.PublicKey())
	for bit := range 8 * len(public) {
		bad := []byte(public)
		bad[bit/8] ^= 1 << (bit % 8)
		if got, err := ParseEncryptionPublicKey(string(bad)); err == nil && got.Equal(key.PublicKey()) {
			t.Errorf("public, bit %d: read as the same key", bit)
		}
	}
}

func FuzzParseEncryptionPublicKey(f *testing.F) {
	key := testEncryptionKey(f, 1)
	f.Add(EncryptionPublicKeyPEM(key.PublicKey()))
	f.Add(b64(key.PublicKey().Bytes()))
	f.Add("-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----")
	f.Fuzz(func(t *testing.T, text string) {
		pub, err := ParseEncryptionPublicKey(text)
		if err != nil {
			if pub != nil {
				t.Fatal("a key beside an error")
			}
			return
		}
		asPEM := strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n") + "\n"
		if text != b64(pub.Bytes()) && asPEM != EncryptionPublicKeyPEM(pub) {
			t.Fatalf("accepted %q", text)
		}
		if _, err := testEncryptionKey(t, 2).ECDH(pub); err != nil {
			t.Fatal(err)
		}
	})
}
