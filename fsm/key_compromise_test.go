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
	w.want(w.compromised("n1"), CodeConflict)
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n1", "n2"))) // given to it as well
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n2")))
	w.want(w.compromised("n1"), CodeConflict)
	if _, ok := w.s.Coordinator("n1"); !ok {
		t.Fatal("a removal that was refused took effect")
	}
	w.must(w.do(admin, KeyRevoke{Subject: "gossip", Key: PoolKeyName(poolKey("p2")).Fingerprint()}))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p3", "n0", "n2")))
	w.must(w.compromised("n1"))
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
	// Asked again, by whoever had no answer, it changes nothing and needs no other keys.
	if subjects := w.s.MustReplace("n1", w.s.ClockMs()); len(subjects) != 0 {
		t.Errorf("the keys of %v were made for the others", subjects)
	}
	before := len(recordsOf(t, w.history, StreamAdmin))
	if res := w.must(w.compromised("n1")); res.Ended != nil || len(recordsOf(t, w.history, StreamAdmin)) != before {
		t.Errorf("a removal that was made again ended %+v", res.Ended)
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
	w.must(w.compromised("n3")) // it held no CA key
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
		w.want(w.compromised("n1"), CodeConflict)
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
		w.must(w.compromised("n1"))
		before := len(recordsOf(t, w.history, StreamAdmin))
		w.must(w.compromised("n1"))
		if len(recordsOf(t, w.history, StreamAdmin)) != before {
			t.Error("nothing is left to end, and something was")
		}
		w.mark()
	}
	w := left(sharedWorld(t))
	again(w)
	states(w, KeyRevoked, KeyActive)

	w = left(sharedWorld(t))
	w.switchTo("gossip", PoolKeyName(poolKey("p2")).Fingerprint())
	w.switchTo("ca", crypto.PublicKey(crypto.Sum([]byte("ca 2"))).Fingerprint())
	states(w, KeyRetiring, KeyActive)
	if subjects := w.s.MustReplace("n1", w.s.ClockMs()); len(subjects) != 0 {
		t.Errorf("it never had the keys in use of %v", subjects)
	}
	again(w)
	states(w, KeyRevoked, KeyActive)
}

// TestSharedKeysBeginWhenMostHoldThem: not before they are to, nor on the word of one.
func TestSharedKeysBeginWhenMostHoldThem(t *testing.T) {
	w := sharedWorld(t)
	b := sharedPoolKey("p1", "p2", "n0", "n1")
	b.NotBeforeMs = w.wallMs + 60_000
	w.must(w.do(node("n0"), b))
	second := b.Public.Fingerprint()
	ready := func(id string) Result { return w.do(node(id), KeyReady{Subject: "gossip", Key: second}) }
	w.must(ready("n0"))
	w.pass(60_000)
	w.want(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: second}), CodeConflict)
	late := atLevel(nodeOf("n3", RoleCoordinator))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: late}))
	w.must(ready("n3")) // it fetched it
	w.want(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: second}), CodeConflict)
	w.must(ready("n1"))
	w.must(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: second}))

	w.must(w.do(node("n0"), sharedPoolKey("p2", "p3", "n0", "n1", "n2", "n3")))
	third := PoolKeyName(poolKey("p3")).Fingerprint()
	for _, id := range []string{"n0", "n1", "n2", "n3"} {
		w.must(w.do(node(id), KeyReady{Subject: "gossip", Key: third}))
	}
	w.must(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: third}))
	b = sharedPoolKey("p3", "p4", "n0", "n1", "n2")
	b.NotBeforeMs = w.wallMs + 60_000
	w.must(w.do(node("n0"), b))
	w.must(w.do(node("n0"), KeyReady{Subject: "gossip", Key: b.Public.Fingerprint()}))
	w.must(w.do(node("n1"), KeyReady{Subject: "gossip", Key: b.Public.Fingerprint()}))
	w.must(w.do(node("n2"), KeyReady{Subject: "gossip", Key: b.Public.Fingerprint()}))
	w.want(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: b.Public.Fingerprint()}), CodeConflict)
	w.pass(60_000)
	w.must(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: b.Public.Fingerprint()}))
}

// TestP5CompromisedNodeMakesNoSuccessor: what it prepared itself, or said that it
// holds, does not come after its own keys; nor does what the leader did not name.
func TestP5CompromisedNodeMakesNoSuccessor(t *testing.T) {
	w := sharedWorld(t)
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n2")))
	w.must(w.do(node("n1"), sharedPoolKey("p1", "p2", "n0", "n2")))
	w.want(w.compromised("n1"), CodeConflict)
	for _, ref := range w.s.InTheWay(Subject{Kind: SubjectGossip}, w.s.ClockMs()) {
		w.must(w.do(admin, KeyRevoke{Subject: "gossip", Key: ref}))
	}
	third := sharedPoolKey("p1", "p3", "n0", "n2")
	third.Without = "n1"
	w.must(w.do(node("n0"), third))
	w.want(w.do(node("n1"), KeyReady{Subject: "gossip", Key: PoolKeyName(poolKey("p3")).Fingerprint()}), CodeForbidden)
	w.want(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true, Next: []KeyRef{PoolKeyName(poolKey("p3")).Fingerprint()}}), CodeConflict)
	named, err := New(admin, CoordinatorRemove{ID: "n1", Next: []KeyRef{{1}}})
	if err != nil || LevelOf(named) != LevelKeys {
		t.Errorf("an older binary would stop at level %d, %v", LevelOf(named), err)
	}
	res := w.must(w.compromised("n1"))
	if res.Ended == nil || len(res.Ended.Keys) != 2 || res.Ended.JoinTokens == 0 {
		t.Errorf("the answer says %+v", res.Ended)
	}
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: atLevel(nodeOf("n3", RoleCoordinator))}), CodeUnauthorized) // it names the CA that was revoked
	w.mark()
}

// TestFullRingKeepsNoCompromisedNode: the oldest key makes room.
func TestFullRingKeepsNoCompromisedNode(t *testing.T) {
	w, ca := sharedWorld(t), Subject{Kind: SubjectCA}
	have := []byte("ca")
	for i := range MaxRingKeys - 1 {
		next := []byte{'c', 'a', byte('0' + i)}
		w.must(w.do(node("n1"), sharedCA(have, next, "n0", "n1", "n2")))
		w.switchTo("ca", crypto.PublicKey(crypto.Sum(next)).Fingerprint())
		have = next
	}
	w.want(w.do(node("n0"), sharedCA(have, []byte("last"), "n0", "n2")), CodeOverloaded)
	for _, ref := range w.s.InTheWay(ca, w.s.ClockMs()) {
		w.must(w.do(admin, KeyRevoke{Subject: "ca", Key: ref}))
	}
	w.must(w.do(node("n0"), sharedCA(have, []byte("last"), "n0", "n2")))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2")))
	w.must(w.compromised("n1"))
}

// TestP5LeaverKnowsWhatCameBeforeItLeft: what was taken up while it was a member it may
// know, whatever became of its signing keys before; what came later it does not.
func TestP5LeaverKnowsWhatCameBeforeItLeft(t *testing.T) {
	w := sharedWorld(t)
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/n1", Key: keyRef("node n1")}))
	w.pass(1_000)
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0")))
	w.switchOf("p2", "n0", "n2")
	res := w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	if gone, _ := w.s.Removal("n1"); gone.Index != res.Index {
		t.Errorf("it was removed at %d, on record is %d", res.Index, gone.Index)
	}
	if got := w.s.MustReplace("n1", w.s.ClockMs()); len(got) != 2 {
		t.Errorf("to be replaced is %v", got)
	}
	w.must(w.do(node("n0"), sharedPoolKey("p2", "p3", "n0")))
	w.switchOf("p3", "n0", "n2")
	if got := w.s.MustReplace("n1", w.s.ClockMs()); len(got) != 1 || got[0].Kind != SubjectCA {
		t.Errorf("a gossip key that came after it left is to be replaced too: %v", got)
	}
}

// switchOf has some members say that they hold a pool key, and switches to it.
func (w *world) switchOf(name string, holders ...string) {
	w.t.Helper()
	ref := PoolKeyName(poolKey(name)).Fingerprint()
	for _, id := range holders {
		w.do(node(id), KeyReady{Subject: "gossip", Key: ref})
	}
	w.must(w.do(node("n0"), KeySwitch{Subject: "gossip", Key: ref}))
}

// TestRevokedCAVoidsItsTokens: those that name it open nothing any more; a next CA that
// never was in force is named by none.
func TestRevokedCAVoidsItsTokens(t *testing.T) {
	w := sharedWorld(t)
	second := crypto.PublicKey(crypto.Sum([]byte("ca 2"))).Fingerprint()
	state := func(id string) string { tok, _ := w.s.Token(id); return tok.State(w.s.ClockMs()) }
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n1", "n2")))
	if res := w.must(w.do(admin, KeyRevoke{Subject: "ca", Key: second})); res.Ended != nil || state(joiner.TokenID) != "active" {
		t.Errorf("%+v", res.Ended)
	}
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 3"), "n0", "n1", "n2")))
	res := w.must(w.do(admin, KeyRevoke{Subject: "ca", Key: crypto.PublicKey(crypto.Sum([]byte("ca"))).Fingerprint(), Reason: "stolen"}))
	if res.Ended == nil || res.Ended.JoinTokens == 0 || state(joiner.TokenID) != "revoked" || state(enroller.TokenID) != "revoked" || state(admin.TokenID) != "active" {
		t.Errorf("%+v, %s, %s, %s", res.Ended, state(joiner.TokenID), state(enroller.TokenID), state(admin.TokenID))
	}
}

// TestRemovedObserverKnewNoCA: what a node knew is remembered with its removal.
func TestRemovedObserverKnewNoCA(t *testing.T) {
	w := sharedWorld(t)
	w.must(w.do(Actor{TokenID: string(RoleObserver)}, CoordinatorJoin{Coordinator: atLevel(nodeOf("n3", RoleObserver))}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n3"}))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n1", "n2")))
	w.must(w.compromised("n3"))
	if ring, _ := w.s.KeyRing(Subject{Kind: SubjectCA}); ring.StateOf(0, w.s.ClockMs()) != KeyActive {
		t.Error("the CA went with an observer")
	}
}
