package httpsig

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	testCreated = int64(1_767_225_600)
	testBody    = `{"task":"build"}`
)

// keyOf is the same for the same name in every run.
func keyOf(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("httpsig test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// sent is a request as it travels.
type sent struct {
	method, target string
	headers        map[string]string
}

func (s sent) get(name string) string { return s.headers[name] }

// with returns s with one header changed.
func (s sent) with(name, value string) sent {
	headers := map[string]string{}
	for k, v := range s.headers {
		headers[k] = v
	}
	headers[name] = value
	s.headers = headers
	return s
}

// swap replaces a part of a header that must be there.
func (s sent) swap(t testing.TB, name, old, new string) sent {
	t.Helper()
	if !strings.Contains(s.headers[name], old) {
		t.Fatalf("%s is %q, it has no %q", name, s.headers[name], old)
	}
	return s.with(name, strings.Replace(s.headers[name], old, new, 1))
}

func testParams() Params {
	return Params{AgentID: "agent-1", Created: testCreated, Expires: testCreated + 60, Nonce: "5b3c2a1e-0001-4000-8000-000000000001"}
}

func testRequest() Request {
	return Request{Method: "POST", Authority: "Service.Example:443", Target: "/tasks?urgent=1&x=%2F", BodySHA256: crypto.Sum([]byte(testBody))}
}

// signedBy signs the test request and puts it on the wire.
func signedBy(t testing.TB, key crypto.PrivateKey, p Params, r Request) sent {
	t.Helper()
	signed, err := Sign(key, p, r)
	if err != nil {
		t.Fatal(err)
	}
	return onTheWire(signed, r)
}

func onTheWire(signed Signed, r Request) sent {
	s := sent{method: r.Method, target: r.Target, headers: map[string]string{HeaderHost: r.Authority}}
	for _, h := range signed.Headers() {
		s.headers[h[0]] = h[1]
	}
	return s
}

func good(t testing.TB) sent { return signedBy(t, keyOf("agent-1"), testParams(), testRequest()) }

// admitted is what a node does with a request: it reads it, looks the agent's
// key up, and verifies.
func admitted(s sent, agentID string, pub crypto.PublicKey, body string) (bool, error) {
	r, err := Parse(s.method, s.target, s.get)
	if err != nil {
		return false, err
	}
	return r.AgentID == agentID && r.MayBeOf(pub) && r.MatchesBody([]byte(body)) && crypto.Verify(pub, r.Canonical(), r.Signature[:]), nil
}

func goodAdmitted(s sent) bool {
	ok, err := admitted(s, "agent-1", crypto.PublicOf(keyOf("agent-1")), testBody)
	return ok && err == nil
}
