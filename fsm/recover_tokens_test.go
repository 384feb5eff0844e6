package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestRecoverRevokesTokens: with a new admin token all others end, at once and
// for good, and what is no such token changes nothing.
func TestRecoverRevokesTokens(t *testing.T) {
	w := genesisWorld(t)
	fresh := TokenCreate{ID: "fresh", Hash: crypto.Sum([]byte("fresh")), Role: RoleAdmin, Uses: -1}
	recoverWith := func(b TokenCreate) ([]Record, error) {
		r := recoveryAt(w.wallMs, "recover")
		r.Admin = &b
		return w.s.Recover(r, "n0")
	}
	before := w.s.Digest()
	for name, spoil := range map[string]func(*TokenCreate){
		"an id that is taken": func(b *TokenCreate) { b.ID = "operator" },
		"no id":               func(b *TokenCreate) { b.ID = "" },
		"no hash":             func(b *TokenCreate) { b.Hash = crypto.Hash{} },
		"another role":        func(b *TokenCreate) { b.Role = RoleOperator },
		"an end":              func(b *TokenCreate) { b.ExpiresMs = w.wallMs + 1 },
		"one use":             func(b *TokenCreate) { b.Uses = 1 },
	} {
		bad := fresh
		spoil(&bad)
		if _, err := recoverWith(bad); err == nil || w.s.Digest() != before {
			t.Fatalf("%s: %v", name, err)
		}
	}
	records, err := recoverWith(fresh)
	if err != nil {
		t.Fatal(err)
	}
	next := onward(t, w.s, w.history, records)
	for _, tok := range next.s.Tokens() {
		if _, in := next.s.TokenInForce(tok.ID, next.s.ClockMs()); in != (tok.ID == "fresh") {
			t.Errorf("token %s: in force %t", tok.ID, in)
		}
	}
	next.want(next.do(admin, TokenCreate{ID: "thief", Role: RoleAdmin, Uses: -1}), CodeUnauthorized)
	next.must(next.do(Actor{TokenID: "fresh"}, TokenCreate{ID: "operator-2", Role: RoleOperator, Uses: -1}))
	if next.s.Digest() != next.s.FullDigest() {
		t.Error("the digest that is kept is not that of the contents")
	}
}
