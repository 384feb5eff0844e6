package fsm

import (
	"fmt"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// restoredFrom is what the cluster becomes with a backup.
func (w *world) restoredFrom(data []byte) *State {
	w.t.Helper()
	backup, _ := restored(w.t.(*testing.T), data)
	next, _, err := Restored(backup, w.s, recoveryAt(w.wallMs, "restore"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := next.Validate(0); err != nil {
		w.t.Fatalf("no sound backup: %v", err)
	}
	return next
}

// activeIn returns where the active key of a subject stands and how many there are.
func activeIn(s *State, of Subject, aheadMs int64) (key crypto.PublicKey) {
	r, _ := s.KeyRing(of)
	k, _ := r.Active(s.ClockMs() + aheadMs)
	return k.Public
}

// TestP5RestoreKeepsThePresentsKeys: those of a backup of its own past are no more
// what anybody holds, whatever was announced then.
func TestP5RestoreKeepsThePresentsKeys(t *testing.T) {
	a, m := AgentSubject("a"), Subject{SubjectManifest, "m"}
	for name, tc := range map[string]struct {
		since func(w *world)
		agent string
		ahead int64
	}{
		"recovered": {func(w *world) { w.must(w.do(operator, w.recovery("a", "a3"))) }, "a3", 30 * keyDayMs},
		"the next one revoked": {func(w *world) {
			w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a2")}))
		}, "a", 300 * keyDayMs},
		"rotated past the ring": {func(w *world) {
			w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a2")}))
			w.must(w.do(operator, w.recovery("a", "a3")))
			for i := 3; i < 6; i++ {
				w.pass(RekeyPauseMs)
				w.must(w.do(Actor{}, w.order(a, fmt.Sprint("a", i), fmt.Sprint("a", i+1), 0)))
			}
		}, "a6", 0},
	} {
		w := keysWorld(t, "a")
		w.must(w.do(Actor{}, w.order(a, "a", "a2", w.wallMs+7*keyDayMs)))
		data := snapshotOf(t, w.s, w.history)
		w.pass(1000)
		tc.since(w)
		w.must(w.do(admin, w.order(m, "signer m", "m2", 0)))
		w.mark()
		next := w.restoredFrom(data)
		if got := activeIn(next, a, tc.ahead); got != publicKey(tc.agent) {
			t.Errorf("%s: %s is not active any more", name, tc.agent)
		}
		if got := activeIn(next, m, 0); got != publicKey("m2") {
			t.Errorf("%s: the signer has its older key again", name)
		}
	}
}

// TestP5RestoreElsewhereKeepsWindows: in another cluster what was announced is
// announced, and after the same time if its clock is behind.
func TestP5RestoreElsewhereKeepsWindows(t *testing.T) {
	for _, backMs := range []int64{0, 20 * keyDayMs} {
		w := keysWorld(t, "a")
		w.jump(w.wallMs + backMs)
		w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", w.wallMs+7*keyDayMs)))
		data := snapshotOf(t, w.s, w.history)
		other := keysWorld(t)
		other.s.meta.v.ClusterID = "ffffffffffffffffffffffffffffffff"
		next := other.restoredFrom(data)
		for aheadMs, want := range map[int64]string{0: "a", 6 * keyDayMs: "a", 8 * keyDayMs: "a2"} {
			if activeIn(next, AgentSubject("a"), aheadMs) != publicKey(want) {
				t.Errorf("%d days later %s is not active", aheadMs/keyDayMs, want)
			}
		}
	}
}

// TestP5RevokedSignerKeysStayRevoked: whatever becomes of the signer, of its prefix and
// of the policy.
func TestP5RevokedSignerKeysStayRevoked(t *testing.T) {
	m := Subject{SubjectManifest, "m"}
	w := keysWorld(t)
	first := snapshotOf(t, w.s, w.history)
	w.must(w.do(admin, w.order(m, "signer m", "m2", 0)))
	w.must(w.do(admin, KeyRevoke{Subject: m.String(), Key: keyRef("signer m"), Reason: "stolen"}))
	prefixed := trustOf(1, "m")
	prefixed.Signers[0].Prefix = "b"
	w.must(w.trust(prefixed))
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1.0.0", "x"), "m")), CodeInvalid)
	if activeIn(w.s, m, 0) != publicKey("m2") {
		t.Error("another prefix took the signer's key")
	}
	twice := trustOf(2, "m", "other")
	twice.Signers[1].Key = publicKey("m2")
	w.want(w.trust(twice), CodeConflict)
	w.must(w.trust(trustOf(1, "other")))
	w.want(w.trust(trustOf(1, "m")), CodeConflict)
	w.want(w.do(admin, w.order(Subject{SubjectManifest, "other"}, "signer other", "signer m", 0)), CodeConflict)
	next := w.restoredFrom(first)
	if r, _ := next.KeyRing(m); r.StateOf(0, next.ClockMs()) != KeyRevoked {
		t.Errorf("a restore brought it back: %+v", r)
	}
	if w.s.NeedsLevel() != LevelKeys {
		t.Error("a binary that does not know of revoked signers would read it")
	}
	restored(t, snapshotOf(t, w.s, w.history))
}

// TestManifestSignersForgetNothing: what a key vouched for that retired long ago counts.
func TestManifestSignersForgetNothing(t *testing.T) {
	m := Subject{SubjectManifest, "m"}
	w := keysWorld(t)
	w.must(w.do(admin, KeyScheduleSet{Subject: "manifest", Schedule: Schedule{OverlapMs: MinOverlapMs}}))
	st := w.statementOf("bin", "1.0.0", "x")
	st.ExpiresMs = w.wallMs + 10*keyDayMs
	w.must(w.do(operator, acceptOf(st, "m")))
	by := "signer m"
	for i := range MaxSignerKeys - 1 {
		w.must(w.do(admin, w.order(m, by, fmt.Sprint("m", i), 0)))
		by = fmt.Sprint("m", i)
		w.pass(RekeyPauseMs)
	}
	w.want(w.do(admin, w.order(m, by, "one more", 0)), CodeOverloaded)
	row, _ := w.s.Manifest("bin")
	if got := row.StateOf(row.Versions[0], w.s.ManifestTrust(), w.s.ClockMs()); got != ManifestActive {
		t.Errorf("it is %s", got)
	}
}

// TestKeysAfterTheClockWasSetBack: orders of the time that never was keep nobody from
// signing now.
func TestKeysAfterTheClockWasSetBack(t *testing.T) {
	w := keysWorld(t, "a", "b")
	back := w.wallMs + 60_000
	w.jump(w.wallMs + 365*keyDayMs)
	m := Subject{SubjectManifest, "m"}
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", 0)))
	w.must(w.do(admin, w.order(m, "signer m", "m2", 0)))
	w.must(w.do(Actor{}, AgentRekey{AgentID: "b", By: keyRef("b"), PublicKey: publicKey("b2"), TimestampMs: w.wallMs}))
	n5 := atLevel(nodeOf("n5", RoleCoordinator))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n5}))
	w.must(w.doAt(back, admin, nil, ClockRecover{Voters: 1, Walls: walls(back, 0), Reason: "a year"}))
	w.wallMs = back
	w.jump(w.wallMs + keyDayMs)
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a2", "a3", 0)))
	w.must(w.do(admin, w.order(m, "m2", "m3", 0)))
	w.must(w.do(Actor{}, AgentRekey{AgentID: "b", By: keyRef("b2"), PublicKey: publicKey("b3"), TimestampMs: w.wallMs}))
	st, _ := w.s.KeyStanding(CoordinatorSubject("n5"), w.s.ClockMs())
	if st.DueMs-w.s.ClockMs() > st.Schedule.PeriodMs {
		t.Errorf("a first key is due in %d days", (st.DueMs-w.s.ClockMs())/keyDayMs)
	}
}

// TestBackupIsSoundAfterAFullRing: a signing key whose end came between two marks
// leaves the ring and is retired all the same.
func TestBackupIsSoundAfterAFullRing(t *testing.T) {
	w := keysWorld(t)
	n0, by := CoordinatorSubject("n0"), "node n0"
	for i := 1; i < MaxRingKeys; i++ {
		next := fmt.Sprint("node n0 ", i)
		w.must(w.do(node("n0"), w.order(n0, by, next, 0)))
		by = next
		w.pass(RekeyPauseMs)
	}
	w.want(w.do(node("n0"), w.order(n0, by, "node n0 last", 0)), CodeOverloaded)
	ring, _ := w.s.KeyRing(n0)
	w.jump(ring[0].NotAfterMs + 1)
	w.must(w.do(node("n0"), w.order(n0, by, "node n0 last", 0)))
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	w.must(w.do(admin, CoordinatorRemove{ID: "n0"}))
	w.restoredFrom(snapshotOf(t, w.s, w.history))
}

// TestAgentsLeaveRoomForOtherKeys: agents that rotate for years keep no coordinator
// from another key, nor an operator from recovering one.
func TestAgentsLeaveRoomForOtherKeys(t *testing.T) {
	w := keysWorld(t, "a")
	for i := w.s.keyOwners.size(); i < MaxKeyOwners-ownersKept; i++ {
		w.s.keyOwners.m[fmt.Sprint(i)] = ownerAgent + "a" // past the digest: it takes long
	}
	w.want(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", 0)), CodeOverloaded)
	w.want(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a2"), TimestampMs: w.wallMs}), CodeOverloaded)
	w.must(w.do(operator, w.recovery("a", "a3")))
	w.must(w.do(node("n0"), w.order(CoordinatorSubject("n0"), "node n0", "n0 b", 0)))
}

// TestKeyRequestsAreDone: by the older way to change keys too, and what is said of
// subjects that are gone goes with them.
func TestKeyRequestsAreDone(t *testing.T) {
	w := keysWorld(t, "a")
	w.must(w.do(operator, KeyRotate{Subject: "agent/a"}))
	w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a2"), TimestampMs: w.wallMs}))
	if st, _ := w.s.KeyStanding(AgentSubject("a"), w.s.ClockMs()); st.Asked != nil {
		t.Error("it is asked for what it did")
	}
	w.pass(1000)
	w.want(w.do(operator, w.recovery("a", "a2")), CodeConflict) // nothing would be revoked
	w.must(w.do(operator, w.recovery("a", "a3")))
	if res := w.do(operator, w.recovery("a", "a3")); !res.Repeated {
		t.Errorf("%+v", res)
	}
	w.must(w.do(admin, KeyScheduleSet{Subject: "coordinator/n1", Schedule: DefaultSchedule(SubjectCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	w.mark()
	if w.s.keySchedules.size() != 0 {
		t.Error("a schedule of nobody")
	}
}
