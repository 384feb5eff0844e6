package edge

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// refused opens a directory whose files somebody wrote who has no key.
func refused(t *testing.T, dir, what string) {
	t.Helper()
	var damage *Damage
	s, v, p, err := OpenStore(dir, testCluster, testSeal)
	if err == nil {
		_ = s.Close()
		t.Fatalf("%s: the edge starts from it, with %d bans at size %d, and trusts version %d of the cosigners", what, v.Len(), p.Head.Size, p.Trusted.Version)
	}
	if !errors.As(err, &damage) {
		t.Fatalf("%s: %v", what, err)
	}
}

// Who can write the directory takes a ban out, or names itself the cosigner: without the key of the identity that is no list.
func TestStoreRefusesAListOfAnother(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	w.step(t, 5)
	if err := s.Replace(w.at, w.v); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir)

	forger, _, _, err := OpenStore(t.TempDir(), testCluster, []byte(strings.Repeat("f", 32)))
	if err != nil {
		t.Fatal(err)
	}
	less, err := w.v.with([]Change{{Key: KeyOf("agent-2"), Ban: Ban{Seq: 9}, Lift: true}}, w.v.Head, 0)
	if err != nil {
		t.Fatal(err)
	}
	forged := w.at
	set, err := checkpoint.NewSet(testCluster, 1<<40, 1, crypto.Sum(nil), []crypto.PublicKey{crypto.PublicOf(w.key)})
	if err != nil {
		t.Fatal(err)
	}
	forged.Trusted = checkpoint.SignedSet{Set: set, Signatures: []checkpoint.Signature{set.Sign(w.key)}}
	if err := forger.Replace(forged, less); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = forger.Close() })
	copyFile(t, forger.path(fileList), s.path(fileList))
	refused(t, dir, "a list of another key")
}

// Steps count behind the list and the steps that they were written behind, and nowhere else.
func TestStoreRefusesStepsElsewhere(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := openStore(t, dir)
	w := newWalk(t)
	if err := s.Replace(w.at, w.v); err != nil {
		t.Fatal(err)
	}
	ends := []int64{s.stepsBytes}
	for range 3 { // three times the same position, as when only the cosigners changed
		if err := s.Step(w.at.Head.Size, w.at, nil, w.v); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, s.stepsBytes)
	}
	openStore(t, dir)
	all, err := os.ReadFile(s.stepsPath())
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"a step left out": append(append([]byte(nil), all[:ends[0]]...), all[ends[1]:]...),
		"steps swapped":   append(append(append([]byte(nil), all[:ends[0]]...), all[ends[1]:ends[2]]...), all[ends[0]:ends[1]]...),
	} {
		if err := os.WriteFile(s.stepsPath(), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, what)
	}

	other, _, _ := openStore(t, t.TempDir())
	w.step(t, 1)
	if err := other.Replace(w.at, w.v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.stepsPath(), all, 0o600); err != nil {
		t.Fatal(err)
	}
	copyFile(t, other.path(fileList), s.path(fileList))
	refused(t, dir, "steps behind another list of one generation")
}
