package fsm

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// toldKey is what history tells of a key in the end.
type toldKey struct {
	KeyWindow
	left bool // it is in no ring any more
}

// told reads the windows of all keys that a subject ever had from history.
func told(t rapid.TB, h *MemoryHistory, of Subject) map[string]toldKey {
	t.Helper()
	out := map[string]toldKey{}
	for _, r := range recordsOf(t, h, StreamAdmin) {
		step, ok, err := ReadKeyStep(of, r)
		if err != nil {
			t.Fatal(err)
		}
		if !ok || !step.Rung {
			continue
		}
		for id, k := range out {
			k.left = true
			out[id] = k
		}
		for _, k := range step.Ring {
			out[k.KeyID] = toldKey{KeyWindow: k}
		}
	}
	return out
}

// judgeHistory holds what history tells to the model, for keys that left too. Before
// its first change a subject has one key.
func (x *keyTrial) judgeHistory(m *modelKeys) {
	x.t.Helper()
	got := told(x.t, x.history, m.of)
	if len(got) == 0 && len(m.keys) == 1 {
		return
	}
	for _, k := range m.keys {
		want := toldKey{KeyWindow{KeyID: x.public(m, k.name).KeyID(), NotBeforeMs: k.from, NotAfterMs: k.until, RevokedAt: k.at, Waits: k.waits}, k.gone}
		if k.waits {
			want.NotBeforeMs = 0
		}
		if is := got[want.KeyID]; is.KeyWindow != want.KeyWindow || is.left && !want.left {
			x.t.Fatalf("%s: history tells %+v of %s, it is %+v", m.of, is, k.name, want)
		}
	}
	if len(got) != len(m.keys) {
		x.t.Fatalf("%s: history tells of %d keys, it had %d", m.of, len(got), len(m.keys))
	}
}

// checkTold holds history to the rings of a state.
func checkTold(t *testing.T, s *State, h *MemoryHistory, subjects ...Subject) {
	t.Helper()
	for _, of := range subjects {
		ring, known := s.ring(of)
		if !known {
			ring = nil
		}
		var want []KeyWindow
		for _, k := range ring {
			if k.waits() {
				k.NotBeforeMs = 0
			}
			want = append(want, KeyWindow{k.Public.KeyID(), k.NotBeforeMs, k.NotAfterMs, k.RevokedAt, k.waits()})
		}
		var got []KeyWindow
		for _, k := range told(t, h, of) {
			if !k.left {
				got = append(got, k.KeyWindow)
			}
		}
		for _, list := range [][]KeyWindow{want, got} {
			slices.SortFunc(list, func(a, b KeyWindow) int { return cmp.Compare(a.KeyID, b.KeyID) })
		}
		if !slices.Equal(want, got) {
			t.Errorf("%s: history tells %+v, the state has %+v", of, got, want)
		}
	}
}

// TestHistoryTellsAllRings: also of what other changes than those of keys do to them.
func TestHistoryTellsAllRings(t *testing.T) {
	w := keysWorld(t, "a", "b")
	a, b, n0, m := AgentSubject("a"), AgentSubject("b"), CoordinatorSubject("n0"), Subject{SubjectManifest, "m"}
	gossip, ca := Subject{Kind: SubjectGossip}, Subject{Kind: SubjectCA}
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	w.must(w.do(node("n0"), sharedCA(nil, []byte("ca"))))
	w.must(w.do(Actor{}, w.order(a, "a", "a2", 0)))
	w.must(w.do(node("n0"), w.order(n0, "node n0", "node n0 second", 0)))
	w.must(w.do(admin, w.order(m, "signer m", "m2", w.wallMs+60_000)))
	checkTold(t, w.s, w.history, a, n0, m, gossip, ca)
	backup, kept := restored(t, snapshotOf(t, w.s, w.history))
	w.must(w.do(Actor{}, AgentRekey{AgentID: "b", By: keyRef("b"), PublicKey: publicKey("b2"), TimestampMs: w.wallMs}))
	checkTold(t, w.s, w.history, b)
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0")))
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0")))
	w.must(w.compromised("n1"))
	checkTold(t, w.s, w.history, gossip, ca)
	back := w.s.ClockMs() - 30_000
	w.must(w.doAt(back, admin, nil, ClockRecover{Voters: 1, Walls: walls(back, 0), Reason: "half a minute"}))
	w.wallMs = back
	checkTold(t, w.s, w.history, a, b, n0, m, gossip, ca)

	s, records, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore"))
	if err != nil {
		t.Fatal(err)
	}
	r := onward(t, s, historyOf(t, kept), records)
	checkTold(t, r.s, r.history, a, b, n0, m, gossip, ca)
	r.must(r.do(admin, ManifestTrustSet{IfVersion: r.s.ManifestTrust().Version, Trust: trustOf(1, "other")}))
	checkTold(t, r.s, r.history, m, Subject{SubjectManifest, "other"})
}

// TestKeyStepsAreAboutTheirSubject: a record of somebody else, or with a reason that
// reads like a ring, is not taken for one.
func TestKeyStepsAreAboutTheirSubject(t *testing.T) {
	w := keysWorld(t, "a", "aa")
	reason := `x" ring=none reason="y`
	w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a"), Reason: reason}))
	var steps []KeyStep
	for _, r := range recordsOf(t, w.history, StreamAdmin) {
		if step, ok, err := ReadKeyStep(AgentSubject("a"), r); err != nil {
			t.Fatal(err)
		} else if ok {
			steps = append(steps, step)
		}
	}
	var actions []string
	for _, s := range steps {
		actions = append(actions, s.Action)
	}
	if got := strings.Join(actions, " "); got != "agent_enroll key_revoke" {
		t.Fatalf("steps: %s", got)
	}
	last := steps[len(steps)-1]
	if last.Reason != reason || !last.Rung || len(last.Ring) != 1 || last.Ring[0].RevokedAt != w.s.Index() || last.Fields["was"] != "active" {
		t.Errorf("%+v", last)
	}
}

// FuzzReadKeyStep: no record makes it panic, and what it reads it can say again.
func FuzzReadKeyStep(f *testing.F) {
	f.Add("key_id=x ring=ab/1/2/3,cd/switch/0/0 reason=\"why\"")
	f.Add("ring=none")
	f.Fuzz(func(t *testing.T, detail string) {
		data, err := Encode(AdminRecord{Action: "key_revoke", Subject: "ca", Detail: detail})
		if err != nil {
			t.Skip()
		}
		step, ok, err := ReadKeyStep(Subject{Kind: SubjectCA}, Record{Stream: StreamAdmin, Seq: 1, Data: data})
		if err == nil && (!ok || step.Rung && len(step.Ring) == 0 && !strings.Contains(detail, ringField+noRing)) {
			t.Errorf("%q: %t %+v", detail, ok, step)
		}
	})
}
