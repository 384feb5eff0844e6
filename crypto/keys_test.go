package crypto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
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

func TestKeysGolden(t *testing.T) {
	for alias, k := range loadGolden(t).Keys.Ed25519 {
		priv, err := ParsePrivateKeyPEM([]byte(k.PrivateKeyPem))
		if err != nil {
			t.Fatalf("%s: %v", alias, err)
		}
		if hex.EncodeToString(priv.Seed()) != k.SeedHex {
			t.Errorf("%s: seed %x", alias, priv.Seed())
		}
		if got := string(MarshalPrivateKeyPEM(priv)); got != k.PrivateKeyPem {
			t.Errorf("%s: private PEM\n%s", alias, got)
		}
		pub, err := ParsePublicKeyPEM(k.PublicKeyPem)
		if err != nil || pub != PublicOf(priv) || hex.EncodeToString(pub[:]) != k.PublicKeyRawHex {
			t.Errorf("%s: public key %s, %v", alias, pub, err)
		}
		if pub.PEM() != k.PublicKeyPem {
			t.Errorf("%s: public PEM\n%s", alias, pub.PEM())
		}
		again, err := GenerateKey(bytes.NewReader(unhex(t, k.SeedHex)))
		if err != nil || !again.Equal(priv) {
			t.Errorf("%s: GenerateKey from the seed: %v", alias, err)
		}
	}
}

func TestKeyNames(t *testing.T) {
	_, pub := loadGolden(t).key(t, "coordA")
	print := pub.Fingerprint().String()
	if Sum(pub[:]).String() != print || pub.KeyID() != print[:16] || pub.CoordinatorID() != "coord-"+print[:12] {
		t.Errorf("fingerprint %s, key id %s, coordinator id %s", print, pub.KeyID(), pub.CoordinatorID())
	}
	// Golden: ids are in chains and on disk for ever.
	if pub.CoordinatorID() != "coord-"+goldenCoordA {
		t.Errorf("coordinator id of coordA changed to %s", pub.CoordinatorID())
	}
	var back PublicKey
	text, _ := pub.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != pub || string(text) != pub.String() {
		t.Errorf("text form: %v", err)
	}
}

// goldenCoordA is sha256sum of the raw key b5b442cf…c1b6, computed with another tool.
const goldenCoordA = "4b9fb869d484"

func TestGenerateKeyNeedsRandomness(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"nil": nil, "short": bytes.NewReader(make([]byte, 31)), "failing": iotest.ErrReader(errors.New("no entropy")),
	} {
		if priv, err := GenerateKey(r); err == nil || priv != nil {
			t.Errorf("%s: %v, %v", name, priv, err)
		}
	}
}

// Our PEM is what the standard library reads and writes.
func TestPEMForeign(t *testing.T) {
	priv := testKey(t, 7)
	block, rest := pem.Decode([]byte(PublicOf(priv).PEM()))
	if block == nil || len(rest) != 0 {
		t.Fatal("pem.Decode does not read our public key")
	}
	foreign, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || !bytes.Equal(foreign.(ed25519.PublicKey), priv.Public().(ed25519.PublicKey)) {
		t.Fatalf("x509 reads %v, %v", foreign, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if !bytes.Equal(text, MarshalPrivateKeyPEM(priv)) {
		t.Errorf("x509 writes\n%s", text)
	}
}

func TestPublicKeyPEMTolerance(t *testing.T) {
	want := PublicOf(testKey(t, 1))
	text := want.PEM()
	for name, variant := range map[string]string{
		"as Node prints it":   text,
		"no final newline":    strings.TrimSuffix(text, "\n"),
		"CR LF":               strings.ReplaceAll(text, "\n", "\r\n"),
		"an empty line after": text + "\n",
	} {
		if got, err := ParsePublicKeyPEM(variant); err != nil || got != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublicKeyPEMRefused(t *testing.T) {
	good := PublicOf(testKey(t, 1)).PEM()
	body := strings.Split(good, "\n")[1]
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	x25519 := unhex(t, "302a300506032b656e032100")
	x25519 = append(x25519, bytes.Repeat([]byte{9}, 32)...)
	wrap := func(b string) string {
		return "-----BEGIN PUBLIC KEY-----\n" + b + "\n-----END PUBLIC KEY-----\n"
	}
	for name, bad := range map[string]string{
		"empty":             "",
		"text before":       "x\n" + good,
		"text after":        good + "x",
		"space after":       good + " ",
		"two keys":          good + good,
		"headers":           strings.Replace(good, "-----\n", "-----\nProc-Type: 4\n\n", 1),
		"private label":     strings.ReplaceAll(good, "PUBLIC", "PRIVATE"),
		"no padding":        wrap(strings.TrimRight(body, "=")),
		"line broken":       wrap(body[:30] + "\n" + body[30:]),
		"base64url":         wrap(strings.Repeat("-", 59) + "="),
		"junk in it":        wrap(body[:20] + "!" + body[21:]),
		"trailing bits":     wrap(body[:58] + "Z="),
		"P-256":             string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ecDER})),
		"X25519":            wrap(base64.StdEncoding.EncodeToString(x25519)),
		"one byte short":    wrap(base64.StdEncoding.EncodeToString(x25519[:43])),
		"huge":              good + strings.Repeat("\n", 2000),
		"just the key":      body,
		"lower-case labels": strings.ToLower(good),
	} {
		if pub, err := ParsePublicKeyPEM(bad); err == nil || !pub.IsZero() {
			t.Errorf("%s: accepted as %s", name, pub)
		}
	}
}

func TestPrivateKeyPEMRefused(t *testing.T) {
	priv := testKey(t, 1)
	good := string(MarshalPrivateKeyPEM(priv))
	for name, bad := range map[string]string{
		"empty": "", "public": PublicOf(priv).PEM(), "text after": good + "x",
		"wrong algorithm": strings.Replace(good, "MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2Vu", 1),
		"cut":             good[:60],
	} {
		_, err := ParsePrivateKeyPEM([]byte(bad))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), good[30:60]) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
}

// weakKeys are the encodings of the eight points of small order, canonical and not, and other bytes that no honest
// key has ("Taming the many EdDSAs", table 1; ZIP 215).
var weakKeys = map[string]string{
	"order 1":                          "0100000000000000000000000000000000000000000000000000000000000000",
	"order 2":                          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"order 4, y=0":                     "0000000000000000000000000000000000000000000000000000000000000000",
	"order 4, y=0, sign":               "0000000000000000000000000000000000000000000000000000000000000080",
	"order 8, a":                       "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"order 8, b":                       "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"order 8, c":                       "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"order 8, d":                       "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"order 1, sign set":                "0100000000000000000000000000000000000000000000000000000000000080",
	"order 2, sign set":                "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"order 4, y=p":                     "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"order 4, y=p, sign":               "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"order 1, y=p+1":                   "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"order 1, y=p+1, sign":             "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"not canonical, y=p+3, full order": "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"y=2^255-1":                        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"all ones":                         "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"no point with y=2":                "0200000000000000000000000000000000000000000000000000000000000000",
}

func TestWeakKeysRefused(t *testing.T) {
	for name, h := range weakKeys {
		pub := PublicKey(unhex(t, h))
		if err := CheckPublicKey(pub); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: CheckPublicKey: %v", name, err)
		}
		if _, err := NewVerifyKey(pub); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: NewVerifyKey: %v", name, err)
		}
		if _, err := ParsePublicKeyPEM(pub.PEM()); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: ParsePublicKeyPEM: %v", name, err)
		}
		if _, err := ParsePublicKey(pub.String()); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: ParsePublicKey: %v", name, err)
		}
	}
}

func TestBase64OneSpelling(t *testing.T) {
	pub := PublicOf(testKey(t, 3))
	good := pub.String()
	for _, bad := range []string{"", good[:43], good + "=", good + "\n", good[:20] + "\n" + good[20:], good[:20] + "\n" + good[21:],
		"\r" + good[1:], " " + good[1:], strings.TrimRight(good, "="), good[:42] + "f=", good[:20] + "_" + good[21:], good[:42] + "=="} {
		var got PublicKey
		if err := got.UnmarshalText([]byte(bad)); err == nil && bad != good {
			t.Errorf("accepted %q for %q", bad, good)
		}
	}
}

func FuzzParsePublicKeyPEM(f *testing.F) {
	good := PublicOf(testKey(f, 1)).PEM()
	f.Add(good)
	f.Add(strings.TrimSuffix(good, "\n"))
	f.Add(strings.ReplaceAll(good, "\n", "\r\n"))
	f.Add("-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----")
	f.Fuzz(func(t *testing.T, text string) {
		pub, err := ParsePublicKeyPEM(text)
		if err != nil {
			if !pub.IsZero() {
				t.Fatal("a key beside an error")
			}
			return
		}
		// Whatever was accepted is our own spelling up to line ends, and the standard library agrees.
		if strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")+"\n" != pub.PEM() {
			t.Fatalf("accepted %q", text)
		}
		block, _ := pem.Decode([]byte(pub.PEM()))
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	})
}
