package fsm

import (
	"fmt"
	"strings"
	"testing"
)

// membersWorld is a cluster of coordinators n0 to n(size-1), at the level of
// clean-ups.
func membersWorld(t *testing.T, size int) *world {
	t.Helper()
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelUpgrades
	w.s.countMost()
	for i := 1; i < size; i++ {
		w.join(fmt.Sprintf("n%d", i))
	}
	return w
}

func (w *world) join(id string) {
	w.t.Helper()
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: newNodeOf(id, RoleCoordinator)}))
}

// newNodeOf is a node of a binary that knows clean-ups.
func newNodeOf(id string, role Role) Coordinator {
	n := nodeOf(id, role)
	n.Level = LevelUpgrades
	return n
}

var leader = Actor{NodeID: "n0"}

const day = int64(MinSilenceMs)

// TestCleanUpKeepsThree: of three nobody goes, however long it is silent; once
// a fourth has joined, the silent one does.
func TestCleanUpKeepsThree(t *testing.T) {
	w := membersWorld(t, 3)
	w.pass(day + 1000)
	clean := CoordinatorCleanUp{ID: "n2", SilentMs: day}
	w.want(w.do(leader, clean), CodeConflict) // nobody has joined since
	w.join("n3")
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n2", SilentMs: day - 1}), CodeConflict)
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n2", SilentMs: 2 * day}), CodeConflict) // it is no member for so long
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n3", SilentMs: day}), CodeConflict)
	w.want(w.do(Actor{NodeID: "n9"}, clean), CodeForbidden)
	w.want(w.do(admin, clean), CodeForbidden) // an administrator has a command of its own
	w.want(w.do(Actor{NodeID: "n2"}, clean), CodeForbidden)
	w.must(w.do(leader, clean))
	if got := w.s.Removed(); len(got) != 1 || got[0].ID != "n2" || got[0].SilentMs != day || got[0].Compromised {
		t.Errorf("removed %+v, want n2 as silent", got)
	}
	if res := w.want(w.do(leader, CoordinatorCleanUp{ID: "n1", SilentMs: day}), CodeConflict); !strings.Contains(res.Detail, "least") {
		t.Errorf("one of three stays because %q, want the least number", res.Detail)
	}
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: newNodeOf("n2", RoleCoordinator)}), CodeForbidden)
}

// TestCleanUpNeedsAReplacement: whoever joined before the silence began takes
// nobody's place, and observers are nobody's business.
func TestCleanUpNeedsAReplacement(t *testing.T) {
	w := membersWorld(t, 4)
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: newNodeOf("n5", RoleObserver)}))
	w.pass(day + 1000)
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n3", SilentMs: day}), CodeConflict)
	w.join("n4")
	w.must(w.do(leader, CoordinatorCleanUp{ID: "n3", SilentMs: day}))
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n5", SilentMs: day}), CodeConflict)
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n9", SilentMs: day}), CodeConflict)
}

// TestLeastCoordinators: at least three, and at most one fewer than there ever
// were at one time. A node that takes the place of another in one step was
// never there beside it, and observers are none, not even once they were removed.
func TestLeastCoordinators(t *testing.T) {
	w := membersWorld(t, 1)
	want := func(what string, most int) {
		t.Helper()
		if got := w.s.Meta().MostCoordinators; got != most {
			t.Errorf("%s: %d at one time, want %d", what, got, most)
		}
		if got := w.s.LeastCoordinators(); got != max(3, most-1) {
			t.Errorf("%s: at least %d stay, want %d", what, got, max(3, most-1))
		}
	}
	want("alone", 1)
	for i := 1; i < 5; i++ {
		w.join(fmt.Sprintf("n%d", i))
	}
	want("grown", 5)
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: newNodeOf("watcher", RoleObserver)}))
	want("with an observer", 5)
	w.must(w.do(admin, CoordinatorRemove{ID: "watcher"}))
	want("without it again", 5)
	wiped := newNodeOf("n1b", RoleCoordinator)
	wiped.Name = "name-n1"
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: wiped, ReplaceID: "n1"}))
	want("one was wiped", 5)
	for _, id := range []string{"n1b", "n2", "n3"} {
		w.must(w.do(admin, CoordinatorRemove{ID: id}))
	}
	w.join("n6")
	want("shrunk, and one joined", 5)
	w.join("n7")
	w.join("n8")
	w.join("n9")
	want("grown beyond", 6)
}

// TestCleanUpWaitsForItsLevel: an older server would have to stop at it.
func TestCleanUpWaitsForItsLevel(t *testing.T) {
	w := membersWorld(t, 4)
	w.s.meta.v.Level = LevelUpgrades - 1
	w.want(w.do(leader, CoordinatorCleanUp{ID: "n3", SilentMs: day}), CodeConflict)
	if got := KindCoordinatorCleanUp.Level(); got != LevelUpgrades {
		t.Errorf("the kind needs level %d, want %d", got, LevelUpgrades)
	}
}
