package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// keys are fixed, so that texts are too.
func testKey(n byte) crypto.PrivateKey {
	priv, err := crypto.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		panic(err)
	}
	return priv
}

func publicKeys(privs ...crypto.PrivateKey) (out []crypto.PublicKey) {
	for _, p := range privs {
		out = append(out, crypto.PublicOf(p))
	}
	return out
}

const testCluster = "0123456789abcdef0123456789abcdef"

var testOrigin = Origin{ClusterID: testCluster, Log: LogBlacklist, Epoch: 2}

func testSet(t testing.TB, privs ...crypto.PrivateKey) Set {
	t.Helper()
	s, err := NewSet(testCluster, 1, 0, crypto.Hash{}, publicKeys(privs...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func leaf(i int) []byte { return fmt.Appendf(nil, "record %d", i) }

func tree(n int) *Frontier {
	var f Frontier
	for i := range n {
		f.Append(LeafHash(leaf(i)))
	}
	return &f
}

func noteBy(c Checkpoint, log crypto.PrivateKey, at int64, cosigners ...crypto.PrivateKey) []byte {
	n := Note{Checkpoint: c, Signatures: []Signature{SignLog(log, c)}}
	for i, k := range cosigners {
		n.Signatures = append(n.Signatures, Cosign(k, c, at+int64(i)))
	}
	return n.Encode()
}

// TestGoldenNote: the bytes of a cosigned checkpoint never change.
func TestGoldenNote(t *testing.T) {
	a, b := testKey(1), testKey(2)
	got := string(noteBy(tree(5).Checkpoint(testOrigin), a, 1_700_000_000, a, b))
	const want = "edgecoder/0123456789abcdef0123456789abcdef/blacklist/2\n5\nq1uiQNXF9m1XxD/D6UjYe+ylGdTaiwKLbFgv2nu/mbQ="
	if head, _, _ := strings.Cut(got, "\n\n"); head != want {
		t.Errorf("text\n%s\nwant\n%s", head, want)
	}
	if sum := crypto.Sum([]byte(got)).String(); sum != goldenNoteSum {
		t.Errorf("note %s:\n%s", sum, got)
	}
}

// goldenNoteSum is the SHA-256 of the whole note; Ed25519 signatures are deterministic.
const goldenNoteSum = "b2e30b426c6f68f4f75a1e4159f6d44ad1c417bc757e33c6f55096e0eca9c0c8"

func TestOriginIsOneSpelling(t *testing.T) {
	recovered := testOrigin // two copies that were recovered apart have two logs
	recovered.Recovery = "0011223344556677"
	if got, err := ParseOrigin(recovered.String()); err != nil || got != recovered || got.String() != testOrigin.String()+"-0011223344556677" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"-", "-0011", "-001122334455667G", "-00112233445566778", "-0011223344556677-"} {
		if o, err := ParseOrigin(testOrigin.String() + bad); !errors.Is(err, ErrOrigin) {
			t.Errorf("%q: %+v, %v", bad, o, err)
		}
	}
	if got, err := ParseOrigin(testOrigin.String()); err != nil || got != testOrigin {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "edgecoder", "edgecoder//blacklist/0", "edgecoder/a b/blacklist/0", "edgecoder/a+b/blacklist/0",
		"edgecoder/a/Blacklist/0", "edgecoder/a/blacklist/00", "edgecoder/a/blacklist/-1", "edgecoder/a/blacklist/+1", "edgecoder/a/blacklist/0/",
		"edgecoder/a/blacklist/18446744073709551616", "other/a/blacklist/0", "edgecoder/a//0", "edgecoder/a\u00a0b/blacklist/0", "edgecoder/a/blacklist/0\n"} {
		if o, err := ParseOrigin(bad); !errors.Is(err, ErrOrigin) {
			t.Errorf("%q: %+v, %v", bad, o, err)
		}
	}
	if err := (Origin{ClusterID: "a/b", Log: LogLedger}).Check(); !errors.Is(err, ErrOrigin) {
		t.Errorf("a cluster id with a slash: %v", err)
	}
}

func TestCheckpointTextIsOneSpelling(t *testing.T) {
	c := tree(3).Checkpoint(testOrigin)
	good := string(c.Text())
	if got, err := ParseText([]byte(good)); err != nil || got != c {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, bad := range map[string]string{
		"no end":           strings.TrimSuffix(good, "\n"),
		"extension line":   good + "more\n",
		"leading zero":     strings.Replace(good, "\n3\n", "\n03\n", 1),
		"huge":             strings.Replace(good, "\n3\n", "\n9007199254740992\n", 1),
		"empty, full root": strings.Replace(good, "\n3\n", "\n0\n", 1),
		"short root":       good[:len(good)-6] + "\n",
		"carriage return":  strings.ReplaceAll(good, "\n", "\r\n"),
		"long":             good + strings.Repeat("x", maxTextBytes),
	} {
		if _, err := ParseText([]byte(bad)); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseText((&Frontier{}).Checkpoint(testOrigin).Text()); err != nil {
		t.Errorf("the empty tree: %v", err)
	}
}

func TestOpenCountsOnlyMembersOnce(t *testing.T) {
	a, b, c, stranger := testKey(1), testKey(2), testKey(3), testKey(9)
	set, cp := testSet(t, a, b, c), tree(7).Checkpoint(testOrigin)

	o, err := set.OpenFinal(noteBy(cp, a, 100, a, b, c))
	if err != nil || o.Checkpoint != cp || o.Log != crypto.PublicOf(a) || len(o.Cosignatures) != 3 || o.MajorityAtS() != 101 {
		t.Fatalf("three: %+v, %v", o, err)
	}
	for name, note := range map[string][]byte{
		"one coordinator only": noteBy(cp, a, 100, a),
		"one twice":            noteBy(cp, a, 100, a, a),
		"one and a stranger":   noteBy(cp, a, 100, a, stranger),
	} {
		if o, err := set.OpenFinal(note); !errors.Is(err, ErrNotFinal) {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
		if o, err := set.Open(note); err != nil || o.Final() || o.MajorityAtS() != 0 {
			t.Errorf("%s opened: %+v, %v", name, o, err)
		}
	}
	if _, err := set.Open(noteBy(cp, stranger, 100, a, b)); !errors.Is(err, ErrSignature) {
		t.Errorf("a stranger's log: %v", err)
	}
	other := cp
	other.Origin.ClusterID = "other"
	if _, err := set.Open(noteBy(other, a, 100, a, b)); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another cluster's: %v", err)
	}
	// the newest of one cosigner counts
	o, err = set.Open(noteBy(cp, a, 100, a, b, a))
	if err != nil || o.MajorityAtS() != 101 || o.Cosignatures[0].AtS != 102 {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestFlipEveryBit: no note with one bit changed opens as final, but to the very same checkpoint.
func TestFlipEveryBit(t *testing.T) {
	a, b := testKey(1), testKey(2)
	set, cp := testSet(t, a, b), tree(7).Checkpoint(testOrigin)
	note := noteBy(cp, a, 100, a, b)
	for i := range len(note) * 8 {
		bad := bytes.Clone(note)
		bad[i/8] ^= 1 << (i % 8)
		if o, err := set.OpenFinal(bad); err == nil {
			t.Fatalf("bit %d flipped: %+v\n%s", i, o, bad)
		}
	}
}

func TestSetFollowsByMajority(t *testing.T) {
	a, b, c, d := testKey(1), testKey(2), testKey(3), testKey(4)
	first := testSet(t, a, b, c)
	signed := func(s Set, by ...crypto.PrivateKey) SignedSet {
		out := SignedSet{Set: s}
		for _, k := range by {
			out.Signatures = append(out.Signatures, s.Sign(k))
		}
		parsed, err := ParseSet(out.Encode())
		if err != nil {
			t.Fatalf("%v\n%s", err, out.Encode())
		}
		return parsed
	}
	if err := signed(first, a, b).VerifyRoot(); err != nil {
		t.Errorf("root by two of three: %v", err)
	}
	if err := signed(first, a).VerifyRoot(); !errors.Is(err, ErrSet) {
		t.Errorf("root by one: %v", err)
	}
	next, err := NewSet(testCluster, 2, 0, first.Hash(), publicKeys(b, c, d))
	if err != nil {
		t.Fatal(err)
	}
	third, err := NewSet(testCluster, 3, 1, next.Hash(), publicKeys(d))
	if err != nil {
		t.Fatal(err)
	}
	chain := []SignedSet{signed(first, a, b), signed(next, b, c), signed(third, c, d)}
	if got, err := first.Follow(chain); err != nil || got.Version != 3 {
		t.Errorf("follow: %+v, %v", got, err)
	}
	for name, bad := range map[string]SignedSet{
		"one of three":          signed(next, b),
		"one and the newcomer":  signed(next, b, d),
		"the same twice":        {Set: next, Signatures: []Signature{next.Sign(b), next.Sign(b)}},
		"a version left out":    signed(third, a, b),
		"another before":        signed(Set{ClusterID: testCluster, Version: 2, Previous: crypto.Sum([]byte("x")), Cosigners: next.Cosigners}, a, b),
		"a root":                signed(Set{ClusterID: testCluster, Version: 2, Epoch: 1, Cosigners: next.Cosigners}, a, b),
		"another cluster's":     signed(Set{ClusterID: "other", Version: 2, Previous: first.Hash(), Cosigners: next.Cosigners}, a, b),
		"signed for other text": {Set: next, Signatures: []Signature{first.Sign(a), first.Sign(b)}},
	} {
		if err := first.Verify(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := first.Verify(signed(Set{ClusterID: testCluster, Version: 2, Epoch: 1, Cosigners: next.Cosigners}, a, b)); !errors.Is(err, ErrNewRoot) {
		t.Errorf("a root is not named: %v", err)
	}
}

func TestSetTextRefuses(t *testing.T) {
	set := testSet(t, testKey(1), testKey(2))
	good := string(set.Text())
	lines := strings.SplitAfter(good, "\n")
	for name, bad := range map[string]string{
		"out of order":    strings.Join(lines[:5], "") + lines[6] + lines[5],
		"twice":           strings.Join(lines[:6], "") + lines[5],
		"nobody":          strings.Join(lines[:5], ""),
		"version 0":       strings.Replace(good, "version 1", "version 0", 1),
		"no title":        good[1:],
		"another type":    strings.Replace(good, "+BI", "+AI", 1),
		"no end":          strings.TrimSuffix(good, "\n"),
		"first follows":   strings.Replace(good, "none", strings.Repeat("0f", 32), 1),
		"upper case hash": strings.Replace(strings.Replace(good, "none", strings.Repeat("0F", 32), 1), "version 1", "version 2", 1),
	} {
		if _, err := ParseSetText([]byte(bad)); !errors.Is(err, ErrSet) {
			t.Errorf("%s: %v\n%s", name, err, bad)
		}
	}
	if got, err := ParseSetText([]byte(good)); err != nil || got.Hash() != set.Hash() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFrontierSurvivesItsBytes(t *testing.T) {
	var f Frontier
	for i := range 70 {
		data, err := f.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back Frontier
		if err := back.UnmarshalBinary(data); err != nil || back.Root() != f.Root() || back.Size() != f.Size() {
			t.Fatalf("size %d: %v", i, err)
		}
		if err := back.UnmarshalBinary(append(data, 0)); !errors.Is(err, ErrFrontier) || back.Root() != f.Root() {
			t.Fatalf("a byte more: %v", err)
		}
		before, root := f, f.Root()
		f.Append(LeafHash(leaf(i)))
		if before.Root() != root {
			t.Fatalf("a copy of size %d changed with its origin", i)
		}
	}
}
