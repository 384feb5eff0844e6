package httpsig

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	other "github.com/remitly-oss/httpsig-go"
	"github.com/remitly-oss/httpsig-go/keyman"

	"github.com/edgecoder/edgecoder/crypto"
)

// An implementation that knows nothing of ours signs the profile, and verifies
// what we sign.

func otherProfile(label string) other.SigningProfile {
	return other.SigningProfile{
		Algorithm: other.Algo_ED25519, Digest: other.DigestSHA256, Label: label, ExpiresDuration: time.Minute,
		Fields:   other.Fields("@method", "@authority", "@path", "@query", "content-digest"),
		Metadata: []other.Metadata{other.MetaCreated, other.MetaExpires, other.MetaNonce, other.MetaAlgorithm, other.MetaKeyID, other.MetaTag},
	}
}

func otherSigner(t testing.TB, key crypto.PrivateKey, agentID string) *other.Signer {
	t.Helper()
	s, err := other.NewSigner(otherProfile("sig1"), other.SigningKey{Key: ed25519.PrivateKey(key), MetaKeyID: KeyID(agentID, crypto.PublicOf(key)), MetaTag: Tag})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func otherVerifier(t testing.TB, key crypto.PrivateKey, agentID string) *other.Verifier {
	t.Helper()
	pub := crypto.PublicOf(key)
	keyid := KeyID(agentID, pub)
	keys := keyman.NewKeyFetchInMemory(map[string]other.KeySpec{keyid: {KeyID: keyid, Algo: other.Algo_ED25519, PubKey: ed25519.PublicKey(pub[:])}})
	v, err := other.NewVerifier(keys, other.VerifyProfile{SignatureLabel: Label, AllowedAlgorithms: []other.Algorithm{other.Algo_ED25519},
		RequiredFields:         other.Fields("@method", "@authority", "@path", "@query", "content-digest"),
		RequiredMetadata:       []other.Metadata{other.MetaCreated, other.MetaExpires, other.MetaNonce, other.MetaKeyID, other.MetaTag},
		DisableTimeEnforcement: true, DisableExpirationEnforcement: true})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wireOf(r *http.Request) sent {
	s := sent{method: r.Method, target: r.URL.RequestURI(), headers: map[string]string{HeaderHost: r.Host}}
	for _, name := range []string{HeaderContentDigest, HeaderSignatureInput, HeaderSignature} {
		s.headers[name] = r.Header.Get(name)
	}
	return s
}

func TestAnotherImplementationSigns(t *testing.T) {
	for _, id := range []string{"agent-1", "ünï kod"} {
		key := keyOf(id)
		for _, target := range []string{"/tasks?urgent=1", "/tasks", "/?"} {
			req := httptest.NewRequest("POST", "https://service.example"+target, strings.NewReader(testBody))
			if err := otherSigner(t, key, id).Sign(req); err != nil {
				t.Fatal(err)
			}
			s := wireOf(req)
			if ok, err := admitted(s, id, crypto.PublicOf(key), testBody); !ok || err != nil {
				t.Errorf("%s %s: %t, %v\n%v", id, target, ok, err, s.headers)
			}
			s.target += "x"
			if ok, _ := admitted(s, id, crypto.PublicOf(key), testBody); ok {
				t.Errorf("%s: admitted for another target", target)
			}
		}
	}
}

func TestAnotherImplementationVerifies(t *testing.T) {
	key := keyOf("agent-1")
	send := func(target string) *http.Request {
		r := testRequest()
		r.Authority, r.Target = "service.example", target
		signed, err := Sign(key, testParams(), r)
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest("POST", "https://service.example"+target, strings.NewReader(testBody))
		for _, h := range signed.Headers() {
			req.Header.Set(h[0], h[1])
		}
		return req
	}
	for _, target := range []string{"/tasks?urgent=1", "/tasks", "/a?b=%2F"} {
		result, err := otherVerifier(t, key, "agent-1").Verify(send(target))
		if err != nil || !result.Verified {
			t.Errorf("%s: %+v, %v", target, result, err)
		}
		moved := send(target)
		moved.Host = "other.example"
		if result, err := otherVerifier(t, key, "agent-1").Verify(moved); err == nil && result.Verified {
			t.Errorf("%s: it verifies for another host", target)
		}
	}
}
