package dsse

import (
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// BenchmarkSigners verifies envelopes of one signature and of as many as there
// may be, with and without the hints that say which key to try, and as many by strangers, which are tried with
// every key: the worst that an envelope can cost. "raw" is one
// verification of the standard library.
func BenchmarkSigners(b *testing.B) {
	var names []string
	for i := range MaxSignatures {
		names = append(names, fmt.Sprint("signer ", i))
	}
	trusted := publics(names...)
	for _, n := range []int{1, MaxSignatures} {
		e := signedBy(b, names[:n]...)
		b.Run(fmt.Sprintf("hinted/%d", n), func(b *testing.B) { benchSigners(b, e, trusted, n) })
		for i := range e.Signatures {
			e.Signatures[i].KeyID = ""
		}
		b.Run(fmt.Sprintf("tried/%d", n), func(b *testing.B) { benchSigners(b, e, trusted, n) })
	}
	strange := signedBy(b)
	for i := range MaxSignatures {
		if err := strange.Sign(testKey(fmt.Sprint("stranger ", i))); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("strangers/64", func(b *testing.B) { benchSigners(b, strange, trusted, 0) })
	e := signedBy(b, "a")
	key, text := testKey("a").Public().(ed25519.PublicKey), e.PAE()
	b.Run("raw", func(b *testing.B) {
		for b.Loop() {
			if !ed25519.Verify(key, text, e.Signatures[0].Sig) {
				b.Fatal("not verified")
			}
		}
	})
}

func benchSigners(b *testing.B, e Envelope, trusted []crypto.PublicKey, want int) {
	for b.Loop() {
		if got := len(e.Signers(trusted)); got != want {
			b.Fatalf("%d signers", got)
		}
	}
}
