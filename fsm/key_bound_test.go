package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestP5RevokedTLSKeyNeverComesBack: not after it left the ring, nor with another node,
// nor with one that is removed by then.
func TestP5RevokedTLSKeyNeverComesBack(t *testing.T) {
	w := tlsWorld(t)
	by := "t0"
	for i := range MaxRingKeys + 2 {
		next := fmt.Sprint("tls ", i)
		w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", by, next, 0)))
		if i > 0 {
			w.must(w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey(by).Fingerprint()}))
		}
		by = next
		w.jump(w.wallMs + 3*keyDayMs)
	}
	if r, _ := w.s.KeyRing(CertificateSubject("t0")); r.at(tlsKey("t0").Fingerprint()) >= 0 || r.at(tlsKey("tls 0").Fingerprint()) >= 0 {
		t.Fatal("the ring has all of them: this shows nothing")
	}
	again := func(name string) {
		t.Helper()
		w.want(w.do(node("t1"), w.tlsOrder("t1", "node t1", "t1", name, 0)), CodeConflict)
		n := nodeOf("n9", RoleCoordinator)
		n.Level, n.TLSKey = LevelKeys, crypto.Hash(tlsKey(name))
		if res := w.do(joiner, CoordinatorJoin{Coordinator: n}); res.Code != CodeConflict || res.Field != "tls_key" {
			t.Errorf("a join with %s: %+v", name, res)
		}
	}
	w.want(w.do(node("t0"), w.tlsOrder("t0", "node t0", by, "tls 0", 0)), CodeConflict)
	w.want(w.do(node("t0"), w.tlsOrder("t0", "node t0", by, "t0", 0)), CodeConflict)
	again("tls 0")
	w.must(w.do(admin, CoordinatorRemove{ID: "t0"}))
	again("tls 0")
	again("t0")
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if back.Digest() != w.s.Digest() || !back.HadTLSKey(crypto.Hash(tlsKey("tls 0"))) {
		t.Error("a snapshot forgets it")
	}
}

// TestP5SharedKeysNeverComeBack: a pool key that left the ring is not taken again.
func TestP5SharedKeysNeverComeBack(t *testing.T) {
	w := keysWorld(t)
	w.must(w.do(node("n0"), sharedPoolKey("", "p0")))
	for i := range MaxRingKeys + 1 {
		was, next := fmt.Sprint("p", i), fmt.Sprint("p", i+1)
		w.must(w.do(node("n0"), sharedPoolKey(was, next)))
		w.switchTo("gossip", PoolKeyName(poolKey(next)).Fingerprint())
		w.jump(w.wallMs + 2*keyDayMs)
	}
	w.want(w.do(node("n0"), sharedPoolKey(fmt.Sprint("p", MaxRingKeys+1), "p0")), CodeConflict)
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestRestoreKeepsTheNamesOfThePresent: members and what they share are the present's,
// and so is which keys they had.
func TestRestoreKeepsTheNamesOfThePresent(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(node("n0"), sharedPoolKey("", "p0")))
	older := copyState(t, w.s)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", 0)))
	w.must(w.do(node("n0"), sharedPoolKey("p0", "p1")))
	for name, tc := range map[string]struct {
		backup, present *State
		had             bool
	}{
		"an older backup": {older, w.s, true},
		"a newer backup":  {w.s, older, false},
	} {
		s, _, err := Restored(tc.backup, tc.present, Recovery{Action: "restore", AtMs: w.wallMs})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Validate(0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.HadTLSKey(crypto.Hash(tlsKey("t0 b"))) != tc.had || s.hadName(PoolKeyName(poolKey("p1"))) != tc.had {
			t.Errorf("%s: the names are not the present's", name)
		}
	}
	ref := tlsKey("t0 b").Fingerprint()
	w.s.keyOwners.put(string(ref[:]), ownerTLS+"t1")
	if err := w.s.Validate(0); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("another's name: %v", err)
	}
}
