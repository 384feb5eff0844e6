package keyfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/edgecoder/edgecoder/crypto/golden"
)

// goldenBundle was computed by running EdgeCoder itself (WIRE 17, 18, 27); it is never made from our own code.
type goldenBundle struct {
	EncryptedKeyBundle struct {
		Passphrase    string
		DerivedKeyHex string
		Encrypted     struct {
			Ciphertext string `json:"ciphertext"`
			Salt       string `json:"salt"`
			Nonce      string `json:"nonce"`
			Tag        string `json:"tag"`
		}
		PlaintextJSON string `json:"plaintextJson"`
	}
	KeyRotation struct {
		RotationDays, WarningDays int
		BundleAfterRotation       json.RawMessage
		Timing, GraceTiming       []struct {
			NowMs                             int64
			RotationDue, Expired, GraceActive bool
		}
	}
}

func loadGolden(t testing.TB) *goldenBundle {
	t.Helper()
	v := new(goldenBundle)
	golden.Load(t, v)
	return v
}

// file is the bundle as JSON.stringify writes it.
func (v *goldenBundle) file(t testing.TB) []byte {
	t.Helper()
	text, err := json.Marshal(v.EncryptedKeyBundle.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// derived uses the key of the vector, whatever the salt, so that tests need not wait for derivations.
func (v *goldenBundle) derived(t testing.TB) deriver {
	t.Helper()
	key, err := hex.DecodeString(v.EncryptedKeyBundle.DerivedKeyHex)
	if err != nil {
		t.Fatal(err)
	}
	return func(salt []byte) (cipher.AEAD, error) {
		if hex.EncodeToString(salt) != v.EncryptedKeyBundle.Encrypted.Salt {
			key := bytes.Clone(key)
			for i, b := range salt {
				key[i%len(key)] ^= b // any other salt gives another key
			}
			return aeadOf(key)
		}
		return aeadOf(key)
	}
}

func aeadOf(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func compact(t testing.TB, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundleGolden(t *testing.T) {
	v := loadGolden(t)
	b, err := OpenBundle([]byte(v.EncryptedKeyBundle.Passphrase), v.file(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b.append(nil)); got != v.EncryptedKeyBundle.PlaintextJSON {
		t.Errorf("plaintext\n%s", got)
	}
	if b.Previous != nil || b.Current.EndMs != BundleEndMs(b.Current.ActivatedMs, BundleRotationDays) ||
		!bytes.HasPrefix(b.Current.PrivatePEM, []byte("-----BEGIN PRIVATE KEY-----\n")) {
		t.Errorf("%+v", b)
	}
	e := v.EncryptedKeyBundle.Encrypted
	random, err := hex.DecodeString(e.Salt + e.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	again, err := SealBundle(bytes.NewReader(random), []byte(v.EncryptedKeyBundle.Passphrase), b)
	if err != nil || !bytes.Equal(again, v.file(t)) {
		t.Errorf("sealed again: %v\n%s", err, again)
	}
	b.Clear()
	if bytes.ContainsAny(b.Current.PrivatePEM, "-ABC") {
		t.Error("Clear left the private key")
	}
	if _, err := OpenBundle([]byte("correct horse battery staple"), v.file(t)); !errors.Is(err, ErrPassphraseOrDamaged) || errors.Is(err, ErrPassphrase) || errors.Is(err, ErrDamaged) {
		t.Errorf("wrong passphrase: %v", err)
	}
}

func TestBundleRotationTimes(t *testing.T) {
	v := loadGolden(t)
	fresh, err := parseBundle([]byte(v.EncryptedKeyBundle.PlaintextJSON))
	if err != nil {
		t.Fatal(err)
	}
	text := compact(t, v.KeyRotation.BundleAfterRotation)
	rotated, err := parseBundle(text)
	if err != nil || !bytes.Equal(rotated.append(nil), text) {
		t.Fatalf("%v", err)
	}
	if v.KeyRotation.RotationDays != BundleRotationDays || v.KeyRotation.WarningDays != BundleWarningDays {
		t.Errorf("the reference rotates after %d days and warns %d ahead", v.KeyRotation.RotationDays, v.KeyRotation.WarningDays)
	}
	if len(v.KeyRotation.Timing) == 0 || len(v.KeyRotation.GraceTiming) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.KeyRotation.Timing {
		if fresh.RotationDue(c.NowMs, BundleWarningDays) != c.RotationDue || fresh.Expired(c.NowMs) != c.Expired || fresh.PreviousInGrace(c.NowMs) != c.GraceActive {
			t.Errorf("at %d", c.NowMs)
		}
	}
	for _, c := range v.KeyRotation.GraceTiming {
		if rotated.RotationDue(c.NowMs, BundleWarningDays) != c.RotationDue || rotated.Expired(c.NowMs) != c.Expired || rotated.PreviousInGrace(c.NowMs) != c.GraceActive {
			t.Errorf("after rotation, at %d", c.NowMs)
		}
	}
}

// TestBundleEveryBit: no bit of a bundle file can change unseen.
func TestBundleEveryBit(t *testing.T) {
	v := loadGolden(t)
	file := v.file(t)
	if _, err := openBundle(file, v.derived(t)); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		b, err := openBundle(bad, v.derived(t))
		if b != nil || (!errors.Is(err, ErrDamaged) && !errors.Is(err, ErrParams) && !errors.Is(err, ErrPassphraseOrDamaged)) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for n := range len(file) {
		if err := InspectBundle(file[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestBundleFileRefused(t *testing.T) {
	v := loadGolden(t)
	e := v.EncryptedKeyBundle.Encrypted
	file := func(pairs ...string) string {
		var members []string
		for i := 0; i < len(pairs); i += 2 {
			members = append(members, fmt.Sprintf("%q:%q", pairs[i], pairs[i+1]))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	for name, c := range map[string]struct {
		file string
		want error
	}{
		"empty":                   {"", ErrDamaged},
		"no object":               {"[]", ErrDamaged},
		"empty object":            {"{}", ErrParams},
		"no ciphertext":           {file("salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag), ErrDamaged},
		"unknown member":          {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag, "kdf", "none"), ErrDamaged},
		"a member twice":          {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag, "tag", e.Tag), ErrDamaged},
		"another case":            {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "Tag", e.Tag), ErrParams},
		"a number":                {`{"ciphertext":"","salt":1}`, ErrDamaged},
		"tag of 4 bytes":          {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag[:8]), ErrParams},
		"tag of 15 bytes":         {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag[:30]), ErrParams},
		"tag of 17 bytes":         {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag+"00"), ErrParams},
		"short salt":              {file("ciphertext", e.Ciphertext, "salt", e.Salt[2:], "nonce", e.Nonce, "tag", e.Tag), ErrParams},
		"long nonce":              {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce+"00", "tag", e.Tag), ErrParams},
		"upper-case hex":          {file("ciphertext", e.Ciphertext, "salt", strings.ToUpper(e.Salt), "nonce", e.Nonce, "tag", e.Tag), ErrDamaged},
		"no hex":                  {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", "zz"+e.Nonce[2:], "tag", e.Tag), ErrDamaged},
		"base64 without padding":  {file("ciphertext", strings.TrimRight(e.Ciphertext, "=")+"A", "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag), ErrDamaged},
		"base64 with line breaks": {file("ciphertext", e.Ciphertext[:8]+"\n"+e.Ciphertext[8:], "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag), ErrDamaged},
		"text behind":             {file("ciphertext", e.Ciphertext, "salt", e.Salt, "nonce", e.Nonce, "tag", e.Tag) + "{}", ErrDamaged},
		"huge":                    {strings.Repeat(" ", maxBundleBytes) + "{}", ErrDamaged},
		"deep":                    {strings.Repeat("[", 9000), ErrDamaged},
	} {
		if err := InspectBundle([]byte(c.file)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// Order and white space say nothing, so they do not matter.
	other := "\n" + file("tag", e.Tag, "nonce", e.Nonce, "salt", e.Salt, "ciphertext", e.Ciphertext) + "\n"
	if b, err := openBundle([]byte(other), v.derived(t)); err != nil || b.KeyID == "" {
		t.Errorf("members in another order: %v", err)
	}
}

// TestBundleContentRefused: who knows the passphrase still cannot write two things that readers take differently.
func TestBundleContentRefused(t *testing.T) {
	v := loadGolden(t)
	good := v.EncryptedKeyBundle.PlaintextJSON
	if _, err := parseBundle([]byte(good)); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the vector", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"null":             "null",
		"white space":      good + " ",
		"unknown member":   replace(`,"keyId"`, `,"extra":1,"keyId"`),
		"a member twice":   replace(`,"keyId"`, `,"previousKey":null,"keyId"`),
		"another case":     replace(`"keyId"`, `"KeyId"`),
		"exponent":         replace("1767225600000", "17672256e5"),
		"fraction":         replace("1767225600000", "1767225600000.5"),
		"before 1970":      replace("1767225600000", "-1"),
		"beyond a double":  replace("1775001600000", "9007199254740992"),
		"ends before":      replace("1775001600000", "1767225599999"),
		"no expiry":        replace(`,"expiresAt":1775001600000`, ""),
		"wrong end":        replace("expiresAt", "deactivatedAt"),
		"no private key":   replace("privateKeyPem", "privatePem"),
		"private key null": replace(`"privateKeyPem":"`, `"privateKeyPem":null,"x":"`),
		"another escape":   replace(`\n`, `\u000a`),
		"previous empty":   replace("null", "{}"),
		"key id empty":     replace(`"keyId":"c0ffee00-0000-4000-8000-000000000001"`, `"keyId":""`),
		"key id escaped":   replace("c0ffee00", `c0f\"ee0`),
		"key id long":      replace("c0ffee00", strings.Repeat("c", 200)),
		"pem long":         replace("-----BEGIN PUBLIC KEY-----", strings.Repeat("-", 2000)),
	} {
		b, err := parseBundle([]byte(text))
		if !errors.Is(err, ErrDamaged) || b != nil {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "MC4CAQ") {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
}

func TestSealBundleRefused(t *testing.T) {
	v := loadGolden(t)
	good := func() *Bundle {
		b, err := parseBundle([]byte(v.EncryptedKeyBundle.PlaintextJSON))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		change func(*Bundle)
		rand   io.Reader
		want   error
	}{
		"no key id":          {func(b *Bundle) { b.KeyID = "" }, rand.Reader, ErrParams},
		"quote in key id":    {func(b *Bundle) { b.KeyID = `a"b` }, rand.Reader, ErrParams},
		"key id not ASCII":   {func(b *Bundle) { b.KeyID = "é" }, rand.Reader, ErrParams},
		"no private key":     {func(b *Bundle) { b.Current.PrivatePEM = nil }, rand.Reader, ErrParams},
		"public key no text": {func(b *Bundle) { b.Current.PublicPEM = "\x00" }, rand.Reader, ErrParams},
		"window backwards":   {func(b *Bundle) { b.Current.EndMs = b.Current.ActivatedMs - 1 }, rand.Reader, ErrParams},
		"bad previous":       {func(b *Bundle) { b.Previous = &BundleKey{} }, rand.Reader, ErrParams},
		"no randomness":      {func(*Bundle) {}, nil, nil},
		"short randomness":   {func(*Bundle) {}, bytes.NewReader(make([]byte, 43)), nil},
		"failing randomness": {func(*Bundle) {}, iotest.ErrReader(errors.New("no entropy")), nil},
	} {
		b := good()
		c.change(b)
		file, err := sealBundle(c.rand, b, v.derived(t))
		if err == nil || file != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := SealBundle(rand.Reader, []byte("1234567"), good()); !errors.Is(err, ErrParams) {
		t.Errorf("short passphrase: %v", err)
	}
}

// TestBundleLargest: what check allows fits into what opening accepts.
func TestBundleLargest(t *testing.T) {
	key := BundleKey{PrivatePEM: bytes.Repeat([]byte("\n"), maxPEMBytes), PublicPEM: strings.Repeat("\n", maxPEMBytes), EndMs: maxBundleMs}
	b := &Bundle{KeyID: strings.Repeat("x", maxBundleIDBytes), Current: key, Previous: &key}
	v := loadGolden(t)
	file, err := sealBundle(rand.Reader, b, v.derived(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := openBundle(file, v.derived(t))
	if err != nil || !bytes.Equal(got.append(nil), b.append(nil)) {
		t.Errorf("%d bytes: %v", len(file), err)
	}
}

// FuzzBundle looks for a panic, for an error of no kind, and for content that does not print
// back to the bytes it was read from.
func FuzzBundle(f *testing.F) {
	v := loadGolden(f)
	f.Add(v.file(f), []byte(v.EncryptedKeyBundle.PlaintextJSON))
	f.Add([]byte(`{"ciphertext":"","salt":"","nonce":"","tag":""}`), compact(f, v.KeyRotation.BundleAfterRotation))
	f.Add([]byte("{"), []byte(`{"currentKey":{"privateKeyPem":"\"`))
	f.Fuzz(func(t *testing.T, file, plaintext []byte) {
		if s, err := parseSealedBundle(file); err == nil {
			again, err := parseSealedBundle(s.append(nil))
			if err != nil || !bytes.Equal(again.ciphertext, s.ciphertext) || again.salt != s.salt || again.nonce != s.nonce || again.tag != s.tag {
				t.Fatalf("%v: %s", err, s.append(nil))
			}
		} else if errors.Is(err, ErrDamaged) == errors.Is(err, ErrParams) {
			t.Fatalf("%v", err)
		}
		b, err := parseBundle(plaintext)
		if err != nil {
			if b != nil || !errors.Is(err, ErrDamaged) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.Equal(b.append(nil), plaintext) {
			t.Fatalf("printed back as %s", b.append(nil))
		}
	})
}
