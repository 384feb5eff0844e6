package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// wantSound holds a state to its own snapshot, to the digest that it keeps as rows change, and to its rules.
func wantSound(t *testing.T, w *world) {
	t.Helper()
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if back.Digest() != w.s.Digest() {
		t.Error("the digest is not that of the contents")
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestSigningKeyTakesAllThatItOrdered: a revoked signing key that ordered two TLS keys takes both, and what the state says of itself stays true.
func TestSigningKeyTakesAllThatItOrdered(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", 0)))
	w.pass(RekeyPauseMs)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 b", "t0 c", w.wallMs+keyDayMs)))
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "stolen"}))
	wantSound(t, w)
}

// TestSuccessorsOfAKeyThatSignedForTheNext: a key without a predecessor was ordered by the one that signed for it.
func TestSuccessorsOfAKeyThatSignedForTheNext(t *testing.T) {
	w := tlsWorld(t)
	revoke := KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "stolen"}
	w.must(w.do(admin, revoke))
	w.must(w.do(node("t0"), w.orphanOrder("t0", "node t0", "t0 second")))
	revoke.WithSuccessors = true
	res := w.must(w.do(admin, revoke))
	n, _ := w.s.Coordinator("t0")
	if res.Ended == nil || n.Ring()[1].RevokedAt == 0 {
		t.Errorf("%+v, ended %+v", n.Ring(), res.Ended)
	}
}

// TestNameOfATLSKeyTakesNobodysKey: who joins with the bytes of another's public key as the name of its TLS key does not get that bound.
func TestNameOfATLSKeyTakesNobodysKey(t *testing.T) {
	w := keysWorld(t, "a")
	n := nodeOf("t0", RoleCoordinator)
	n.TLSKey, n.Level = crypto.Hash(publicKey("victim")), LevelKeys
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n}))
	w.enroll("victim")
	w.pass(RekeyPauseMs)
	b := w.tlsOrder("t0", "node t0", "x", "t0 b", 0)
	b.By = publicKey("victim")
	w.must(w.do(node("t0"), b))
	wantSound(t, w)
}
