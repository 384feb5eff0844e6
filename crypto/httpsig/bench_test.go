package httpsig

import (
	"crypto/ed25519"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// One run beside raw Ed25519, the five headers and an independent library: the
// difference to the first line of each is what a profile costs.

func BenchmarkSign(b *testing.B) {
	key, r, p := keyOf("agent-1"), testRequest(), testParams()
	base := good(b)
	parsed, err := Parse(base.method, base.target, base.get)
	if err != nil {
		b.Fatal(err)
	}
	run(b, "ed25519", func() bool { return len(ed25519.Sign(key, parsed.Canonical())) == crypto.SignatureSize })
	run(b, "five-header", func() bool {
		signed, err := crypto.SignRequest(key, p.AgentID, r.Method, "/tasks", []byte(testBody), p.Created*1000, p.Nonce)
		return err == nil && len(signed.Headers()) == 5
	})
	run(b, "rfc9421", func() bool {
		r.BodySHA256 = crypto.Sum([]byte(testBody))
		_, err := Sign(key, p, r)
		return err == nil
	})
	signer := otherSigner(b, key, p.AgentID)
	run(b, "httpsig-go", func() bool {
		return signer.Sign(httptest.NewRequest("POST", "https://service.example/tasks?urgent=1", strings.NewReader(testBody))) == nil
	})
}

func BenchmarkVerify(b *testing.B) {
	key, p := keyOf("agent-1"), testParams()
	pub := crypto.PublicOf(key)
	expanded, err := crypto.NewVerifyKey(pub)
	if err != nil {
		b.Fatal(err)
	}
	g := good(b)
	parsed, err := Parse(g.method, g.target, g.get)
	if err != nil {
		b.Fatal(err)
	}
	five, err := crypto.SignRequest(key, p.AgentID, "POST", "/tasks", []byte(testBody), p.Created*1000, p.Nonce)
	if err != nil {
		b.Fatal(err)
	}
	f := sent{"POST", "/tasks", map[string]string{}}
	for _, h := range five.Headers() {
		f.headers[h[0]] = h[1]
	}
	verify := func(s sent) func() bool {
		return func() bool {
			r, err := Read(s.method, s.target, s.get)
			return err == nil && r.MayBeOf(pub) && expanded.Verify(r.Canonical(), r.Signature[:])
		}
	}
	run(b, "ed25519", func() bool { return crypto.Verify(pub, parsed.Canonical(), parsed.Signature[:]) })
	run(b, "ed25519-expanded", func() bool { return expanded.Verify(parsed.Canonical(), parsed.Signature[:]) })
	run(b, "five-header", verify(f))
	run(b, "rfc9421", verify(g))
	run(b, "rfc9421-parse-alone", func() bool { _, err := Parse(g.method, g.target, g.get); return err == nil })
	verifier := otherVerifier(b, key, p.AgentID)
	run(b, "httpsig-go", func() bool {
		req := httptest.NewRequest("POST", "https://service.example/tasks?urgent=1&x=%2F", strings.NewReader(testBody))
		for name, value := range g.headers {
			if name != HeaderHost {
				req.Header.Set(name, value)
			}
		}
		_, err := verifier.Verify(req)
		return err == nil
	})
}

func run(b *testing.B, name string, once func() bool) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !once() {
				b.Fatal("it failed")
			}
		}
	})
}
