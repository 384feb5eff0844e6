package fsm

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

func TestRemovedCoordinatorStaysOut(t *testing.T) {
	w := genesisWorld(t)
	n1 := nodeOf("n1", RoleCoordinator)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n1}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"})) // once more changes nothing
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: n1}), CodeForbidden)
	fresh := n1
	fresh.SigningKey = publicKey("fresh")
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: fresh}), CodeForbidden)
	renamed := n1
	renamed.ID = "n1b"
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: renamed}), CodeConflict) // its key stays its own
	w.s, _ = restored(t, snapshotOf(t, w.s, w.history))
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: n1}), CodeForbidden)
	if !w.s.IsRemoved("n1") || w.s.IsRemoved("n0") {
		t.Error("the removal is not told")
	}
	w.want(w.do(Actor{NodeID: "n1"}, CoordinatorUpdate{ID: "n1", API: "x:1", Raft: "x:2", Gossip: "x:3"}), CodeNotFound)
}

// A joiner may take the place only of its own dead namesake: otherwise any join
// token could throw any coordinator out.
func TestReplaceTakesOnlyItsNamesake(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	wiped := nodeOf("n1b", RoleCoordinator)
	wiped.Name = "name-n1"
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: wiped}), CodeConflict)
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: wiped, ReplaceID: "n0"}), CodeConflict)
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: wiped, ReplaceID: "nobody"}), CodeConflict)
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n2", RoleCoordinator), ReplaceID: "n0"}), CodeConflict)
	observer := wiped
	observer.Role = RoleObserver
	w.want(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: observer, ReplaceID: "n1"}), CodeConflict)
	if len(w.s.Coordinators()) != 2 || len(w.s.Removed()) != 0 {
		t.Fatal("a refused replacement removed somebody")
	}
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: wiped, ReplaceID: "n1"}))
	if _, still := w.s.Coordinator("n1"); still || !w.s.IsRemoved("n1") {
		t.Error("the replaced node is a member still")
	}
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}), CodeForbidden)
}

func TestLastVoterIsNotRemoved(t *testing.T) {
	w := genesisWorld(t)
	w.want(w.do(admin, CoordinatorRemove{ID: "n0"}), CodeConflict)
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: nodeOf("n1", RoleObserver)}))
	w.want(w.do(admin, CoordinatorRemove{ID: "n0"}), CodeConflict) // an observer cannot lead
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n2", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n0"}))
	w.want(w.do(admin, CoordinatorRemove{ID: "n9"}), CodeNotFound)
}

func TestCoordinatorForm(t *testing.T) {
	bad := map[string]func(*Coordinator){
		"no id":             func(n *Coordinator) { n.ID = "" },
		"no name":           func(n *Coordinator) { n.Name = "" },
		"newline":           func(n *Coordinator) { n.Name = "a\nb" },
		"id taken":          func(n *Coordinator) { n.ID = "n0" },
		"name taken":        func(n *Coordinator) { n.Name = "name-n0" },
		"key taken":         func(n *Coordinator) { n.SigningKey = publicKey("node n0") },
		"zero key":          func(n *Coordinator) { n.SigningKey = crypto.PublicKey{} },
		"no encryption key": func(n *Coordinator) { n.EncryptionKey = nil },
		"no address":        func(n *Coordinator) { n.Raft = "" },
		"long address":      func(n *Coordinator) { n.API = strings.Repeat("x", MaxAddressBytes+1) },
		"long version":      func(n *Coordinator) { n.Version = strings.Repeat("x", MaxLabelBytes+1) },
	}
	for name, change := range bad {
		w := genesisWorld(t)
		n := nodeOf("n1", RoleCoordinator)
		change(&n)
		if res := w.do(joiner, CoordinatorJoin{Coordinator: n}); res.OK() {
			t.Errorf("%s: accepted", name)
		}
		if len(w.s.Coordinators()) != 1 || len(w.s.SigningKeys()) != 1 {
			t.Errorf("%s: half of it took effect", name)
		}
	}
}

func TestCoordinatorDescribesItself(t *testing.T) {
	w := genesisWorld(t)
	update := CoordinatorUpdate{ID: "n0", API: "h:1", Raft: "h:2", Gossip: "h:3", Level: 2, Version: "v2"}
	w.want(w.do(admin, update), CodeForbidden)
	w.must(w.do(Actor{NodeID: "n0"}, update))
	n, _ := w.s.Coordinator("n0")
	if n.API != "h:1" || n.Raft != "h:2" || n.Gossip != "h:3" || n.Level != 2 || n.Version != "v2" || n.Name != "name-n0" {
		t.Errorf("%+v", n)
	}
	if keys := w.s.SigningKeys(); len(keys) != 1 || keys[0].API != "h:1" || keys[0].Public != n.SigningKey {
		t.Errorf("%+v", keys)
	}
	update.Gossip = ""
	w.want(w.do(Actor{NodeID: "n0"}, update), CodeInvalid)
}

// Two keys may share a short coordinator id; the second must not take over
// what the first signed.
func TestCoordinatorIDIsNotTakenOver(t *testing.T) {
	w := genesisWorld(t)
	n := nodeOf("n1", RoleCoordinator)
	w.s.signingKeys.put(n.SigningKey.CoordinatorID(), SigningKey{Public: publicKey("an older one"), NodeID: "n9", RetiredAt: 3})
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: n}), CodeConflict)
}
