package node

import (
	"log/slog"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// newsEdge is an edge that hears, and asks nobody.
func newsEdge(t *testing.T, c *edgetest.Cluster) *Edge {
	t.Helper()
	dir := t.TempDir()
	return &Edge{log: slog.New(slog.DiscardHandler), id: &identity{ClusterID: edgetest.ClusterID, NodeID: "this-edge"}, book: openAddressBook(dir, slog.New(slog.DiscardHandler)),
		sync:  edge.NewSyncer(edge.Config{ClusterID: edgetest.ClusterID, Set: edge.NewSet(), Lease: edge.NewLease(edge.NewClock(), edge.DefaultLease)}, c.Pinned()),
		heard: map[string]gossip.Card{}, heads: headFloor{}}
}

// spelled is a final note with a line of nobody, which stays final.
func spelled(t *testing.T, note []byte, line byte) []byte {
	t.Helper()
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		t.Fatal(err)
	}
	n.Signatures = append(n.Signatures, checkpoint.Signature{Name: "nobody", KeyID: uint32(line), Bytes: []byte{line}})
	return n.Encode()
}

// However many spellings of one checkpoint somebody makes, one of them goes through the pool.
func TestACheckpointIsNewsOnce(t *testing.T) {
	nowS := time.Now().Unix()
	c := edgetest.New(3, func() int64 { return nowS })
	e := newsEdge(t, c)
	c.Ban("a", 2, 0)
	old := c.Cosign(3)
	if !e.acceptNews("x", old) {
		t.Fatal("a final checkpoint is no news")
	}
	for i := range byte(3) {
		if e.acceptNews("x", spelled(t, old, i)) {
			t.Error("another spelling goes on to the pool")
		}
	}
	nowS += 10
	if !e.acceptNews("x", c.Cosign(2)) {
		t.Error("a later word of the majority is no news")
	}
	if e.acceptNews("x", old) {
		t.Error("an older word goes on to the pool")
	}
	c.Ban("b", 1, 0)
	nowS -= 5 // of who was last heard before the others said the word above
	if !e.acceptNews("x", c.Cosign(2)) {
		t.Error("a longer chain is no news")
	}
}

// An edge's word moves no other edge: whoever has the pool key can call itself one.
func TestHeadsOfEdgesAreNoHints(t *testing.T) {
	c := edgetest.New(3, func() int64 { return time.Now().Unix() })
	e := newsEdge(t, c)
	say := func(role fsm.Role, id string, key crypto.PrivateKey) (trusted, heard bool) {
		card := gossip.Card{ClusterID: edgetest.ClusterID, NodeID: id, Name: id, Role: string(role), API: "h:1", Raft: "h:2", Gossip: "h:3"}
		if err := card.Sign(key); err != nil {
			t.Fatal(err)
		}
		h := chainHead{Epoch: 1, Size: 1 << 40, Head: "x"}
		h.Signature = crypto.SignText(key, headLabel, h.parts(edgetest.ClusterID, id)...)
		data, err := fsm.Encode(h)
		if err != nil {
			t.Fatal(err)
		}
		return e.trustCard(card), e.acceptHead(id, data)
	}
	if trusted, heard := say(fsm.RoleEdge, "some-edge", edgetest.Key(50)); !trusted || heard {
		t.Errorf("an edge is trusted %t as a place, its head taken %t", trusted, heard)
	}
	if trusted, heard := say(fsm.RoleCoordinator, "c0", edgetest.Key(0)); !trusted || !heard {
		t.Errorf("a cosigner is trusted %t, its head taken %t", trusted, heard)
	}
	e.book.record(memberFile{Index: 1, Members: map[string]peerAddress{"c1": {Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(edgetest.Key(1))}}})
	for _, key := range []int{50, 0} {
		for _, role := range []fsm.Role{fsm.RoleEdge, fsm.RoleCoordinator} {
			if trusted, _ := say(role, "c1", edgetest.Key(key)); trusted {
				t.Errorf("key %d takes the place of coordinator c1 as %s", key, role)
			}
		}
	}
}
