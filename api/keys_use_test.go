package api

import (
	"crypto/rand"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// TestUsesAreAskedForRetiringKeys: all nodes are asked by who wants to know of a
// subject with a key that retires, and not by each change or list.
func TestUsesAreAskedForRetiringKeys(t *testing.T) {
	f, a := keyFixture(t)
	f.node.keyUses = []client.KeyUse{{KeyID: "0011223344556677", Node: "node-1", Count: 1}}
	if k := decodeReply[client.Keys](t, f.admin("GET", a.path(""), nil), 200); len(k.Uses) != 0 {
		t.Errorf("with one key: %+v", k.Uses)
	}
	order := a.rotation(f, must(crypto.GenerateKey(rand.Reader)), 0)
	if got := decodeReply[client.KeysChanged](t, f.do(ask{method: "POST", path: a.path("/rotate"), body: order}), 200); len(got.Uses) != 0 {
		t.Errorf("the answer to a change: %+v", got.Uses)
	}
	if k := decodeReply[client.Keys](t, f.admin("GET", a.path(""), nil), 200); len(k.Uses) != 1 || k.Uses[0].Node != "node-1" {
		t.Errorf("with a key that retires: %+v", k.Uses)
	}
	if l := decodeReply[client.KeyList](t, f.admin("GET", "/v1/keys?kind=agent", nil), 200); len(l.Keys) != 1 || len(l.Keys[0].Uses) != 0 {
		t.Errorf("in a list: %+v", l)
	}
}
