package node

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestP8ACompromisedNodesTokensGoWithIt: what a coordinator had made for itself in an
// admin's name opens nothing once it is removed as compromised.
func TestP8ACompromisedNodesTokensGoWithIt(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader at the newest level", func() bool {
		level, _ := c.nodes[0].clusterLevel()
		return c.leader() >= 0 && level == fsm.LevelSupported
	})
	lead := c.leader()
	liar := c.nodes[(lead+1)%3]
	admin, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(actor fsm.Actor) (crypto.TokenText, error) {
		text, err := crypto.NewTokenText(rand.Reader, liar.id.ClusterID, string(fsm.RoleAdmin), "")
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := fsm.New(actor, fsm.TokenCreate{ID: text.ID, Hash: text.Hash(), Role: fsm.RoleAdmin, Uses: -1})
		if err != nil {
			t.Fatal(err)
		}
		var res fsm.Result
		err = liar.call(t.Context(), c.nodes[lead].id.NodeID, rpcPropose, cmd, &res)
		if err == nil && !res.OK() {
			t.Fatalf("%+v", res)
		}
		return text, err
	}
	if _, err := forge(fsm.Actor{TokenID: admin.ID, Via: c.nodes[lead].id.NodeID}); code(err) != client.CodeForbidden {
		t.Errorf("a node names another as the one that it forwards for: %v", err)
	}
	forged, err := forge(fsm.Actor{TokenID: admin.ID})
	if err != nil {
		t.Fatal(err)
	}
	child, err := c.client(lead, forged.String()).CreateToken(t.Context(), client.TokenRequest{Role: "admin", Uses: -1})
	if err != nil {
		t.Fatal(err)
	}
	removed, first := c.removeCompromised(lead, liar.id.NodeID)
	if r := removed.Tokens; first && (r == nil || !slices.Contains(r.IDs, forged.ID) || !slices.Contains(r.IDs, child.ID) || slices.Contains(r.IDs, admin.ID)) {
		t.Errorf("the operator is told of %+v", r)
	}
	for _, text := range []string{forged.String(), child.Token} {
		if _, err := c.client(lead, text).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); code(err) != client.CodeUnauthorized {
			t.Errorf("a token of the removed node: %v", err)
		}
	}
	if _, err := c.client(lead, c.admin).Tokens(t.Context()); err != nil {
		t.Errorf("the operator's own: %v", err)
	}
	late, err := fsm.New(fsm.Actor{TokenID: admin.ID}, fsm.TokenRevoke{ID: child.ID})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("a leader tells what became of a call that was under way", func() bool {
		at := c.nodes[max(c.leader(), 0)]
		l := at.lead.Load()
		if l == nil {
			return false
		}
		res, err := at.proposeThrough(t.Context(), l, liar.id.NodeID, late)
		if err == nil {
			t.Fatalf("an operator whose call came through it is blamed: %+v", res)
		}
		return saysRemoved(err)
	})
	c.farewellsAreOfItsKey(liar, c.nodes[lead])
	c.eventually("the removed node knows that it was, though the CA is another by now", func() bool { return liar.expelled() != nil })
}

// farewellsAreOfItsKey: a removed node hears that it is one; whoever makes a
// certificate for its id does not even get a connection.
func (c *trio) farewellsAreOfItsKey(gone, at *Node) {
	c.t.Helper()
	if err := knockAs(c.t, gone.identityNow(), at); code(err) != client.CodeUnavailable || !strings.Contains(err.Error(), "was removed from the cluster") {
		c.t.Errorf("the removed node is told: %v", err)
	}
	for _, ask := range []func(*testing.T, *identity, *Node) error{pingAs, knockAs} {
		if err := ask(c.t, minted(c.t, at, gone.id.NodeID), at); err == nil || strings.Contains(err.Error(), "was removed from the cluster") {
			c.t.Errorf("another with its id is told: %v", err)
		}
	}
}
