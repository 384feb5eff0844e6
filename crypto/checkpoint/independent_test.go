package checkpoint

import (
	"bytes"
	"slices"
	"testing"
	"time"

	tdlog "github.com/transparency-dev/formats/log"
	tdnote "github.com/transparency-dev/formats/note"
	tdproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/crypto"
)

// hashes keeps stored hashes in memory, as the history does on disk.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = h[x]
	}
	return out, nil
}

func stored(t testing.TB, n int) (h hashes) {
	for i := range n {
		more, err := tlog.StoredHashes(int64(i), leaf(i), h)
		if err != nil {
			t.Fatal(err)
		}
		h = append(h, more...)
	}
	return h
}

func rows(list []tlog.Hash) (ours []crypto.Hash, theirs [][]byte) {
	for _, h := range list {
		ours, theirs = append(ours, crypto.Hash(h)), append(theirs, bytes.Clone(h[:]))
	}
	return ours, theirs
}

// TestIndependentRoots: transparency-dev's compact range gives the roots of our frontier.
func TestIndependentRoots(t *testing.T) {
	their := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	var ours Frontier
	for i := range 200 {
		if err := their.Append(rfc6962.DefaultHasher.HashLeaf(leaf(i)), nil); err != nil {
			t.Fatal(err)
		}
		ours.Append(LeafHash(leaf(i)))
		want, err := their.GetRootHash(nil)
		if root := ours.Root(); err != nil || !bytes.Equal(root[:], want) {
			t.Fatalf("size %d: root %s, theirs %x, %v", i+1, root, want, err)
		}
	}
	if !bytes.Equal(EmptyRoot[:], rfc6962.DefaultHasher.EmptyRoot()) {
		t.Error("the empty root differs")
	}
}

// TestIndependentProofs: every proof of a small tree is judged alike by us and by transparency-dev, true and tampered.
func TestIndependentProofs(t *testing.T) {
	const most = 20
	all, hasher := stored(t, most), rfc6962.DefaultHasher
	for size := 1; size <= most; size++ {
		c := tree(size).Checkpoint(testOrigin)
		for i := range size {
			p, err := tlog.ProveRecord(int64(size), int64(i), all)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := rows(p)
			for bad := -1; bad < len(ours); bad++ {
				if bad >= 0 {
					ours[bad][0] ^= 1
					theirs[bad][0] ^= 1
				}
				l := LeafHash(leaf(i))
				a := VerifyInclusion(c, uint64(i), l, ours)
				b := proof.VerifyInclusion(hasher, uint64(i), uint64(size), l[:], theirs, c.Root[:])
				if (a == nil) != (b == nil) || (a == nil) != (bad < 0) {
					t.Fatalf("record %d of %d, hash %d tampered: %v, theirs %v", i, size, bad, a, b)
				}
				if bad >= 0 {
					ours[bad][0] ^= 1
					theirs[bad][0] ^= 1
				}
			}
			if VerifyInclusion(c, uint64(i), LeafHash(leaf(i+1)), ours) == nil || VerifyInclusion(c, uint64(i), LeafHash(leaf(i)), append(ours, crypto.Hash{})) == nil {
				t.Fatalf("record %d of %d: another leaf, or a hash too many, was proved", i, size)
			}
		}
		for old := 1; old <= size; old++ {
			p, err := tlog.ProveTree(int64(size), int64(old), all)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := rows(p)
			before := tree(old).Checkpoint(testOrigin)
			a := VerifyConsistency(before, c, ours)
			b := proof.VerifyConsistency(hasher, uint64(old), uint64(size), theirs, before.Root[:], c.Root[:])
			if a != nil || b != nil {
				t.Fatalf("from %d to %d: %v, theirs %v", old, size, a, b)
			}
			before.Root[3] ^= 4
			if VerifyConsistency(before, c, ours) == nil {
				t.Fatalf("from a forked %d to %d", old, size)
			}
		}
	}
	next := tree(3).Checkpoint(testOrigin)
	if err := VerifyConsistency((&Frontier{}).Checkpoint(testOrigin), next, nil); err != nil {
		t.Errorf("from nothing: %v", err)
	}
	later := next
	later.Origin.Epoch++
	if VerifyConsistency(next, later, nil) == nil {
		t.Error("two epochs were found consistent")
	}
}

// TestIndependentNotes: the note library and transparency-dev's cosignature reader verify what we sign, under the
// verifier keys that we print, and we take what they sign.
func TestIndependentNotes(t *testing.T) {
	a, b := testKey(1), testKey(2)
	set, cp := testSet(t, a, b), tree(9).Checkpoint(testOrigin)
	msg := noteBy(cp, a, 1_700_000_000, a, b)

	log, err := note.NewVerifier(LogKey(testOrigin, crypto.PublicOf(a)))
	if err != nil {
		t.Fatal(err)
	}
	verifiers := []note.Verifier{}
	for _, key := range set.Cosigners {
		v, err := tdnote.NewVerifierForCosignatureV1(CosignerKey(key))
		if err != nil {
			t.Fatal(err)
		}
		verifiers = append(verifiers, v)
	}
	got, _, opened, err := tdlog.ParseCheckpoint(msg, testOrigin.String(), log, verifiers...)
	if err != nil || got.Size != cp.Size || !bytes.Equal(got.Hash, cp.Root[:]) || len(opened.Sigs) != 3 {
		t.Fatalf("%+v, %+v, %v", got, opened, err)
	}
	if at, err := tdnote.CoSigV1Timestamp(opened.Sigs[1]); err != nil || at.Unix() < 1_700_000_000 {
		t.Errorf("time of a cosignature: %v, %v", at, err)
	}

	skey, vkey, err := note.GenerateKey(bytes.NewReader(make([]byte, 64)), "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := tdnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	more, err := note.Sign(&note.Note{Text: opened.Text, Sigs: opened.Sigs}, witness)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := set.OpenFinal(more); err != nil || len(o.Cosignatures) != 2 {
		t.Errorf("with a foreign witness (%s): %+v, %v", vkey, o, err)
	}
	if at := time.Unix(set.mustOpen(t, msg).MajorityAtS(), 0); at.Unix() != 1_700_000_000 {
		t.Errorf("majority time %v", at)
	}
}

func (s Set) mustOpen(t *testing.T, msg []byte) Opened {
	t.Helper()
	o, err := s.OpenFinal(msg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestIndependentSetSignatures: the plain note library verifies who vouches for a set.
func TestIndependentSetSignatures(t *testing.T) {
	a := testKey(1)
	set := testSet(t, a)
	msg := SignedSet{Set: set, Signatures: []Signature{set.Sign(a)}}.Encode()
	key := crypto.PublicOf(a)
	text, err := note.NewEd25519VerifierKey(key.CoordinatorID(), key[:])
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := note.Open(msg, note.VerifierList(v)); err != nil || n.Text != string(set.Text()) {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestIndependentBundle: transparency-dev reads our bundles and writes the same bytes.
func TestIndependentBundle(t *testing.T) {
	a, b := testKey(1), testKey(2)
	const n, i = 11, 6
	p, err := tlog.ProveRecord(n, i, stored(t, n))
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := rows(p)
	bundle := Bundle{Record: leaf(i), Index: i, Hashes: ours, Note: noteBy(tree(n).Checkpoint(testOrigin), a, 5, a, b)}
	text := bundle.Encode()
	var their tdproof.TLogProof
	if err := their.Unmarshal(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if their.Index != i || len(their.Hashes) != len(ours) || !bytes.Equal(their.ExtraData, leaf(i)) || !bytes.Equal(their.Checkpoint, bundle.Note) {
		t.Errorf("they read %+v", their)
	}
	if !bytes.Equal(their.Marshal(), text) {
		t.Error("they write it otherwise")
	}
	parsed, err := ParseBundle(text)
	if err != nil {
		t.Fatal(err)
	}
	set := testSet(t, a, b)
	if _, err := parsed.Verify(set, LogBlacklist); err != nil {
		t.Error(err)
	}
	if _, err := parsed.Verify(set, LogLedger); err == nil {
		t.Error("a ban was taken for a ledger record")
	}
	if _, err := parsed.Verify(testSet(t, a, b, testKey(3), testKey(4)), LogBlacklist); err == nil {
		t.Error("two of four were enough")
	}
	for _, change := range []func(*Bundle){
		func(b *Bundle) { b.Index++ },
		func(b *Bundle) { b.Record = []byte("another") },
		func(b *Bundle) { b.Hashes = slices.Clone(b.Hashes[1:]) },
	} {
		bad := parsed
		change(&bad)
		if _, err := bad.Verify(set, LogBlacklist); err == nil {
			t.Errorf("%+v was proved", bad)
		}
	}
}
