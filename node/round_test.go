package node

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

func marksAt(text string, from, to uint64) (out []fsm.Mark) {
	for i := from; i <= to; i++ {
		out = append(out, fsm.Mark{Index: i, Digest: crypto.Sum([]byte(text))})
	}
	return out
}

// TestRoundOfTheSlow: one that never has the newest mark is judged by the newest
// that all have, and one that nobody hears of holds nobody up.
func TestRoundOfTheSlow(t *testing.T) {
	servers := []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "slow"}, {ID: "silent"}, {ID: "watcher", Suffrage: raft.Nonvoter}}
	all := marksAt("x", 1, 16)
	heard := map[string][]fsm.Mark{"a": all, "b": all, "slow": marksAt("y", 1, 12), "watcher": marksAt("x", 1, 3)}
	if r := commonRound(all, servers, heard); r.Mark != 12 || r.Voters != 4 || len(r.Reports) != 3 || r.Reports[2].Digest == all[0].Digest {
		t.Errorf("%+v", r)
	}
	if r := roundAt(all[15], servers, heard); r.Mark != 16 || len(r.Reports) != 2 {
		t.Errorf("%+v", r)
	}
	heard["slow"] = nil
	if r := commonRound(all, servers, heard); r.Mark != 16 || len(r.Reports) != 2 {
		t.Errorf("%+v", r)
	}
	if r := commonRound(all, servers, map[string][]fsm.Mark{"watcher": all}); r.Mark != 16 || len(r.Reports) != 1 || r.Reports[0].Votes {
		t.Errorf("no voter was heard: %+v", r)
	}
}

// TestOldFindingStands: a node does not serve again because so much time went by
// that the mark which it failed at is forgotten. But it does not start afresh for
// it: a newer one must be judged first.
func TestOldFindingStands(t *testing.T) {
	d := fsm.Divergence{NodeID: "n", Mark: 5, Digest: crypto.Sum([]byte("bad")), Majority: crypto.Sum([]byte("good"))}
	for name, tt := range map[string]struct {
		marks  []fsm.Mark
		healed bool
	}{
		"its own mark":         {marksAt("bad", 1, 16), false},
		"the others' mark":     {marksAt("good", 1, 16), true},
		"a mark long ago":      {marksAt("bad", 6, 21), false},
		"healed, but long ago": {marksAt("good", 6, 21), false},
		"no marks":             {nil, false},
	} {
		if got := healed(tt.marks, d); got != tt.healed {
			t.Errorf("%s: healed %t", name, got)
		}
	}
	n := &Node{}
	n.diverged.Store(&d)
	if !n.mustForget() {
		t.Error("it does not start afresh")
	}
	if n.faded.Store(true); n.mustForget() || n.diverged.Load() == nil {
		t.Error("it starts afresh for what may be over")
	}
}
