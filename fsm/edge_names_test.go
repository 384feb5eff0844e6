package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// newNode is a coordinator that may join a cluster of the newest level.
func newNode(id, name string) CoordinatorJoin {
	n := nodeOf(id, RoleCoordinator)
	n.Name, n.Level = name, LevelCheckpoints
	return CoordinatorJoin{Coordinator: n}
}

// TestEdgesAreTakenForNobodyElse: ids, names and keys are held against whoever comes later, of whatever kind.
func TestEdgesAreTakenForNobodyElse(t *testing.T) {
	w := edgeWorld(t)
	w.must(w.do(two, edgeOf("e1")))
	otherKey := newNode("n8", "n8")
	otherKey.Coordinator.SigningKey = publicKey("edge e1")
	for name, join := range map[string]CoordinatorJoin{"its name": newNode("n7", "name-e1"), "its id": newNode("e1", "other"), "its id as a name": newNode("n7", "e1"),
		"its name as an id": newNode("name-e1", "n7"), "its key": otherKey} {
		if res := w.do(joiner, join); res.Code != CodeConflict {
			t.Errorf("a coordinator took %s: %+v", name, res)
		}
	}
	w.want(w.do(enroller, AgentEnroll{AgentID: "a", PublicKey: publicKey("edge e1")}), CodeConflict)
	w.must(w.do(admin, TokenRevoke{ID: "cred-e1"}))
	again := edgeOf("e9")
	again.Edge.SigningKey = publicKey("edge e1")
	w.want(w.do(two, again), CodeConflict)
	w.want(w.do(joiner, newNode("e1", "other")), CodeConflict)
	w.must(w.do(joiner, newNode("n7", "name-e1"))) // nobody's any more
	w.pass(tokenKeepMs + 10_000)
	w.mark()
	w.want(w.do(two, again), CodeConflict) // the key is an edge's for ever
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	fresh := edgeOf("e1")
	fresh.Edge.Name, fresh.Edge.SigningKey = "another", publicKey("another")
	w.must(w.do(two, fresh))
	if err := w.s.Validate(0); err != nil {
		t.Errorf("an id that is used again: %v", err)
	}
}

// TestEdgeOfARemovedName: `peers remove NAME` would find the removed coordinator.
func TestEdgeOfARemovedName(t *testing.T) {
	w := edgeWorld(t)
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	for _, name := range []string{"name-n1", "n1"} {
		join := edgeOf("e1")
		join.Edge.Name = name
		w.want(w.do(two, join), CodeConflict)
	}
	join := edgeOf("e1")
	join.Edge.Version = "v\x1b[2J"
	w.want(w.do(two, join), CodeInvalid)
}

// TestEdgesGoWithACompromisedNode: those that joined under a token that was made through it, and those that joined through it.
func TestEdgesGoWithACompromisedNode(t *testing.T) {
	w := throughWorld(t, LevelCheckpoints)
	via := func(token, node string) Actor { return Actor{TokenID: token, Via: node} }
	w.must(w.do(via("admin", "n1"), TokenCreate{ID: "forged", Role: RoleEdge, Uses: 2}))
	w.must(w.do(via("admin", "n2"), TokenCreate{ID: "clean", Role: RoleEdge, Uses: 2}))
	w.must(w.do(via("forged", "n2"), edgeOf("evil")))
	w.must(w.do(via("clean", "n1"), edgeOf("made-up")))
	w.must(w.do(via("clean", "n2"), edgeOf("honest")))
	w.must(w.do(via("admin", "n1"), tokenOf("forged-join", RoleCoordinator)))
	w.must(w.do(via("forged-join", "n0"), newNode("n3", "n3")))
	w.must(w.do(via("coordinator", "n1"), newNode("n4", "n4")))
	w.must(w.do(via("coordinator", "n2"), newNode("n5", "n5")))
	res := w.must(w.do(via("admin", "n0"), CoordinatorRemove{ID: "n1", Compromised: true}))
	if tk := res.Tokens; tk == nil || !slices.Equal(tk.IDs, []string{"cred-evil", "cred-made-up", "forged", "forged-join"}) || !slices.Equal(tk.Joined, []string{"n3", "n4"}) {
		t.Fatalf("%+v", tk)
	}
	for id, want := range map[string]bool{"evil": false, "made-up": false, "honest": true} {
		if _, member := w.s.Edge(id); member != want {
			t.Errorf("%s is a member: %t", id, member)
		}
	}
	var last AdminRecord
	records := recordsOf(t, w.history, StreamAdmin)
	if err := Decode(records[len(records)-1].Data, &last); err != nil || !strings.HasSuffix(last.Detail, " joined=n3,n4") {
		t.Errorf("%+v, %v", last, err)
	}
	s, _ := restored(t, snapshotOf(t, w.s, w.history))
	if s.Digest() != w.s.Digest() || s.Validate(0) != nil {
		t.Errorf("the snapshot reads as another state: %v", s.Validate(0))
	}
}

// TestJoinsThroughFewNodes: a row names no more of them than it holds, and what a joiner says of itself does not count.
func TestJoinsThroughFewNodes(t *testing.T) {
	w := throughWorld(t, LevelCheckpoints)
	for _, id := range []string{"edge", "coordinator"} {
		join, _ := w.s.Token(id)
		for i := range MaxThrough {
			join.Through = append(join.Through, fmt.Sprintf("gone-%02d", i))
		}
		w.s.tokens.put(id, join)
	}
	w.want(w.do(Actor{TokenID: "edge", Via: "n2"}, edgeOf("e1")), CodeOverloaded)
	w.want(w.do(Actor{TokenID: "coordinator", Via: "n2"}, newNode("n3", "n3")), CodeOverloaded)
	join := newNode("n3", "n3")
	join.Coordinator.Through = []string{"liar"}
	cmd, err := New(joiner, join)
	if err != nil || LevelOf(cmd) != LevelCheckpoints {
		t.Errorf("it needs level %d: %v", LevelOf(cmd), err)
	}
	w.must(w.apply(cmd))
	if n, _ := w.s.Coordinator("n3"); len(n.Through) != MaxThrough || slices.Contains(n.Through, "liar") {
		t.Errorf("it was taken in through %v", n.Through)
	}
}

// TestRestoreKeepsEdges: they are the present's, as tokens are. A backup brings none, so it needs no level for them; and it takes none away.
func TestRestoreKeepsEdges(t *testing.T) {
	b := edgeWorld(t)
	b.must(b.do(two, edgeOf("old")))
	b.must(b.do(joiner, newNode("mine", "name-mine")))
	b.must(b.do(admin, CoordinatorRemove{ID: "mine"}))
	if need := b.s.NeedsLevel(); need >= LevelCheckpoints {
		t.Errorf("the backup needs level %d", need)
	}
	w := edgeWorld(t)
	w.must(w.do(two, edgeOf("mine")))
	s, _, err := Restored(b.s, w.s, recoveryAt(w.wallMs, "restore"))
	if err != nil {
		t.Fatal(err)
	}
	if _, member := s.Edge("mine"); !member || s.IsRemoved("mine") {
		t.Error("the edge went")
	}
	if err := s.Validate(0); err != nil {
		t.Error(err)
	}
	b.must(b.do(enroller, AgentEnroll{AgentID: "a", PublicKey: publicKey("edge mine")}))
	if _, _, err := Restored(b.s, w.s, recoveryAt(w.wallMs, "restore")); err == nil || !strings.Contains(err.Error(), "agent") {
		t.Errorf("an agent with the key of an edge: %v", err)
	}
	low := levelWorld(t, LevelUpgrades)
	if s, _, err = Restored(b.s, low.s, recoveryAt(low.wallMs, "restore")); err != nil || len(s.edges) > 0 || s.Validate(0) != nil {
		t.Errorf("into an older cluster: %v, %v", err, s.Validate(0))
	}
}

// TestValidateEdges: what no cluster makes.
func TestValidateEdges(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*State)
		want  string
	}{
		"two credentials": {func(s *State) {
			k, _ := s.Token("cred-e1")
			k.ID = "more"
			s.tokens.put(k.ID, k)
		}, "key_owners"},
		"two of a name": {func(s *State) {
			k, _ := s.Token("cred-e2")
			e := *k.Edge
			e.Name = "name-e1"
			k.Edge = &e
			s.tokens.put(k.ID, k)
		}, "names another"},
		"a coordinator's name": {func(s *State) {
			k, _ := s.Token("cred-e2")
			e := *k.Edge
			e.Name = "name-n0"
			k.Edge = &e
			s.tokens.put(k.ID, k)
		}, "names another"},
		"a key that nobody owns": {func(s *State) { ref := keyRef("edge e1"); s.keyOwners.remove(string(ref[:])) }, "cred-e1"},
		"another's key":          {func(s *State) { ref := keyRef("edge e1"); s.keyOwners.put(string(ref[:]), ownerEdge+"e2") }, "cred-e1"},
		"too many nodes": {func(s *State) {
			n, _ := s.Coordinator("n1")
			n.Through = slices.Repeat([]string{"n0"}, MaxThrough+1)
			s.coordinators.put(n.ID, n)
		}, "made through"},
	} {
		w := edgeWorld(t)
		w.must(w.do(two, edgeOf("e1")))
		w.must(w.do(two, edgeOf("e2")))
		c.spoil(w.s)
		w.s.reindex()
		if err := w.s.Validate(0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEdgesFillUp: whoever holds a join token takes no more than there is room for.
func TestEdgesFillUp(t *testing.T) {
	w := edgeWorld(t)
	for i := range MaxEdges {
		id := fmt.Sprintf("m%04d", i)
		e := edgeOf(id).Edge
		w.s.tokens.put(id, Token{ID: id, Hash: crypto.Sum([]byte(id)), Role: RoleEdgeMember, UsesLeft: -1, Edge: &e})
		w.s.edges[id] = id
	}
	w.want(w.do(two, edgeOf("e1")), CodeOverloaded)
	w.must(w.do(admin, TokenRevoke{ID: "m0001"}))
	w.must(w.do(two, edgeOf("e1")))
}
