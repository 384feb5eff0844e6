package keyfile

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// cheap is the floor: there is no way to ask for less, tests included.
var cheap = Params{Iterations: MinIterations}

const (
	testPurpose    = "node identity v1"
	testPassphrase = "correct horse"
)

// sealed makes one file for all tests that only look at it.
var sealed = sync.OnceValue(func() []byte {
	file, err := Seal(zeros{}, []byte(testPassphrase), testPurpose, []byte("secret"), cheap)
	if err != nil {
		panic(err)
	}
	return file
})

// zeros is a source of no randomness at all, for golden bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func open(t testing.TB, file []byte) ([]byte, error) {
	t.Helper()
	return Open([]byte(testPassphrase), testPurpose, file)
}

// resum puts the right checksum under changed bytes.
func resum(file []byte) []byte {
	body := file[:len(file)-sha256.Size]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// Golden bytes: files written once must open for ever. The ciphertext was checked with another implementation
// (Python's hashlib and cryptography).
func TestGoldenFile(t *testing.T) {
	header := hex.EncodeToString([]byte("edgekey\n")) + "0101" + "000186a0" + strings.Repeat("00", 44) + "10" + hex.EncodeToString([]byte(testPurpose))
	want := header + goldenSealed
	got := sealed()
	if hex.EncodeToString(got[:len(got)-sha256.Size]) != want {
		t.Fatalf("file %x", got)
	}
	if !bytes.Equal(resum(got), got) {
		t.Error("checksum")
	}
	plaintext, err := open(t, got)
	if err != nil || string(plaintext) != "secret" {
		t.Errorf("opened %q, %v", plaintext, err)
	}
	h, err := Inspect(got)
	if err != nil || h.Purpose != testPurpose || h.Iterations != MinIterations {
		t.Errorf("header %+v, %v", h, err)
	}
}

const goldenSealed = "6b6374638bc84e8e0b38ff1416a11232f4ab34114ba9"

func TestWrongPassphraseAndPurpose(t *testing.T) {
	if _, err := Open([]byte("correct horse "), testPurpose, sealed()); !errors.Is(err, ErrPassphrase) || errors.Is(err, ErrDamaged) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := Open([]byte(testPassphrase), "cluster ca v1", sealed()); !errors.Is(err, ErrPurpose) {
		t.Errorf("wrong purpose: %v", err)
	}
}

func TestSealIsFresh(t *testing.T) {
	file, err := Seal(rand.Reader, []byte(testPassphrase), testPurpose, nil, cheap)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Inspect(file)
	if err != nil || h.Salt == [saltBytes]byte{} || h.nonce == [nonceBytes]byte{} {
		t.Errorf("%+v, %v", h, err)
	}
	if plaintext, err := open(t, file); err != nil || len(plaintext) != 0 {
		t.Errorf("empty plaintext: %q, %v", plaintext, err)
	}
}

// Damage is told from a wrong passphrase, and without the cost of a derivation.
func TestEveryBitIsDamage(t *testing.T) {
	file := sealed()
	for bit := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[bit/8] ^= 1 << (bit % 8)
		if plaintext, err := open(t, bad); !errors.Is(err, ErrDamaged) || plaintext != nil {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for n := range len(file) {
		if _, err := open(t, file[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := open(t, append(bytes.Clone(file), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := open(t, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("empty: %v", err)
	}
}

// One who recomputes the checksum gains nothing: every field is under the tag or refused outright. A bit of each
// field is enough, since each one costs a derivation.
func TestEveryFieldIsAuthenticated(t *testing.T) {
	file := sealed()
	at := len(magic) + 2
	for name, c := range map[string]struct {
		offset int
		bit    byte
		want   error
	}{
		"magic":           {0, 1, ErrDamaged},
		"version":         {len(magic), 2, ErrParams},
		"kdf":             {len(magic) + 1, 2, ErrParams},
		"iterations up":   {at + 3, 1, ErrPassphrase},
		"iterations huge": {at, 0x80, ErrParams},
		"iterations few":  {at + 1, 1, ErrParams},
		"salt":            {at + 4, 1, ErrPassphrase},
		"nonce":           {at + 4 + saltBytes, 0x80, ErrPassphrase},
		"purpose length":  {at + 4 + saltBytes + nonceBytes, 1, ErrPurpose},
		"purpose":         {fixedBytes, 1, ErrPurpose},
		"ciphertext":      {fixedBytes + len(testPurpose), 1, ErrPassphrase},
		"tag":             {len(file) - sha256.Size - 1, 1, ErrPassphrase},
	} {
		bad := bytes.Clone(file)
		bad[c.offset] ^= c.bit
		if _, err := open(t, resum(bad)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// Relabelled for another purpose, and opened for that.
	bad := bytes.Clone(file)
	bad[fixedBytes] ^= 1
	if _, err := Open([]byte(testPassphrase), string(bad[fixedBytes:fixedBytes+len(testPurpose)]), resum(bad)); !errors.Is(err, ErrPassphrase) {
		t.Errorf("relabelled: %v", err)
	}
}

func TestIterationBounds(t *testing.T) {
	for _, n := range []uint32{0, 1, MinIterations - 1, MaxIterations + 1, 1 << 31, 1<<32 - 1} {
		bad := bytes.Clone(sealed())
		binary.BigEndian.PutUint32(bad[len(magic)+2:], n)
		if _, err := open(t, resum(bad)); !errors.Is(err, ErrParams) {
			t.Errorf("open with %d iterations: %v", n, err)
		}
	}
	for _, n := range []int{-1, 1, MinIterations - 1, MaxIterations + 1} {
		if _, err := Seal(rand.Reader, []byte(testPassphrase), testPurpose, nil, Params{Iterations: n}); !errors.Is(err, ErrParams) {
			t.Errorf("seal with %d iterations: %v", n, err)
		}
	}
}

func TestDefaultIterations(t *testing.T) {
	file, err := Seal(rand.Reader, []byte(testPassphrase), testPurpose, nil, Params{})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := Inspect(file); err != nil || h.Iterations != 600_000 {
		t.Errorf("%d iterations, %v", h.Iterations, err)
	}
}

func TestSealRefused(t *testing.T) {
	good := []byte(testPassphrase)
	for name, c := range map[string]struct {
		rand       io.Reader
		passphrase []byte
		purpose    string
		size       int
		want       error
	}{
		"short passphrase":   {rand.Reader, []byte("1234567"), testPurpose, 0, ErrParams},
		"no passphrase":      {rand.Reader, nil, testPurpose, 0, ErrParams},
		"no purpose":         {rand.Reader, good, "", 0, ErrParams},
		"long purpose":       {rand.Reader, good, strings.Repeat("x", 129), 0, ErrParams},
		"newline in purpose": {rand.Reader, good, "a\nb", 0, ErrParams},
		"too large":          {rand.Reader, good, testPurpose, MaxFileBytes, ErrParams},
		"no randomness":      {nil, good, testPurpose, 0, nil},
		"short randomness":   {bytes.NewReader(make([]byte, 43)), good, testPurpose, 0, nil},
		"failing randomness": {iotest.ErrReader(errors.New("no entropy")), good, testPurpose, 0, nil},
	} {
		file, err := Seal(c.rand, c.passphrase, c.purpose, make([]byte, c.size), cheap)
		if err == nil || file != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Fuzzing stays before the derivation: what it looks for is a panic in reading the header, and a header that does
// not print back to the bytes it was read from.
func FuzzKeyfileOpen(f *testing.F) {
	f.Add(sealed(), true)
	f.Add(sealed()[:fixedBytes+overhead], true)
	f.Add([]byte(magic), false)
	f.Fuzz(func(t *testing.T, file []byte, sum bool) {
		if sum && len(file) > sha256.Size {
			file = resum(file)
		}
		h, err := Inspect(file)
		if err != nil {
			if errors.Is(err, ErrDamaged) == errors.Is(err, ErrParams) || h != (Header{}) {
				t.Fatalf("%v", err)
			}
			if _, openErr := open(t, file); openErr == nil || openErr.Error() != err.Error() {
				t.Fatalf("Inspect says %v, Open %v", err, openErr)
			}
			return
		}
		if !bytes.HasPrefix(file, h.append(nil)) {
			t.Fatalf("header %+v of %x", h, file)
		}
		if _, err := Open(nil, h.Purpose+"x", file); !errors.Is(err, ErrPurpose) {
			t.Fatal(err)
		}
	})
}

func BenchmarkOpenAtDefault(b *testing.B) {
	file, err := Seal(rand.Reader, []byte(testPassphrase), testPurpose, nil, Params{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := open(b, file); err != nil {
			b.Fatal(err)
		}
	}
}
