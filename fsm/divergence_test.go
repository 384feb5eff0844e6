package fsm

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// P4: the minority that differs stops serving; with no majority, all stop.

// trioWorld has the coordinators n0 to n3 and the observer o.
func trioWorld(t rapid.TB) *world {
	t.Helper()
	w := genesisWorld(t)
	for _, id := range []string{"n1", "n2", "n3"} {
		w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf(id, RoleCoordinator)}))
	}
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: nodeOf("o", RoleObserver)}))
	w.mark()
	return w
}

// says is the report of a voter; digests are numbers.
func says(node string, digest byte) Report {
	return Report{NodeID: node, Votes: true, Digest: crypto.Hash{digest}}
}

// watches is the report of a replica that does not vote.
func watches(node string, digest byte) Report {
	return Report{NodeID: node, Digest: crypto.Hash{digest}}
}

// judge applies a marking tick with a round.
func (w *world) judge(r Round) {
	w.t.Helper()
	if r.Mark == 0 {
		r.Mark = w.index // the entry before this one will do for a mark
	}
	w.must(w.do(Actor{}, Tick{Term: w.term, Mark: true, Round: &r}))
}

// diverged names all who must not serve, of the nodes asked for.
func (w *world) diverged() string {
	var out []string
	for _, id := range []string{"n0", "n1", "n2", "n3", "o"} {
		if _, stop := w.s.Diverged(id); stop {
			out = append(out, id)
		}
	}
	return fmt.Sprint(out)
}

func TestP4AgreementRounds(t *testing.T) {
	cases := map[string]struct {
		voters  int
		reports []Report
		want    string
		rows    int
	}{
		"all agree":                       {3, []Report{says("n0", 1), says("n1", 1), says("n2", 1)}, "[]", 0},
		"a follower differs":              {3, []Report{says("n0", 1), says("n1", 1), says("n2", 2)}, "[n2]", 1},
		"the leader differs":              {3, []Report{says("n0", 2), says("n1", 1), says("n2", 1)}, "[n0]", 1},
		"two of three suffice":            {3, []Report{says("n0", 1), says("n2", 1)}, "[]", 0},
		"two of three and an observer":    {3, []Report{says("n0", 1), says("n2", 1), watches("o", 2)}, "[o]", 1},
		"observers do not judge":          {3, []Report{says("n0", 1), watches("n1", 2), watches("n2", 2), watches("o", 2)}, "[]", 0},
		"a non-voter that differs":        {3, []Report{says("n0", 1), says("n1", 1), says("n2", 1), watches("n3", 3), watches("o", 1)}, "[n3]", 1},
		"each one differs":                {3, []Report{says("n0", 1), says("n1", 2), says("n2", 3)}, "[n0 n1 n2 n3 o]", 1},
		"two of three differ":             {3, []Report{says("n0", 1), says("n1", 2)}, "[n0 n1 n2 n3 o]", 1},
		"two and two":                     {4, []Report{says("n0", 1), says("n1", 1), says("n2", 2), says("n3", 2)}, "[n0 n1 n2 n3 o]", 1},
		"two of four agree, one differs":  {4, []Report{says("n0", 1), says("n1", 1), says("n2", 2)}, "[n0 n1 n2 n3 o]", 1},
		"two of four agree":               {4, []Report{says("n0", 1), says("n1", 1), watches("n2", 2)}, "[]", 0},
		"one of three":                    {3, []Report{says("n0", 1)}, "[]", 0},
		"nobody":                          {3, nil, "[]", 0},
		"one voter":                       {1, []Report{says("n0", 1), watches("o", 2)}, "[o]", 1},
		"no voters":                       {0, []Report{says("n0", 1), says("n1", 2)}, "[]", 0},
		"negative voters":                 {-1, []Report{says("n0", 1), says("n1", 2)}, "[]", 0},
		"one reporter three times":        {3, []Report{says("n0", 1), says("n0", 1), says("n0", 1), says("n1", 2)}, "[n0 n1 n2 n3 o]", 1},
		"one reporter for a majority":     {3, []Report{says("n0", 1), says("n0", 1), watches("n1", 2)}, "[]", 0},
		"who contradicts itself differs":  {3, []Report{says("n0", 1), says("n1", 1), says("n2", 1), says("n2", 2)}, "[n2]", 1},
		"the other way round":             {3, []Report{says("n2", 2), says("n2", 1), says("n0", 1), says("n1", 1)}, "[n2]", 1},
		"and has no vote":                 {3, []Report{says("n0", 1), says("n1", 1), says("n1", 2)}, "[]", 0},
		"nor a majority of such":          {3, []Report{says("n0", 1), says("n0", 2), says("n1", 1), says("n1", 2), says("n2", 3)}, "[]", 0},
		"more votes than voters":          {1, []Report{says("n0", 1), says("n1", 2)}, "[n0 n1 n2 n3 o]", 1},
		"more votes than voters, settled": {1, []Report{says("n0", 1), says("n1", 2), says("n2", 2)}, "[n0]", 1},
		"strangers make no row":           {3, []Report{says("n0", 1), says("n1", 1), says("nobody", 2), watches("stranger", 2), watches("", 2)}, "[]", 0},
		"strangers have no vote":          {3, []Report{says("n0", 1), says("x", 2), says("y", 2), says("z", 2)}, "[]", 0},
		"an unnamed stranger neither":     {1, []Report{says("n0", 1), says("", 2)}, "[]", 0},
	}
	for name, c := range cases {
		w := trioWorld(t)
		w.judge(Round{Voters: c.voters, Reports: c.reports})
		if got := w.diverged(); got != c.want || len(w.s.Divergences()) != c.rows {
			t.Errorf("%s: %s must not serve, %d rows, want %s and %d", name, got, len(w.s.Divergences()), c.want, c.rows)
		}
		if w.s.Digest() != w.s.FullDigest() {
			t.Errorf("%s: the digest kept is not that of the contents", name)
		}
	}
}

func TestP4AgreementRoundTellsWhy(t *testing.T) {
	w := trioWorld(t)
	w.judge(Round{Mark: 5, Voters: 3, Reports: []Report{says("n0", 1), says("n1", 1), says("n2", 2)}})
	if d, ok := w.s.Diverged("n2"); !ok || d != (Divergence{NodeID: "n2", Mark: 5, Digest: crypto.Hash{2}, Majority: crypto.Hash{1}}) {
		t.Errorf("%+v", d)
	}
	w.judge(Round{Mark: 6, Voters: 4, Reports: []Report{says("n0", 1), says("n1", 3)}})
	if d, ok := w.s.Diverged("n0"); !ok || d != (Divergence{Mark: 6}) {
		t.Errorf("%+v", d)
	}
	if d, _ := w.s.Diverged("n2"); d.Mark != 5 {
		t.Errorf("%+v", d)
	}
}

func TestP4AgreementLaterRoundsClear(t *testing.T) {
	w := trioWorld(t)
	step := func(what, want string, voters int, reports ...Report) {
		t.Helper()
		w.judge(Round{Voters: voters, Reports: reports})
		if got := w.diverged(); got != want {
			t.Fatalf("%s: %s must not serve, want %s", what, got, want)
		}
	}
	step("one differs", "[n2]", 3, says("n0", 1), says("n1", 1), says("n2", 2))
	step("it does not report", "[n2]", 3, says("n0", 1), says("n1", 1))
	step("nothing is decided", "[n2]", 3, says("n0", 1))
	step("too few say that it agrees", "[n2]", 4, says("n1", 1), says("n2", 1))
	step("another one as well", "[n2 o]", 3, says("n0", 1), says("n1", 1), watches("o", 7))
	step("it differs without a vote", "[n2 o]", 2, says("n0", 1), says("n1", 1), watches("n2", 3))
	step("it agrees, without a vote yet", "[o]", 2, says("n0", 1), says("n1", 1), watches("n2", 1))
	step("no majority", "[n0 n1 n2 n3 o]", 3, says("n0", 1), says("n1", 2), says("n2", 3))
	step("too few agree again", "[n0 n1 n2 n3 o]", 3, says("n0", 1))
	step("a majority", "[n0 o]", 3, says("n0", 1), says("n1", 2), says("n2", 2))
	step("all agree", "[]", 3, says("n0", 1), says("n1", 1), says("n2", 1), watches("o", 1))
	if w.s.Sizes()["divergent"] != 0 {
		t.Error("rows are left")
	}

	// A round that comes late says nothing against a newer one.
	w.judge(Round{Mark: 9, Voters: 3, Reports: []Report{says("n0", 1), says("n1", 1), says("n2", 2)}})
	w.judge(Round{Mark: 8, Voters: 3, Reports: []Report{says("n0", 1), says("n1", 1), says("n2", 1)}})
	if got := w.diverged(); got != "[n2]" {
		t.Errorf("an older mark cleared it: %s", got)
	}
	w.judge(Round{Mark: 10, Voters: 4, Reports: []Report{says("n0", 1), says("n1", 3)}})
	w.judge(Round{Mark: 8, Voters: 3, Reports: []Report{says("n0", 1), says("n1", 1), says("n2", 1)}})
	if got := w.diverged(); got != "[n0 n1 n2 n3 o]" {
		t.Errorf("an older mark cleared it: %s", got)
	}
	// Nor does one of a mark that is none yet: nothing could ever clear it.
	for _, mark := range []uint64{w.index + 1, w.index + 2, 1<<64 - 1} {
		before := w.s.Divergences()
		w.judge(Round{Mark: mark, Voters: 3, Reports: []Report{says("n0", 1), says("n1", 1), says("n3", 2)}})
		if !slices.Equal(w.s.Divergences(), before) {
			t.Errorf("mark %d at index %d: %+v", mark, w.index, w.s.Divergences())
		}
	}
}

func TestP4AgreementRemovedNodesHaveNoRow(t *testing.T) {
	w := trioWorld(t)
	differ := Round{Voters: 4, Reports: []Report{says("n0", 1), says("n1", 1), says("n2", 2), says("n3", 2), says("o", 1)}}
	w.judge(differ)
	if got := w.diverged(); got != "[n2 n3]" {
		t.Fatal(got)
	}
	w.must(w.do(admin, CoordinatorRemove{ID: "n2"}))
	again := nodeOf("n3b", RoleCoordinator)
	again.Name = "name-n3"
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: again, ReplaceID: "n3"}))
	if n := w.s.Sizes()["divergent"]; n != 0 {
		t.Errorf("%d rows are left", n)
	}
	w.judge(differ) // reported before, judged after
	if n := w.s.Sizes()["divergent"]; n != 0 {
		t.Errorf("%d rows of removed nodes", n)
	}
}

func TestP4AgreementRowsAreBounded(t *testing.T) {
	w := genesisWorld(t)
	var reports []Report
	for i := range MaxCoordinators {
		id := fmt.Sprint("m", i)
		if i > 0 {
			w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf(id, RoleCoordinator)}))
		}
		reports = append(reports, watches(id, 2))
	}
	reports[0] = says("n0", 1)
	w.judge(Round{Voters: 1, Reports: reports})
	if n := len(w.s.Divergences()); n != MaxCoordinators-1 {
		t.Errorf("%d rows", n)
	}
	w.judge(Round{Voters: 2, Reports: []Report{says("n0", 1), says("m1", 2)}})
	if n := len(w.s.Divergences()); n != MaxCoordinators || w.s.divergent.size() > w.s.divergent.cap {
		t.Errorf("%d rows", n)
	}
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if !slices.Equal(back.Divergences(), w.s.Divergences()) || back.FullDigest() != w.s.Digest() {
		t.Error("a snapshot loses them")
	}
	w.judge(Round{Voters: 1, Reports: append(reports, says("n0", 1))})
	if n := len(w.s.Divergences()); n != MaxCoordinators {
		t.Errorf("more reports than there can be replicas are judged: %d rows", n)
	}
}

// The order of reports, which is that of a map in the leader, does not matter;
// nor does what led to the rows: the same rows have the same digest.
func TestP4AgreementOrderOfReports(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := trioWorld(t)
		base := snapshotOf(t, w.s, w.history)
		round := Round{Mark: w.index, Voters: rapid.IntRange(1, 5).Draw(t, "voters")}
		for range rapid.IntRange(0, 8).Draw(t, "reports") {
			round.Reports = append(round.Reports, Report{
				NodeID: pick(t, "reporter", []string{"n0", "n1", "n2", "n3", "o", "nobody", ""}),
				Votes:  !chance(t, "watches", 3), Digest: crypto.Hash{pick(t, "digest", []byte{1, 1, 2, 3})},
			})
		}
		shuffled := round
		shuffled.Reports = rapid.Permutation(round.Reports).Draw(t, "order")
		var digests []crypto.Hash
		var rows [][]Divergence
		for _, r := range []Round{round, shuffled} {
			s, _ := restored(t, base)
			s.meta.v.Index++
			s.judgeRound(r)
			digests, rows = append(digests, s.Digest()), append(rows, s.Divergences())
		}
		if digests[0] != digests[1] || !slices.Equal(rows[0], rows[1]) {
			t.Fatalf("%+v in one order, %+v in another", rows[0], rows[1])
		}
		s, _ := restored(t, base)
		s.meta.v.Index++
		s.divergent.put("n1", Divergence{NodeID: "n1", Mark: 1}) // an older word, settled since
		s.divergent.remove("n1")
		keys := slices.Collect(maps.Keys(s.coordinators.m))
		for _, id := range append(keys, "") {
			if i := slices.IndexFunc(rows[0], func(d Divergence) bool { return d.NodeID == id }); i >= 0 {
				s.divergent.put(id, rows[0][i])
			}
		}
		if s.Digest() != digests[0] || s.FullDigest() != digests[0] {
			t.Fatal("the same rows have another digest")
		}
	})
}
