package fsm

import (
	"fmt"
	"testing"
)

// TestP5RevocationTakesWhatTheKeyAnnounced: whoever stole a key may have announced the
// next one, so that never verifies, and the owner has its place back.
func TestP5RevocationTakesWhatTheKeyAnnounced(t *testing.T) {
	for of, actor := range map[Subject]Actor{AgentSubject("a"): {}, CoordinatorSubject("n0"): node("n0"), {SubjectManifest, "m"}: admin} {
		w := keysWorld(t, "a")
		have := map[SubjectKind]string{SubjectAgent: "a", SubjectCoordinator: "node n0", SubjectManifest: "signer m"}[of.Kind]
		w.must(w.do(actor, w.order(of, have, "thief", w.wallMs+60_000)))
		w.must(w.do(admin, KeyRevoke{Subject: of.String(), Key: keyRef(have), Reason: "stolen"}))
		ring, _ := w.s.KeyRing(of)
		if state := ring.StateOf(1, w.s.ClockMs()+keyDayMs); state != KeyRevoked || ring[1].RevokedAt == 0 {
			t.Errorf("%s: the key that the stolen one announced is %s", of, state)
		}
		if st, _ := w.s.KeyStanding(of, w.s.ClockMs()); (st.Asked != nil) != (of.Kind == SubjectCoordinator) {
			t.Errorf("%s: asked %+v", of, st.Asked)
		}
	}
}

// TestP5WindowsOutliveTheirSuccessor: a retiring key keeps its announced end when its
// successor is revoked, and its owner is asked for another; a key whose successor never
// began has no end, as before.
func TestP5WindowsOutliveTheirSuccessor(t *testing.T) {
	a := AgentSubject("a")
	w := keysWorld(t, "a")
	w.must(w.do(Actor{}, w.order(a, "a", "a2", 0)))
	was, _ := w.s.Agent("a")
	w.pass(RekeyPauseMs)
	w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a2"), Reason: "stolen"}))
	st, _ := w.s.KeyStanding(a, w.s.ClockMs())
	if st.Active != 0 || st.Ring[0].NotAfterMs != was.Keys[0].NotAfterMs || !st.Due(w.s.ClockMs()) {
		t.Errorf("announced to end at %d: %+v", was.Keys[0].NotAfterMs, st)
	}
	w.must(w.do(Actor{}, w.order(a, "a", "a3", w.wallMs+1000)))
	w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a3")}))
	if is, _ := w.s.Agent("a"); is.Keys[0].NotAfterMs != was.Keys[0].NotAfterMs {
		t.Error("a successor that never began took the end of another's predecessor with it")
	}

	w = keysWorld(t, "a")
	w.must(w.do(Actor{}, w.order(a, "a", "a2", w.wallMs+60_000)))
	w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a2"), Reason: "a mistake"}))
	if is, _ := w.s.Agent("a"); is.Keys[0].NotAfterMs != 0 {
		t.Errorf("its successor never began, it ends at %d", is.Keys[0].NotAfterMs)
	}
}

// TestSharedKeyIsRevokedOnlyWithANext: nobody could go on else.
func TestSharedKeyIsRevokedOnlyWithANext(t *testing.T) {
	w := sharedWorld(t)
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n1", "n2")))
	w.switchTo("gossip", PoolKeyName(poolKey("p2")).Fingerprint())
	second := KeyRevoke{Subject: "gossip", Key: PoolKeyName(poolKey("p2")).Fingerprint()}
	w.want(w.do(admin, second), CodeConflict) // the first only retires
	w.must(w.do(node("n0"), sharedPoolKey("p2", "p3", "n0", "n1", "n2")))
	w.must(w.do(admin, second))
	if ring, _ := w.s.KeyRing(Subject{Kind: SubjectGossip}); ring.StateOf(2, w.s.ClockMs()) != KeyActive {
		t.Errorf("%+v", ring)
	}
}

// TestKeysAreAnnouncedForDaysAtMost: a key announced for years would keep its owner
// from any other, and nobody would be told that it is late.
func TestKeysAreAnnouncedForDaysAtMost(t *testing.T) {
	a := AgentSubject("a")
	w := keysWorld(t, "a")
	w.want(w.do(Actor{}, w.order(a, "a", "a2", w.wallMs+MinAnnounceMs+1)), CodeInvalid)
	w.must(w.do(admin, KeyScheduleSet{Subject: "agent", Schedule: Schedule{PeriodMs: 2 * keyHourMs, OverlapMs: keyHourMs, LeadMs: keyHourMs}}))
	w.must(w.do(Actor{}, w.order(a, "a", "a2", w.wallMs+MinAnnounceMs)))
	for after, overdue := range map[int64]bool{keyHourMs: false, 3 * keyHourMs: true} {
		at := w.s.ClockMs() + after
		if st, _ := w.s.KeyStanding(a, at); st.DueMs == 0 || st.Overdue(at) != overdue || st.Due(at) {
			t.Errorf("%d ms later: overdue %t, %+v", after, st.Overdue(at), st)
		}
		if listed := len(w.s.AgentsDue(at)) == 1; listed != overdue {
			t.Errorf("%d ms later: listed %t", after, listed)
		}
	}
}

// TestRevocationsHaveRoomToAsk: whatever agents are asked for and never do.
func TestRevocationsHaveRoomToAsk(t *testing.T) {
	w := keysWorld(t, "a")
	for i := range MaxKeyRequests {
		w.s.keyRequests.put(fmt.Sprintf("agent/x%d", i), KeyRequest{AtMs: w.wallMs})
	}
	w.want(w.do(operator, KeyRotate{Subject: "agent/a"}), CodeOverloaded)
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/n1", Key: keyRef("node n1"), Reason: "stolen"}))
	if st, _ := w.s.KeyStanding(CoordinatorSubject("n1"), w.s.ClockMs()); st.Asked == nil {
		t.Error("the coordinator is not asked for its next key")
	}
	w.mark() // nobody has such agents
	w.must(w.do(operator, KeyRotate{Subject: "agent/a"}))
	w.jump(w.wallMs + KeyRequestMs + 1)
	w.mark()
	for of, asked := range map[Subject]bool{AgentSubject("a"): false, CoordinatorSubject("n1"): true} {
		if st, _ := w.s.KeyStanding(of, w.s.ClockMs()); (st.Asked != nil) != asked {
			t.Errorf("a month later %s is asked: %t", of, !asked)
		}
	}
}
