package cosign

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// forkOf returns a made-up fork of a bench's head.
func (b *bench) forkOf(what string) *Fork {
	f := &Fork{Mine: b.head(), Theirs: b.head(), What: "a test"}
	f.Theirs.Root = crypto.Sum([]byte(what))
	return f
}

// TestWordsCrowdNobodyOut: a coordinator that makes forks up takes one place, and neither another's word nor what was signed goes without.
func TestWordsCrowdNobodyOut(t *testing.T) {
	b := newBench(t, 1)
	final := b.note(b.head(), 100, 2, 3)
	if _, err := b.Adopt(final, b.set, origin); err != nil {
		t.Fatal(err)
	}
	liar, other := crypto.PublicOf(key(1)), crypto.PublicOf(key(2))
	for i := range 2 * maxEvidence {
		_, fresh, err := b.KeepEvidence(Evidence{Fork: b.forkOf(fmt.Sprint("lie ", i)), By: liar})
		if fresh != (i == 0) || errors.Is(err, ErrCrowded) != (i > 0) {
			t.Errorf("lie %d: fresh %t, %v", i, fresh, err)
		}
	}
	if file, fresh, err := b.KeepEvidence(Evidence{Fork: b.forkOf("lie 0"), By: liar}); file == "" || fresh || err != nil {
		t.Errorf("the first lie again: %q, %t, %v", file, fresh, err)
	}
	if _, fresh, err := b.KeepEvidence(Evidence{Fork: b.forkOf("truth"), By: other}); !fresh || err != nil {
		t.Errorf("another's word: %t, %v", fresh, err)
	}
	real := b.forkOf("truth")
	theirs := b.note(real.Theirs, 100, 1, 2)
	for name, e := range map[string]Evidence{
		"what this node keeps": {Fork: real, There: theirs},
		"what it asked about":  {Fork: b.forkOf("asked"), There: theirs, Here: []byte("the note it asked about\n")},
	} {
		file, fresh, err := b.KeepEvidence(e)
		text, _ := os.ReadFile(file)
		here := e.Here
		if here == nil {
			here = final
		}
		if !fresh || err != nil || !bytes.Contains(text, here) || !bytes.Contains(text, theirs) {
			t.Errorf("%s: %t, %v, %s", name, fresh, err, text)
		}
	}
	if words, _ := filepath.Glob(filepath.Join(b.dir, "word-*")); len(words) != 2 {
		t.Errorf("words kept: %v", words)
	}
}
