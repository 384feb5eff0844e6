package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// throughWorld is a cluster of n0, n1 and n2 at a feature level.
func throughWorld(t testing.TB, level uint32) *world {
	w := levelWorld(t, level)
	n2 := nodeOf("n2", RoleCoordinator)
	n2.Level = LevelSupported
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n2}))
	return w
}

func tokenOf(id string, role Role) TokenCreate { return TokenCreate{ID: id, Role: role, Uses: -1} }

// TestTokensGoWithACompromisedNode: those made through it, and those made under
// these wherever that was; nobody else's.
func TestTokensGoWithACompromisedNode(t *testing.T) {
	w := throughWorld(t, LevelThrough)
	via := func(token, node string) Actor { return Actor{TokenID: token, Via: node} }
	w.must(w.do(via("admin", "n1"), tokenOf("forged", RoleAdmin)))
	w.must(w.do(via("forged", "n2"), tokenOf("child", RoleAdmin)))
	w.must(w.do(via("child", "n0"), tokenOf("grandchild", RoleCoordinator)))
	w.must(w.do(via("admin", "n2"), tokenOf("other", RoleAdmin)))
	w.must(w.do(via("admin", "n1"), tokenOf("revoked", RoleViewer)))
	w.must(w.do(via("admin", "n1"), TokenRevoke{ID: "revoked"}))
	if g, _ := w.s.Token("grandchild"); !slices.Equal(g.Through, []string{"n0", "n1", "n2"}) {
		t.Errorf("it remembers %v", g.Through)
	}
	res := w.do(via("admin", "n0"), CoordinatorRemove{ID: "n1", Compromised: true})
	if w.must(res); res.Tokens == nil || res.Tokens.Count != 3 || !slices.Equal(res.Tokens.IDs, []string{"child", "forged", "grandchild"}) || res.Tokens.Kept != "" {
		t.Fatalf("%+v", res.Tokens)
	}
	for id, want := range map[string]string{"forged": "revoked", "child": "revoked", "grandchild": "revoked", "other": "active", "admin": "active"} {
		if tk, _ := w.s.Token(id); tk.State(w.s.ClockMs()) != want {
			t.Errorf("%s is %s", id, tk.State(w.s.ClockMs()))
		}
	}
	w.want(w.do(via("forged", "n0"), tokenOf("late", RoleAdmin)), CodeUnauthorized)
	w.want(w.do(via("admin", "n1"), tokenOf("late", RoleAdmin)), CodeForbidden) // still on its way when the node was removed
	var last AdminRecord
	records := recordsOf(t, w.history, StreamAdmin)
	if err := Decode(records[len(records)-1].Data, &last); err != nil || last.Actor.Via != "n0" || !strings.Contains(last.Detail, "tokens_revoked=3 ids=child,forged,grandchild") {
		t.Errorf("%+v, %v", last, err)
	}
	n1, _ := w.s.Removal("n1")
	if n1.TLSKey == nil || *n1.TLSKey != (crypto.Hash{}) { // nodes of these tests have no key
		t.Errorf("the key of its certificates: %v", n1.TLSKey)
	}
	restoredState, _ := restored(t, snapshotOf(t, w.s, w.history))
	if restoredState.Digest() != w.s.Digest() || restoredState.Validate(0) != nil {
		t.Errorf("the snapshot reads as another state: %v", restoredState.Validate(0))
	}
}

// TestTokensOfTheActorStay: whoever removes a node under a token that was made
// through it must be able to make another; and an answer is bounded.
func TestTokensOfTheActorStay(t *testing.T) {
	w := throughWorld(t, LevelThrough)
	w.must(w.do(Actor{TokenID: "admin", Via: "n1"}, tokenOf("mine", RoleAdmin)))
	for i := range MaxTokensTold + 5 {
		w.must(w.do(Actor{TokenID: "mine", Via: "n0"}, tokenOf(fmt.Sprintf("t%03d", i), RoleViewer)))
	}
	res := w.do(Actor{TokenID: "mine", Via: "n0"}, CoordinatorRemove{ID: "n1", Compromised: true})
	if w.must(res); res.Tokens.Kept != "mine" || res.Tokens.Count != MaxTokensTold+5 || len(res.Tokens.IDs) != MaxTokensTold {
		t.Errorf("%d revoked, %d told, kept %q", res.Tokens.Count, len(res.Tokens.IDs), res.Tokens.Kept)
	}
	w.must(w.do(Actor{TokenID: "mine", Via: "n0"}, tokenOf("next", RoleAdmin)))
}

// TestThroughWaitsForItsLevel: older binaries cannot read it, and what older logs hold
// is answered as it was.
func TestThroughWaitsForItsLevel(t *testing.T) {
	cmd, err := New(Actor{TokenID: "admin", Via: "n1"}, tokenOf("t", RoleViewer))
	if err != nil {
		t.Fatal(err)
	}
	if need := LevelOf(cmd); need != LevelThrough {
		t.Errorf("it needs level %d", need)
	}
	w := throughWorld(t, LevelUpgrades)
	w.must(w.do(admin, tokenOf("t", RoleViewer)))
	w.must(w.do(admin, CoordinatorRemove{ID: "n2"}))
	if res := w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}); res.Tokens != nil {
		t.Errorf("%+v", res)
	}
	if gone, _ := w.s.Removal("n2"); gone.TLSKey != nil {
		t.Error("a removal of an older level has a key")
	}
}

// TestCompromisedAfterItLeft: a node that left, by a removal that it asked for
// itself perhaps, is compromised all the same; and what stayed the first time goes
// when somebody else asks.
func TestCompromisedAfterItLeft(t *testing.T) {
	w := throughWorld(t, LevelThrough)
	via := func(token, node string) Actor { return Actor{TokenID: token, Via: node} }
	w.must(w.do(via("admin", "n1"), tokenOf("forged", RoleAdmin)))
	w.must(w.do(via("forged", "n1"), CoordinatorRemove{ID: "n1"}))
	w.must(w.do(via("forged", "n0"), tokenOf("child", RoleAdmin))) // remembers the one that left
	res := w.do(via("forged", "n0"), CoordinatorRemove{ID: "n1", Compromised: true})
	if w.must(res); res.Tokens == nil || !slices.Equal(res.Tokens.IDs, []string{"child"}) || res.Tokens.Kept != "forged" {
		t.Fatalf("%+v", res.Tokens)
	}
	if gone, _ := w.s.Removal("n1"); !gone.Compromised {
		t.Error("it was removed as one that is not compromised")
	}
	res = w.do(via("admin", "n0"), CoordinatorRemove{ID: "n1", Compromised: true})
	if w.must(res); res.Tokens == nil || !slices.Equal(res.Tokens.IDs, []string{"forged"}) {
		t.Fatalf("asked by somebody else: %+v", res.Tokens)
	}
	before := len(recordsOf(t, w.history, StreamAdmin))
	if res = w.do(via("admin", "n0"), CoordinatorRemove{ID: "n1", Compromised: true}); w.must(res).Tokens != nil || len(recordsOf(t, w.history, StreamAdmin)) != before {
		t.Errorf("nothing is left to revoke: %+v", res)
	}
}

// TestSomebodyLastsToAdminister: a removal ends no admin token that none which is
// left lasts as long as.
func TestSomebodyLastsToAdminister(t *testing.T) {
	w := throughWorld(t, LevelThrough)
	short := tokenOf("short", RoleAdmin)
	short.ExpiresMs = w.wallMs + 3_600_000
	w.must(w.do(Actor{TokenID: "admin", Via: "n0"}, short))
	w.must(w.do(Actor{TokenID: "admin", Via: "n1"}, tokenOf("lasting", RoleAdmin)))
	w.must(w.do(Actor{TokenID: "lasting"}, TokenRevoke{ID: "admin"}))
	w.want(w.do(Actor{TokenID: "short", Via: "n0"}, CoordinatorRemove{ID: "n1", Compromised: true}), CodeConflict)
	if _, member := w.s.Coordinator("n1"); !member {
		t.Fatal("it was refused, and the node is gone")
	}
	w.must(w.do(Actor{TokenID: "lasting", Via: "n0"}, CoordinatorRemove{ID: "n1", Compromised: true}))
}

// TestForebearsAreBounded: a row of a token fits its frame whatever it was made under.
func TestForebearsAreBounded(t *testing.T) {
	w := throughWorld(t, LevelThrough)
	by := "admin"
	for i := range MaxThrough + 1 {
		node := nodeOf(fmt.Sprintf("node-%02d-%s", i, strings.Repeat("x", 100)), RoleCoordinator)
		node.Level = LevelSupported
		w.must(w.do(joiner, CoordinatorJoin{Coordinator: node}))
		made := tokenOf(fmt.Sprintf("t%02d", i), RoleAdmin)
		res := w.do(Actor{TokenID: by, Via: node.ID}, made)
		if i == MaxThrough {
			w.want(res, CodeOverloaded)
			break
		}
		w.must(res)
		by = made.ID
	}
	restored(t, snapshotOf(t, w.s, w.history))
}

// TestRestoreIntoAnOlderLevel: what older binaries cannot read does not come with a backup.
func TestRestoreIntoAnOlderLevel(t *testing.T) {
	backup := throughWorld(t, LevelThrough)
	n9 := nodeOf("n9", RoleCoordinator)
	n9.Level = LevelSupported
	backup.must(backup.do(joiner, CoordinatorJoin{Coordinator: n9}))
	backup.must(backup.do(admin, CoordinatorRemove{ID: "n9"}))
	for level, keeps := range map[uint32]bool{LevelUpgrades: false, LevelThrough: true} {
		s, _, err := Restored(backup.s, throughWorld(t, level).s, Recovery{AtMs: backup.wallMs, Action: "restore"})
		if err != nil {
			t.Fatal(err)
		}
		if gone, ok := s.Removal("n9"); !ok || (gone.TLSKey != nil) != keeps {
			t.Errorf("level %d: the removal has a key: %t", level, gone.TLSKey != nil)
		}
	}
}
