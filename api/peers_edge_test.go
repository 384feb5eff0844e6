package api

import (
	"errors"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestRemovePeerFindsTheEdge: a backup may bring a removed coordinator of its name; who is a member goes before.
func TestRemovePeerFindsTheEdge(t *testing.T) {
	f := newFixtureAt(t, fsm.LevelCheckpoints)
	join := fsm.Actor{TokenID: must(crypto.ParseTokenText(f.tokens[fsm.RoleEdge])).ID}
	key := must(crypto.GenerateKey(f.server.cfg.Rand))
	f.node.mustApply(join, fsm.EdgeJoin{ID: "credential", Hash: crypto.Sum([]byte("c")),
		Edge: fsm.Edge{NodeID: "edge-1", Name: "n2", SigningKey: crypto.PublicOf(key), TLSKey: crypto.Sum([]byte("t"))}})
	backup := newFixtureAt(t, fsm.LevelCheckpoints)
	gone := backup.node.coordinator("gone", "n2", crypto.PublicOf(must(crypto.GenerateKey(f.server.cfg.Rand))))
	gone.Level = fsm.LevelSupported
	backup.node.mustApply(fsm.Actor{TokenID: must(crypto.ParseTokenText(backup.tokens[fsm.RoleCoordinator])).ID}, fsm.CoordinatorJoin{Coordinator: gone})
	backup.node.mustApply(backup.actor(), fsm.CoordinatorRemove{ID: "gone"})
	restore := fsm.Recovery{AtMs: f.node.nowMs, Action: "restore"}
	next, records, err := fsm.Restored(backup.node.leader, f.node.leader, restore)
	replica, _, _ := fsm.Restored(backup.node.leader, f.node.leader, restore)
	if err := errors.Join(err, backup.node.history.Append(1, records)); err != nil {
		t.Fatal(err)
	}
	f.node.leader, f.node.replica, f.node.history, f.node.index = next, replica, backup.node.history, next.Index()
	got := decodeReply[client.PeerRemoved](t, f.admin("DELETE", "/v1/peers/n2", nil), 200)
	if _, member := next.Edge("edge-1"); got.ID != "edge-1" || member {
		t.Errorf("removed %+v, the edge is a member: %t", got, member)
	}
	if got = decodeReply[client.PeerRemoved](t, f.admin("DELETE", "/v1/peers/n2", nil), 200); got.ID != "gone" {
		t.Errorf("then %+v", got)
	}
}
