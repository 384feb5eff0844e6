package fsm

import (
	"math"
	"testing"
)

// TestNoOrderOfNoTime: one member's order must not spoil every backup to come.
func TestNoOrderOfNoTime(t *testing.T) {
	w := keysWorld(t, "a")
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: withTLS(nodeOf("t0", RoleCoordinator))}))
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	for _, at := range []int64{-5, math.MinInt64, lastTimeMs + 1, math.MaxInt64} {
		w.want(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", at)), CodeInvalid)
		w.want(w.do(node("n1"), w.order(CoordinatorSubject("n1"), "node n1", "n1 b", at)), CodeInvalid)
		w.want(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", at)), CodeInvalid)
		w.want(w.do(admin, w.order(Subject{SubjectManifest, "m"}, "signer m", "m2", at)), CodeInvalid)
		begun, signed := sharedPoolKey("p1", "p2", "n0"), sharedPoolKey("p1", "p2", "n0")
		begun.NotBeforeMs, signed.SignedMs = at, at
		w.want(w.do(node("n0"), begun), CodeInvalid)
		w.want(w.do(node("n0"), signed), CodeInvalid)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestWaitingKeyMovesWithTheClock: a next shared key that was announced by a clock which
// was set back begins after the same time as before, and is late after it.
func TestWaitingKeyMovesWithTheClock(t *testing.T) {
	w := keysWorld(t)
	gossip := Subject{Kind: SubjectGossip}
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	right := w.wallMs
	w.jump(right + 400*keyDayMs)
	next := sharedPoolKey("p1", "p2", "n0", "n1")
	next.NotBeforeMs = w.wallMs + keyDayMs
	w.must(w.do(node("n0"), next))
	ref := next.Public.Fingerprint()
	w.must(w.setBack(right))
	for _, id := range []string{"n0", "n1"} {
		w.must(w.do(node(id), KeyReady{Subject: "gossip", Key: ref}))
	}
	w.jump(right + keyDayMs - 1)
	w.want(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: ref}), CodeConflict)
	for aheadMs, want := range map[int64]bool{keyDayMs: false, 3 * keyDayMs: true} {
		if st, _ := w.s.KeyStanding(gossip, w.s.ClockMs()); st.Overdue(w.s.ClockMs()+aheadMs) != want {
			t.Errorf("overdue in %d days: %t", aheadMs/keyDayMs, !want)
		}
	}
	w.jump(right + keyDayMs)
	w.must(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: ref}))
	checkTold(t, w.s, w.history, gossip)
}

// TestLeftoverOfARemovalMakesPlace: a next key that was made without a member which
// stayed, and that most do not hold, stops no rotation for ever.
func TestLeftoverOfARemovalMakesPlace(t *testing.T) {
	w := keysWorld(t)
	gossip := Subject{Kind: SubjectGossip}
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	left := sharedPoolKey("p1", "left", "n0")
	left.Without = "n1"
	w.must(w.do(node("n0"), left))
	w.must(w.do(node("n0"), KeyReady{Subject: "gossip", Key: left.Public.Fingerprint()}))
	next := sharedPoolKey("p1", "p2", "n0", "n1")
	w.pass(leftoverMs)
	w.want(w.do(node("n0"), next), CodeConflict) // the removal may be under way
	w.pass(1)
	w.must(w.do(node("n0"), next))
	w.switchTo("gossip", next.Public.Fingerprint())
	ring, _ := w.s.KeyRing(gossip)
	if i := ring.at(left.Public.Fingerprint()); ring.StateOf(i, w.s.ClockMs()) != KeyRevoked || activeIn(w.s, gossip, 0) != next.Public {
		t.Errorf("%+v", ring)
	}
	checkTold(t, w.s, w.history, gossip)
	usual := sharedPoolKey("p2", "p3", "n0") // no leftover, however long it waits
	w.must(w.do(node("n0"), usual))
	w.pass(leftoverMs + 1)
	w.want(w.do(node("n0"), sharedPoolKey("p2", "p4", "n0")), CodeConflict)
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}
