package fsm

import (
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// sharedWorld is a keysWorld of three coordinators whose shared keys are on record.
func sharedWorld(t testing.TB) *world {
	w := keysWorld(t)
	n2 := nodeOf("n2", RoleCoordinator)
	n2.Level = LevelKeys
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n2}))
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	w.must(w.do(node("n0"), sharedCA(nil, []byte("ca"))))
	return w
}

// TestP5CompromisedNodeLosesWhatItHeld: from the index on at which it is removed
// neither its gossip key nor its CA counts, and others do.
func TestP5CompromisedNodeLosesWhatItHeld(t *testing.T) {
	w := sharedWorld(t)
	w.want(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}), CodeConflict)
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n1", "n2"))) // given to it as well
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n2")))
	w.want(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}), CodeConflict)
	if _, ok := w.s.Coordinator("n1"); !ok {
		t.Fatal("a removal that was refused took effect")
	}
	w.must(w.do(admin, KeyRevoke{Subject: "gossip", Key: PoolKeyName(poolKey("p2")).Fingerprint()}))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p3", "n0", "n2")))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
	for of, want := range map[Subject]crypto.PublicKey{{Kind: SubjectGossip}: PoolKeyName(poolKey("p3")), {Kind: SubjectCA}: crypto.PublicKey(crypto.Sum([]byte("ca 2")))} {
		ring, _ := w.s.KeyRing(of)
		for i, k := range ring {
			if state := ring.StateOf(i, w.s.ClockMs()); k.Public == want && state != KeyActive || k.Public != want && (state != KeyRevoked || k.RevokedAt == 0) {
				t.Errorf("%s: key %s is %s", of, k.Public.KeyID(), state)
			}
		}
	}
	if certs := w.s.CACerts(w.s.ClockMs()); len(certs) != 1 || string(certs[0]) != "ca 2" {
		t.Errorf("CAs that count: %q", certs)
	}
	w.mark()
}

// TestRemovalWithoutCompromiseKeepsKeys: nor does one of below LevelKeys touch any.
func TestRemovalWithoutCompromiseKeepsKeys(t *testing.T) {
	w := sharedWorld(t)
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	if ring, _ := w.s.KeyRing(Subject{Kind: SubjectGossip}); len(ring) != 1 || ring[0].RevokedAt != 0 {
		t.Errorf("%+v", ring)
	}
	observer := nodeOf("n3", RoleObserver)
	observer.Level = LevelKeys
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: observer}))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2")))
	w.must(w.do(admin, CoordinatorRemove{ID: "n3", Compromised: true})) // it held no CA key
	old := genesisWorld(t)
	old.must(old.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	old.must(old.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
}

// TestP5CompromisedAfterItLeft: a node that left otherwise, by a removal that it asked
// for itself perhaps, takes its keys with it all the same, and nothing that came later.
func TestP5CompromisedAfterItLeft(t *testing.T) {
	gossip := Subject{Kind: SubjectGossip}
	left := func(w *world) *world {
		w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
		w.want(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}), CodeConflict)
		if gone, _ := w.s.Removal("n1"); gone.Compromised {
			t.Fatal("a removal that was refused took effect")
		}
		w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2")))
		w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n2")))
		return w
	}
	states := func(w *world, want ...KeyState) {
		t.Helper()
		ring, _ := w.s.KeyRing(gossip)
		for i, state := range want {
			if got := ring.StateOf(i, w.s.ClockMs()); len(ring) != len(want) || got != state {
				t.Errorf("key %d of %d is %s, want %s", i, len(ring), got, state)
			}
		}
	}
	again := func(w *world) {
		t.Helper()
		w.must(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
		before := len(recordsOf(t, w.history, StreamAdmin))
		w.must(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
		if len(recordsOf(t, w.history, StreamAdmin)) != before {
			t.Error("nothing is left to end, and something was")
		}
		w.mark()
	}
	w := left(sharedWorld(t))
	again(w)
	states(w, KeyRevoked, KeyActive)

	w = left(sharedWorld(t))
	for _, key := range []KeySwitch{{Subject: "gossip", Key: PoolKeyName(poolKey("p2")).Fingerprint()}, {Subject: "ca", Key: KeyRef(crypto.PublicKey(crypto.Sum([]byte("ca 2"))).Fingerprint())}} {
		w.must(w.do(node("n0"), key))
	}
	states(w, KeyRetiring, KeyActive)
	if subjects := w.s.MustReplace("n1", w.s.ClockMs()); len(subjects) != 0 {
		t.Errorf("it never had the keys in use of %v", subjects)
	}
	again(w)
	states(w, KeyRevoked, KeyActive)
}
