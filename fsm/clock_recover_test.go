package fsm

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

const dayMs = 24 * 3_600_000

// jumpedWorld is a cluster at the level of recoveries whose clock jumped a
// day ahead, with one claim admitted before the jump and one after it.
func jumpedWorld(t *testing.T) *world {
	w := newWorld(t)
	g := genesisOf("n0")
	g.Level = LevelRecovery
	w.must(w.do(Actor{}, g))
	for _, role := range []Role{RoleVerifier, RoleAgent} {
		w.must(w.do(admin, TokenCreate{ID: string(role), Role: role, Uses: -1}))
	}
	w.setPolicy(func(p *Policy) { p.AutoApprove = true })
	w.enroll("a")
	w.wantVerdict(claimOf("a", "before", w.wallMs, ""), CodeOK)
	w.term++
	ahead := w.wallMs + dayMs
	w.must(w.doAt(ahead, Actor{}, nil, Tick{Term: w.term, Voters: 1, Walls: walls(ahead, 0)}))
	res := w.admitAt(ahead, claimOf("a", "after", ahead, ""))
	if res.Code != CodeOK {
		t.Fatalf("under the wrong clock: %+v", res)
	}
	// Past its window: the nonce is dropped and raises the floor.
	for at := ahead; at <= ahead+2*DefaultSkewMs+NonceBucketMs; at += MaxAheadMs {
		w.must(w.doAt(at, Actor{}, nil, Tick{Term: w.term}))
	}
	if w.s.Meta().NonceFloorMs < ahead {
		t.Fatal("the floor did not follow the wrong clock")
	}
	return w
}

func (w *world) admitAt(atMs int64, c Claim) ClaimResult {
	w.t.Helper()
	return w.must(w.doAt(atMs, Actor{}, nil, AdmitBatch{Callers: []string{"verifier"}, Claims: []Claim{c}})).Claims[0]
}

// A claim admitted under a wrong clock must not close the day that the clock
// jumped over: nothing was admitted there.
func TestClockRecoverOpensWhatTheJumpSkipped(t *testing.T) {
	w := jumpedWorld(t)
	to := w.wallMs + 10_000
	w.must(w.doAt(to, admin, nil, ClockRecover{Voters: 1, Walls: walls(to, 0)}))
	pause := w.s.Recovering() - to
	if pause <= 0 || pause > 2*DefaultSkewMs {
		t.Fatalf("admissions pause for %d ms", pause)
	}
	noon := to + dayMs/2
	w.term++
	w.must(w.doAt(noon, Actor{}, nil, Tick{Term: w.term, Voters: 1, Walls: walls(noon, 0)}))
	if res := w.admitAt(noon, claimOf("a", "at noon", noon, "")); res.Code != CodeOK {
		t.Errorf("half a day later: %+v", res)
	}
	// The claim of the wrong day comes again when that day is here.
	again := w.wallMs + dayMs
	w.term++
	w.must(w.doAt(again, Actor{}, nil, Tick{Term: w.term, Voters: 1, Walls: walls(again, 0)}))
	if res := w.admitAt(again, claimOf("a", "after", again, "")); res.Code == CodeOK {
		t.Error("a claim was admitted twice")
	}
}

// A node restarts after a clock recovery, from its log and from a snapshot of
// before it: its history is of the new epoch already.
func TestMachineRestartsAfterAClockRecovery(t *testing.T) {
	w := jumpedWorld(t)
	history := NewMemoryHistory()
	first := NewMachine(history, nil)
	feed(first, w.log)
	snapshot, err := first.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &memorySink{}
	if err := snapshot.Persist(sink); err != nil {
		t.Fatal(err)
	}
	before := len(w.log)
	to := w.wallMs + 10_000
	w.must(w.doAt(to, admin, nil, ClockRecover{Voters: 1, Walls: walls(to, 0)}))
	feed(first, w.log[before:])

	replayed := NewMachine(history, nil)
	feed(replayed, w.log)
	restored := NewMachine(history, nil)
	if err := restored.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))); err != nil {
		t.Fatal(err)
	}
	for _, l := range w.log[before:] {
		restored.Apply(&raft.Log{Type: raft.LogCommand, Index: l.index, Data: l.data})
	}
	for name, m := range map[string]*Machine{"from its log": replayed, "from a snapshot": restored} {
		if index, _ := m.Index(); index != w.index {
			t.Errorf("%s it ends at %d, want %d", name, index, w.index)
		}
	}
}
