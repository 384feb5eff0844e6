package node

import (
	"context"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
)

// trustOthers has the list of an edge that is down trust cosigners who are not those of its cluster, as after a recovery that lost their majority.
func trustOthers(t *testing.T, cfg EdgeConfig) {
	t.Helper()
	id, err := loadIdentity(cfg.DataDir, cfg.Passphrase)
	if err != nil {
		t.Fatal(err)
	}
	defer id.clear()
	key, err := id.listKey()
	if err != nil {
		t.Fatal(err)
	}
	store, view, at, err := edge.OpenStore(cfg.DataDir, id.ClusterID, key)
	if err != nil {
		t.Fatal(err)
	}
	set, err := checkpoint.NewSet(id.ClusterID, 9, 1, crypto.Hash{}, []crypto.PublicKey{crypto.PublicOf(edgetest.Key(1))})
	if err != nil {
		t.Fatal(err)
	}
	at.Trusted = checkpoint.SignedSet{Set: set, Signatures: []checkpoint.Signature{set.Sign(edgetest.Key(1))}}
	if err := store.Replace(*at, view); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEdgeJoinsAnewByANewToken: nothing that an edge trusts vouches for the coordinators any more. A new token has it trust them, under its own name and with the
// list that it has; the token that it joined by does not, and an edge whose token is not taken goes on.
func TestEdgeJoinsAnewByANewToken(t *testing.T) {
	t.Parallel()
	c := &trio{t: t, adjust: shortLease}
	t.TempDir()
	t.Cleanup(c.stopAll)
	c.grow(1)
	cfg := edgeTestConfig(t, c, "e-1", c.token("edge", 1))
	e := startEdge(t, cfg)
	id := e.id.NodeID
	c.ban(0, "first")
	has := func(size uint64) bool {
		return e.sync.Status().Position.Head.Size == size && e.Status().Freshness.Fresh
	}
	c.eventually("the edge has it", func() bool { return has(1) })
	stop := func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	trustOthers(t, cfg)
	c.ban(0, "second")

	e = startEdge(t, cfg)
	c.eventually("it looks", func() bool { return e.sync.Status().Failed > 0 })
	if e.joinsAnew() || has(2) || e.sync.Status().Position.Trusted.Version != 9 {
		t.Fatal("the token that it joined by has it trust others")
	}
	stop()

	right := c.token("edge", 1)
	token, err := crypto.ParseTokenText(right)
	if err != nil {
		t.Fatal(err)
	}
	token.ID = "00000000000000aa"
	cfg.JoinToken = token.String()
	e = startEdge(t, cfg)
	if e.sync.Status().Position.Trusted.Version != 9 || !e.joinsAnew() {
		t.Error("a token that nobody knows has it trust others")
	}
	stop()

	cfg.JoinToken = right
	for range 2 { // the second time it is the token that it joined by
		e = startEdge(t, cfg)
		c.eventually("it goes on", func() bool { return has(2) })
		if e.id.NodeID != id || e.joinsAnew() {
			t.Errorf("it is %s, was %s, joins anew: %t", e.id.NodeID, id, e.joinsAnew())
		}
		stop()
	}
}
