package node

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// pinWorld has cosigner sets that follow each other, and a token that pins the first.
func pinWorld(t *testing.T) (token crypto.TokenText, notes [][]byte, key crypto.PrivateKey) {
	t.Helper()
	var previous crypto.Hash
	var by, all []crypto.PrivateKey
	for version := uint64(1); version <= 3; version++ {
		k, err := crypto.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
		if version == 1 {
			by = all
		}
		var keys []crypto.PublicKey
		for _, k := range all {
			keys = append(keys, crypto.PublicOf(k))
		}
		set, err := checkpoint.NewSet(strings.Repeat("0a", 16), version, 1, previous, keys)
		if err != nil {
			t.Fatal(err)
		}
		signed := checkpoint.SignedSet{Set: set}
		for _, k := range by {
			signed.Signatures = append(signed.Signatures, set.Sign(k))
		}
		if notes = append(notes, signed.Encode()); version == 1 {
			token = crypto.TokenText{ClusterID: set.ClusterID, Role: "edge", ID: "0011223344556677", Secret: strings.Repeat("2c", 32), Pin: strings.Repeat("3d", 32), Set: 1, SetHash: set.Hash()}
		}
		previous, by = set.Hash(), all
	}
	return token, notes, all[0]
}

// TestEdgePinsWhatItsTokenSays: a seed that lies names no cosigners of its own.
func TestEdgePinsWhatItsTokenSays(t *testing.T) {
	token, notes, key := pinWorld(t)
	if parsed, err := crypto.ParseTokenText(token.String()); err != nil || parsed != token {
		t.Fatalf("%+v, %v", parsed, err)
	}
	for n := range notes {
		got, err := pinnedCosigners(token, notes[:n+1])
		if err != nil || string(got) != string(notes[n]) {
			t.Errorf("%d sets: %q, %v", n+1, got, err)
		}
	}
	forged := func(version uint64, previous crypto.Hash) []byte {
		evil, err := crypto.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		set, err := checkpoint.NewSet(token.ClusterID, version, 1, previous, []crypto.PublicKey{crypto.PublicOf(evil)})
		if err != nil {
			t.Fatal(err)
		}
		return checkpoint.SignedSet{Set: set, Signatures: []checkpoint.Signature{set.Sign(evil)}}.Encode()
	}
	root, err := checkpoint.NewSet(token.ClusterID, 2, 2, crypto.Hash{}, []crypto.PublicKey{crypto.PublicOf(key)})
	if err != nil {
		t.Fatal(err)
	}
	begunAnew := checkpoint.SignedSet{Set: root, Signatures: []checkpoint.Signature{root.Sign(key)}}.Encode()
	for name, told := range map[string][][]byte{
		"none":                      {},
		"another first":             {forged(1, crypto.Hash{})},
		"one that nobody vouches":   {notes[0], forged(2, token.SetHash)},
		"one from far":              {forged(1<<40, crypto.Sum(nil))},
		"one that began anew":       {notes[0], begunAnew},
		"not from the pin on":       notes[1:],
		"one left out":              {notes[0], notes[2]},
		"an older one last":         {notes[0], notes[1], notes[0]},
		"no set":                    {notes[0], []byte("set")},
		"more than an answer holds": make([][]byte, maxSetsTold+1),
	} {
		if got, err := pinnedCosigners(token, told); err == nil {
			t.Errorf("%s: pinned %q", name, got)
		}
	}
}
