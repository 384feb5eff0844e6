package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/fsm"
)

// someCopy is a sound copy of a coordinator: its last entry, of a term.
func someCopy(name string, term, index uint64, voters ...string) *candidate {
	return &candidate{SurvivingCopy: SurvivingCopy{NodeID: name, Name: name, DataDir: "/" + name, Role: string(fsm.RoleCoordinator), Epoch: 1,
		LastTerm: term, LastIndex: index, Voters: voters}, committed: index,
		configs: []configuration{{index: 1, voters: voters}}}
}

func (c *candidate) with(change func(*candidate)) *candidate { change(c); return c }

func flagsOf(ch choice) (out []string) {
	for _, r := range ch.refusals {
		out = append(out, r.Flag)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var abc = []string{"a", "b", "c"}

func TestRecoverChoice(t *testing.T) {
	damaged := func(c *candidate) { c.Damage = []string{"raft.db: torn"} }
	for _, tt := range []struct {
		what   string
		copies []*candidate
		named  string
		chosen string
		flags  []string
		loses  bool
	}{
		{"the later term wins over the longer log", []*candidate{someCopy("a", 3, 900, abc...), someCopy("b", 4, 10, abc...)}, "", "b", nil, false},
		{"then the longer log", []*candidate{someCopy("a", 3, 9, abc...), someCopy("b", 3, 10, abc...)}, "", "b", nil, false},
		{"a recovery wins over what it left behind, whatever its term", []*candidate{
			someCopy("a", 3, 9, "a").with(func(c *candidate) { c.Lineage, c.Epoch = 2, 2 }), someCopy("b", 9, 99, abc...)}, "", "a", nil, false},
		{"an epoch alone wins nothing: the others may have gone on without it", []*candidate{
			someCopy("a", 3, 9, abc...).with(func(c *candidate) { c.Epoch = 2 }), someCopy("b", 4, 99, abc...)}, "", "b", nil, false},
		{"one of three may lack what the others acknowledged", []*candidate{someCopy("a", 3, 9, abc...)}, "", "a", []string{leaveLose}, true},
		{"two of five too", []*candidate{someCopy("a", 3, 9, "a", "b", "c", "d", "e"), someCopy("b", 3, 9, "a", "b", "c", "d", "e")}, "", "a", []string{leaveLose}, true},
		{"three of five may not", []*candidate{someCopy("a", 3, 9, "a", "b", "c", "d", "e"), someCopy("b", 3, 9, "a", "b", "c", "d", "e"), someCopy("c", 3, 8, "a", "b", "c", "d", "e")}, "", "a", nil, false},
		{"half of an even number may: a member may have left unheard", []*candidate{someCopy("a", 3, 9, "a", "b")}, "", "a", []string{leaveLose}, true},
		{"a cluster of one has all", []*candidate{someCopy("a", 3, 9, "a")}, "", "a", nil, false},
		{"a damaged one is never chosen and counts for nothing", []*candidate{someCopy("a", 4, 9, abc...).with(damaged), someCopy("b", 3, 9, abc...)}, "", "b", []string{leaveLose}, true},
		{"not by name either", []*candidate{someCopy("a", 4, 9, abc...).with(damaged), someCopy("b", 3, 9, abc...)}, "a", "", []string{""}, false},
		{"nobody is fit", []*candidate{someCopy("a", 4, 9, abc...).with(damaged)}, "", "", []string{""}, false},
		{"nobody of that name", []*candidate{someCopy("a", 4, 9, abc...)}, "z", "", []string{""}, false},
		{"an older one by name leaves a newer aside", []*candidate{someCopy("a", 4, 9, abc...), someCopy("b", 3, 9, abc...)}, "b", "b", []string{leaveLose}, true},
		{"by directory", []*candidate{someCopy("a", 4, 9, abc...), someCopy("b", 3, 9, abc...)}, "/a", "a", nil, false},
		{"a retired one is left alone", []*candidate{someCopy("a", 4, 9, abc...).with(func(c *candidate) { c.Retired = &Retirement{} }), someCopy("b", 3, 9, abc...)}, "", "b", []string{leaveLose}, true},
		{"an observer's is newer, and cannot lead", []*candidate{someCopy("o", 4, 9, abc...).with(func(c *candidate) { c.Role = string(fsm.RoleObserver) }), someCopy("a", 3, 9, abc...), someCopy("b", 3, 9, abc...)}, "", "a", []string{leaveLose}, true},
		{"one that differs is not chosen by itself", []*candidate{someCopy("a", 4, 9, abc...).with(func(c *candidate) { c.Diverged = true }), someCopy("b", 3, 9, abc...), someCopy("c", 3, 9, abc...)}, "", "b", nil, false},
		{"a change of members that may not be committed: both sides count", []*candidate{
			someCopy("a", 3, 9, "a").with(func(c *candidate) {
				c.configs, c.committed = []configuration{{1, []string{"a", "b"}}, {9, []string{"a"}}}, 8
			})}, "", "a", []string{leaveLose}, true},
		{"a recovery that is not finished asks nothing more", []*candidate{someCopy("a", 3, 9, "a").with(func(c *candidate) { c.Recovered, c.Lineage = true, 2 }), someCopy("b", 4, 99, abc...)}, "", "a", nil, false},
	} {
		ch := choose(tt.copies, tt.named, false)
		got := ""
		if ch.chosen != nil {
			got = ch.chosen.Name
		}
		if got != tt.chosen || !slices.Equal(flagsOf(ch), tt.flags) || ch.mayLose != tt.loses {
			t.Errorf("%s: chose %q, refused for %q, loses %t; %q", tt.what, got, flagsOf(ch), ch.mayLose, ch.why)
		}
		if ch.chosen != nil && len(ch.why) == 0 {
			t.Errorf("%s: no reason is given", tt.what)
		}
		if over := choose(tt.copies, tt.named, true); slices.Contains(flagsOf(over), leaveLose) {
			t.Errorf("%s: refused against the flag", tt.what)
		}
	}
}

// TestRecoverChoiceBetweenStates: copies of one log with another digest.
func TestRecoverChoiceBetweenStates(t *testing.T) {
	state := func(c *candidate) { c.state = fsm.NewState() }
	a, b := someCopy("a", 3, 9, abc...).with(state), someCopy("b", 3, 9, abc...).with(state)
	a.Digest, b.Digest = "one", "two"
	if ch := choose([]*candidate{a, b}, "", true); !slices.Equal(flagsOf(ch), []string{leaveChoose}) {
		t.Errorf("refused for %q", flagsOf(ch))
	}
	if ch := choose([]*candidate{a, b}, "b", true); ch.chosen != b || len(ch.refusals) != 0 {
		t.Errorf("by name: %+v", ch.refusals)
	}
	b.LastIndex++ // another log: digests say nothing
	if ch := choose([]*candidate{a, b}, "", true); len(ch.refusals) != 0 {
		t.Errorf("different logs: %+v", ch.refusals)
	}
}

func TestRecoverHeedsWhoAnswers(t *testing.T) {
	peer := func(id string) ReachablePeer {
		return ReachablePeer{NodeID: id, Name: "n-" + id, Address: "x:1", Answer: "its server answers"}
	}
	for _, tt := range []struct {
		answer  []string
		ignored []string
		flags   []string
	}{
		{nil, nil, nil},
		{[]string{"b"}, nil, []string{leaveReach}},
		{[]string{"b"}, []string{"n-b"}, nil},
		{[]string{"b"}, []string{"b"}, nil},
		{[]string{"b"}, []string{"c"}, []string{leaveReach}},
		{[]string{"b", "c"}, []string{"b", "c"}, []string{""}},
		{[]string{"x", "y"}, []string{"x", "y"}, nil}, // they do not vote
	} {
		ch := choice{chosen: someCopy("a", 1, 1, abc...)}
		var peers []ReachablePeer
		for _, id := range tt.answer {
			peers = append(peers, peer(id))
		}
		ch.heed(peers, tt.ignored)
		if got := flagsOf(ch); !slices.Equal(got, tt.flags) {
			t.Errorf("%v answer, %v ignored: refused for %q (%s)", tt.answer, tt.ignored, got, strings.Join(ch.why, "; "))
		}
	}
}

// TestRecoverHeedsARestore: the newest copy may hold one that the cluster went on
// without.
func TestRecoverHeedsARestore(t *testing.T) {
	holds := func(what string) func(*candidate) {
		return func(c *candidate) { c.Restore, c.newest.Epoch, c.state = what, 2, fsm.NewState() }
	}
	notes := func(epoch uint64) func(*candidate) {
		return func(c *candidate) { c.noted, c.state = epoch, fsm.NewState() }
	}
	for _, tt := range []struct {
		what  string
		first *candidate
		other *candidate
		flags []string
		loses bool
	}{
		{"none", someCopy("a", 3, 9, abc...), someCopy("b", 3, 8, abc...), nil, false},
		{"unconfirmed", someCopy("a", 3, 9, abc...).with(holds(restoreUnconfirmed)), someCopy("b", 3, 8, abc...), []string{leaveKeep}, true},
		{"another copy knows better", someCopy("a", 3, 9, abc...).with(holds(restoreUnconfirmed)), someCopy("b", 3, 8, abc...).with(notes(2)), nil, false},
		{"another copy knows of a later one", someCopy("a", 3, 9, abc...).with(holds(restoreUnconfirmed)), someCopy("b", 3, 8, abc...).with(notes(3)), []string{leaveKeep}, true},
		{"passed over", someCopy("a", 3, 9, abc...).with(holds(restorePassedOver)), someCopy("b", 3, 8, abc...).with(notes(2)), []string{leaveKeep}, true},
		{"on a copy that is left aside", someCopy("a", 3, 9, abc...), someCopy("b", 3, 8, abc...).with(holds(restorePassedOver)), nil, false},
		{"a recovery of it was decided", someCopy("a", 3, 9, "a").with(holds(restorePassedOver)).with(func(c *candidate) { c.Recovered = true }), someCopy("b", 3, 8, abc...), nil, false},
	} {
		all := []*candidate{tt.first, tt.other}
		ch := choose(all, "", false)
		ch.restored(all, false)
		if got := flagsOf(ch); !slices.Equal(got, tt.flags) || ch.mayLose != tt.loses {
			t.Errorf("%s: refused for %q, loses %t", tt.what, got, ch.mayLose)
		}
		over := choose(all, "", false)
		if over.restored(all, true); len(over.refusals) != 0 || over.mayLose != tt.loses {
			t.Errorf("%s: refused against the flag: %+v, loses %t", tt.what, over.refusals, over.mayLose)
		}
	}
	none := choice{}
	if none.restored(nil, false); len(none.refusals) != 0 {
		t.Errorf("without a choice: %+v", none.refusals)
	}
}
