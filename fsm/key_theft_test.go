package fsm

import (
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestP5TLSThiefCannotBecomeTheNode: who speaks as a node by its TLS key alone brings no
// signing key for it, whatever was revoked; the node does, with one that it had.
func TestP5TLSThiefCannotBecomeTheNode(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "the machine was broken into"}))
	nobody := KeyPrepare{Subject: "coordinator/t0", Public: publicKey("thief"), SignedMs: w.wallMs}
	nobody.Proof = nobody.Succession(w.s.Meta().ClusterID).Prove(privateKey("thief"))
	w.want(w.do(node("t0"), nobody), CodeInvalidSignature)
	own := w.orphanOrder("t0", "thief", "thief")
	w.want(w.do(node("t0"), own), CodeInvalidSignature)
	w.want(w.do(node("t0"), w.orphanOrder("t0", "node t1", "thief")), CodeInvalidSignature)
	own.Signer = publicKey("node t0") // its own signature under another name
	if own.Verify(w.s.Meta().ClusterID) == nil || nobody.Verify(w.s.Meta().ClusterID) == nil {
		t.Error("an order that the node did not sign verifies")
	}
	w.want(w.do(node("t1"), w.orphanOrder("t0", "node t0", "t0 second")), CodeForbidden)
	good := w.orphanOrder("t0", "node t0", "t0 second")
	if err := good.Verify(w.s.Meta().ClusterID); err != nil {
		t.Fatal(err)
	}
	w.must(w.do(node("t0"), good))
	n, _ := w.s.Coordinator("t0")
	if k := n.Keys[1]; n.KeyAt(w.s.ClockMs()) != publicKey("t0 second") || k.Succession == nil || k.Succession.Signer != publicKey("node t0") || !k.Succession.Predecessor.IsZero() || !k.orderedBy(publicKey("node t0")) || k.orderedBy(publicKey("node t1")) {
		t.Errorf("%+v", n.Keys)
	}
	w.pass(1_000)
	w.want(w.do(node("t0"), w.orphanOrder("t0", "node t0", "again")), CodeInvalid) // a key verifies
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestP5HastenedTLSKeyEndsWithItsOrderer: a thief of all keys announced a TLS key. The
// revocation of the older one begins it; that of the signing key ends it none the less.
func TestP5HastenedTLSKeyEndsWithItsOrderer(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "thief", w.wallMs+6*keyDayMs)))
	w.must(w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey("t0").Fingerprint(), Reason: "stolen"}))
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "stolen"}))
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRevoked, KeyRevoked}) {
		t.Errorf("%v", got)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestP5TLSKeysInForceEndWithTheirOrderer: those that the revoked signing key ordered
// end if another is left, which counts on; the only one of a node stays.
func TestP5TLSKeysInForceEndWithTheirOrderer(t *testing.T) {
	ordered := func() *world {
		w := tlsWorld(t)
		w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", 0)))
		return w
	}
	revoke := KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "stolen"}
	w, later := ordered(), ordered()
	w.must(w.do(admin, revoke))
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyActive, KeyRevoked}) {
		t.Errorf("in the overlap: %v", got)
	}
	if n, _ := w.s.Coordinator("t0"); n.TLSRing()[0].NotAfterMs != 0 {
		t.Error("what is left ends")
	}
	later.jump(later.wallMs + 3*keyDayMs)
	later.must(later.do(admin, revoke))
	if got := later.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRetired, KeyActive}) {
		t.Errorf("after it: %v", got)
	}
}

// TestP5RevokedInTheOverlapWhileAway: a node that is away when its newest TLS key is
// revoked has the older one until it can say what comes next.
func TestP5RevokedInTheOverlapWhileAway(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", 0)))
	ring, _ := w.s.KeyRing(CertificateSubject("t0"))
	w.jump(ring[0].NotAfterMs - 60_000)
	w.must(w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey("t0 b").Fingerprint(), Reason: "copied"}))
	w.jump(w.wallMs + 30*keyDayMs)
	st, _ := w.s.KeyStanding(CertificateSubject("t0"), w.s.ClockMs())
	if st.Active != 0 || st.Asked == nil || !st.Due(w.s.ClockMs()) {
		t.Fatalf("a month later: %+v", st)
	}
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 c", 0)))
	w.jump(w.wallMs + 3*keyDayMs)
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRetired, KeyRevoked, KeyActive}) {
		t.Errorf("it came back: %v", got)
	}
	if n, _ := w.s.Coordinator("t0"); n.TLSKeyAt(w.s.ClockMs()) != crypto.Hash(tlsKey("t0 c")) {
		t.Error("its next key is not the one")
	}
}

// TestAskedRotationWaitsForNoPause: both TLS keys were copied, so the second is followed
// and revoked at once too. Without being asked a key begins an hour after the last one.
func TestAskedRotationWaitsForNoPause(t *testing.T) {
	w := tlsWorld(t)
	revoke := func(name string) Result {
		return w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey(name).Fingerprint(), Reason: "copied"})
	}
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", w.wallMs+keyHourMs)))
	w.must(revoke("t0"))
	w.pass(1_000)
	w.want(revoke("t0 b"), CodeConflict)
	w.want(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 b", "t0 c", 0)), CodeOverloaded)
	w.must(w.do(admin, KeyRotate{Subject: "certificate/t0"}))
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 b", "t0 c", 0)))
	w.must(revoke("t0 b"))
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRevoked, KeyRevoked, KeyActive}) {
		t.Errorf("%v", got)
	}
	w.pass(1_000)
	w.want(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 c", "t0 d", w.wallMs+keyHourMs-2_000)), CodeOverloaded)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 c", "t0 d", w.wallMs+keyHourMs)))
}

// TestHourlyScheduleIsKept: what a schedule of an hour asks for half an hour ahead is
// taken then, and no alarm is raised.
func TestHourlyScheduleIsKept(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(admin, KeyScheduleSet{Subject: "certificate", Schedule: Schedule{PeriodMs: keyHourMs, OverlapMs: keyHourMs / 2, LeadMs: keyHourMs / 2}}))
	of, by := CertificateSubject("t0"), "t0"
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", by, "k", 0)))
	by = "k"
	for i := range 3 {
		w.pass(keyHourMs / 2)
		st, _ := w.s.KeyStanding(of, w.s.ClockMs())
		if !st.Due(w.s.ClockMs()) {
			t.Fatalf("hour %d: nobody asks: %+v", i, st)
		}
		next := by + "k"
		w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", by, next, st.DueMs)))
		w.pass(keyHourMs / 2)
		if st, _ = w.s.KeyStanding(of, w.s.ClockMs()); st.Expired(w.s.ClockMs()) || st.Overdue(w.s.ClockMs()) {
			t.Fatalf("hour %d: an alarm: %+v", i, st)
		}
		by = next
	}
}
