package crypto

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"pgregory.net/rapid"
)

func verifyKey(t testing.TB, priv PrivateKey) *VerifyKey {
	t.Helper()
	key, err := NewVerifyKey(PublicOf(priv))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVerifyRFC8032(t *testing.T) {
	for _, v := range []struct{ name, seed, pub, msg, sig string }{ // RFC 8032 section 7.1
		{
			"test 1", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		},
		{
			"test 2", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
	} {
		pub, msg, sig := PublicKey(unhex(t, v.pub)), unhex(t, v.msg), unhex(t, v.sig)
		key, err := NewVerifyKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if !Verify(pub, msg, sig) || !key.Verify(msg, sig) || key.PublicKey() != pub {
			t.Errorf("%s: refused", v.name)
		}
		for bit := range 8 * len(sig) {
			bad := bytes.Clone(sig)
			bad[bit/8] ^= 1 << (bit % 8)
			if Verify(pub, msg, bad) || key.Verify(msg, bad) {
				t.Errorf("%s: accepted with bit %d flipped", v.name, bit)
			}
		}
	}
}

func TestVerifyOddInput(t *testing.T) {
	priv := testKey(t, 1)
	sig := ed25519.Sign(priv, []byte("m"))
	key := verifyKey(t, priv)
	var none *VerifyKey
	for name, ok := range map[string]bool{
		"nil key": none.Verify([]byte("m"), sig), "zero key": new(VerifyKey).Verify([]byte("m"), sig),
		"no signature": key.Verify([]byte("m"), nil), "long": key.Verify([]byte("m"), append(sig, 0)),
		"plain, none": Verify(PublicOf(priv), []byte("m"), nil), "plain, short": Verify(PublicOf(priv), []byte("m"), sig[:63]),
		"plain, zero key": Verify(PublicKey{}, []byte("m"), sig),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
	if got := VerifyBatch(nil, rand.Reader); len(got) != 0 {
		t.Errorf("empty batch: %v", got)
	}
	odd := make([]BatchItem, 10)
	odd[3] = BatchItem{Key: key, Msg: []byte("m"), Sig: sig}
	odd[4] = BatchItem{Key: new(VerifyKey), Msg: []byte("m"), Sig: sig}
	if got := VerifyBatch(odd, rand.Reader); !slices.Equal(got, []bool{3: true, 9: false}) {
		t.Errorf("odd batch: %v", got)
	}
}

// torsionSignature signs with an R that is shifted by a point of order 8. Only the owner of the key can make one, and
// it is what the two rules disagree about: the cofactor removes the shift.
func torsionSignature(priv PrivateKey, msg []byte) []byte {
	wide := sha512.Sum512(priv.Seed())
	wide[0] &= 248
	wide[31] = wide[31]&63 | 64
	secret, _ := scalar.NewFromBytesModOrder(wide[:32])
	nonce := scalar.NewFromUint64(12345)

	var shift curve.EdwardsPoint
	order8, _ := hex.DecodeString(weakKeys["order 8, a"])
	if _, err := shift.SetCompressedY((*curve.CompressedEdwardsY)(order8)); err != nil {
		panic(err)
	}
	var point curve.EdwardsPoint
	point.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, nonce)
	point.Add(&point, &shift)
	sig, _ := point.MarshalBinary()

	wide = sha512.Sum512(slices.Concat(sig, priv[32:], msg))
	s, _ := scalar.NewFromBytesModOrderWide(wide[:])
	s.Mul(s, secret)
	s.Add(s, nonce)
	last, _ := s.MarshalBinary()
	return append(sig, last...)
}

// The rules are two, as documented, and a batch follows the one of VerifyKey.
func TestRulesDiffer(t *testing.T) {
	priv := testKey(t, 1)
	msg := []byte("m")
	sig := torsionSignature(priv, msg)
	if Verify(PublicOf(priv), msg, sig) {
		t.Error("Verify is cofactored")
	}
	key := verifyKey(t, priv)
	if !key.Verify(msg, sig) || key.Verify([]byte("other"), sig) {
		t.Error("VerifyKey is not cofactored")
	}
	for _, n := range []int{1, batchMin, 100} { // singly, with tables, with buckets
		items := slices.Repeat([]BatchItem{{Key: key, Msg: msg, Sig: sig}}, n)
		if slices.Contains(VerifyBatch(items, rand.Reader), false) {
			t.Errorf("a batch of %d does not agree", n)
		}
	}
}

func TestBatchWithoutRandomness(t *testing.T) {
	priv := testKey(t, 1)
	items := make([]BatchItem, 20)
	for i := range items {
		msg := fmt.Append(nil, i)
		items[i] = BatchItem{Key: verifyKey(t, priv), Msg: msg, Sig: ed25519.Sign(priv, msg)}
	}
	items[7].Msg = []byte("other")
	for name, r := range map[string]io.Reader{
		"nil": nil, "short": bytes.NewReader(nil), "failing": iotest.ErrReader(errors.New("no entropy")), "good": rand.Reader,
	} {
		for i, ok := range VerifyBatch(items, r) {
			if ok != (i != 7) {
				t.Errorf("%s: item %d: %v", name, i, ok)
			}
		}
	}
}

// Single and batch verification give the same answers, whatever is done to the items.
func TestBatchAgreesWithSingle(t *testing.T) {
	keys := make([]*VerifyKey, 5)
	privs := make([]PrivateKey, len(keys))
	for i := range keys {
		privs[i] = testKey(t, byte(i+1))
		keys[i] = verifyKey(t, privs[i])
	}
	var torsion [][]byte // R, or anything else, of small order or badly encoded
	for _, h := range weakKeys {
		torsion = append(torsion, unhex(t, h))
	}
	slices.SortFunc(torsion, bytes.Compare)
	rapid.Check(t, func(t *rapid.T) {
		items := make([]BatchItem, rapid.IntRange(0, 40).Draw(t, "n"))
		for i := range items {
			who := rapid.IntRange(0, len(keys)-1).Draw(t, "key")
			msg := rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "msg")
			items[i] = BatchItem{Key: keys[who], Msg: msg, Sig: ed25519.Sign(privs[who], msg)}
			if rapid.IntRange(0, 15).Draw(t, "torsion") == 0 {
				items[i].Sig = torsionSignature(privs[who], msg)
			}
			spoil(t, &items[i], keys, torsion)
		}
		for i, ok := range VerifyBatch(items, rand.Reader) {
			if single := items[i].Key.Verify(items[i].Msg, items[i].Sig); single != ok {
				t.Fatalf("item %d of %d: single %v, batch %v", i, len(items), single, ok)
			}
		}
	})
}

// spoil changes an item in one of the ways attackers would, or not at all.
func spoil(t *rapid.T, item *BatchItem, keys []*VerifyKey, torsion [][]byte) {
	switch rapid.IntRange(0, 24).Draw(t, "spoil") {
	case 0:
		item.Sig[rapid.IntRange(0, 63).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	case 1:
		item.Msg = append(item.Msg, 'x')
	case 2:
		item.Key = rapid.SampledFrom(keys).Draw(t, "other key")
	case 3:
		item.Sig = item.Sig[:rapid.IntRange(0, 63).Draw(t, "length")]
	case 4:
		copy(item.Sig, rapid.SampledFrom(torsion).Draw(t, "R"))
	case 5:
		copy(item.Sig[32:], rapid.SampledFrom(torsion).Draw(t, "S"))
	case 6:
		item.Key = nil
	case 7:
		clear(item.Sig[32:])
	}
}

func TestBatchSizes(t *testing.T) {
	priv := testKey(t, 9)
	key := verifyKey(t, priv)
	msg := []byte("m")
	sig := ed25519.Sign(priv, msg)
	for _, n := range []int{1, batchMin - 1, batchMin, batchMax, batchMax + 1, 2*batchMax + 3} {
		items := slices.Repeat([]BatchItem{{Key: key, Msg: msg, Sig: sig}}, n)
		items[n-1].Msg = []byte("other")
		for i, ok := range VerifyBatch(items, rand.Reader) {
			if ok != (i != n-1) {
				t.Fatalf("batch of %d: item %d: %v", n, i, ok)
			}
		}
	}
}

func TestStatementText(t *testing.T) {
	priv := testKey(t, 1)
	// Golden bytes: the form of everything signed under a label may never change.
	want := "edgecoder member card v1\n\x00\x00\x00\x00\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x00"
	if got := statementText("member card v1", [][]byte{[]byte("ab"), nil}); string(got) != want {
		t.Fatalf("text %q", got)
	}
	sig := SignText(priv, "card v1", []byte("a"), []byte("bc"))
	pub := PublicOf(priv)
	if !VerifyText(pub, sig, "card v1", []byte("a"), []byte("bc")) {
		t.Fatal("refused")
	}
	for name, ok := range map[string]bool{
		"other label":   VerifyText(pub, sig, "card v2", []byte("a"), []byte("bc")),
		"parts moved":   VerifyText(pub, sig, "card v1", []byte("ab"), []byte("c")),
		"parts joined":  VerifyText(pub, sig, "card v1", []byte("abc")),
		"part added":    VerifyText(pub, sig, "card v1", []byte("a"), []byte("bc"), nil),
		"other key":     VerifyText(PublicOf(testKey(t, 2)), sig, "card v1", []byte("a"), []byte("bc")),
		"no signature":  VerifyText(pub, nil, "card v1", []byte("a"), []byte("bc")),
		"cut signature": VerifyText(pub, sig[:63], "card v1", []byte("a"), []byte("bc")),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, label := range []string{"", "a\nb", "é"} {
		if !panics(func() { SignText(priv, label) }) {
			t.Errorf("label %q is allowed", label)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func BenchmarkVerify(b *testing.B) {
	priv := testKey(b, 1)
	msg := make([]byte, 150)
	sig, pub := ed25519.Sign(priv, msg), PublicOf(priv)
	b.ReportAllocs()
	for b.Loop() {
		Verify(pub, msg, sig)
	}
}

func BenchmarkVerifyKey(b *testing.B) {
	priv := testKey(b, 1)
	msg := make([]byte, 150)
	sig, key := ed25519.Sign(priv, msg), verifyKey(b, priv)
	b.ReportAllocs()
	for b.Loop() {
		key.Verify(msg, sig)
	}
}

func BenchmarkNewVerifyKey(b *testing.B) {
	pub := PublicOf(testKey(b, 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewVerifyKey(pub); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyBatch(b *testing.B) {
	for _, n := range []int{2, 4, 16, 64, 256, 1024} {
		items := make([]BatchItem, n)
		for i := range items {
			priv := testKey(b, byte(i))
			msg := make([]byte, 150)
			msg[0] = byte(i)
			items[i] = BatchItem{Key: verifyKey(b, priv), Msg: msg, Sig: ed25519.Sign(priv, msg)}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				VerifyBatch(items, rand.Reader)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sig")
		})
	}
}
