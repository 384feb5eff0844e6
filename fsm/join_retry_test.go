package fsm

import "testing"

// retryWorld is a cluster of n0 and n1 at a level, and the join of n2 under a token of an
// hour that was made through n1.
func retryWorld(t testing.TB, level uint32) (w *world, again func() Result) {
	w = levelWorld(t, level)
	once := TokenCreate{ID: "once", Role: RoleCoordinator, Uses: 1, ExpiresMs: w.wallMs + 3_600_000}
	w.must(w.do(Actor{TokenID: "admin", Via: "n1"}, once))
	n2 := nodeOf("n2", RoleCoordinator)
	n2.Level = LevelSupported
	again = func() Result { return w.do(Actor{TokenID: "once"}, CoordinatorJoin{Coordinator: n2}) }
	if res := w.must(again()); res.Repeated {
		t.Fatal("the first join repeats one")
	}
	return w, again
}

// TestJoinIsRepeatedWhileItsTokenLasts: an answer that was lost is asked for again under the
// token that was used up, and no longer than the token would have opened a join.
func TestJoinIsRepeatedWhileItsTokenLasts(t *testing.T) {
	for level, ends := range map[uint32]bool{LevelCheckpoints: false, LevelKeys: true} {
		w, again := retryWorld(t, level)
		if !w.must(again()).Repeated {
			t.Fatalf("level %d: asked again at once", level)
		}
		w.pass(3_600_001)
		if res := again(); res.Repeated == ends {
			t.Errorf("level %d: asked again when the token is over: %+v", level, res)
		}
	}
}

// TestUsedJoinTokensEnd: with the CA that they pin, and with a compromised node that they were
// made through, since they open the answer to a join once more.
func TestUsedJoinTokensEnd(t *testing.T) {
	for what, end := range map[string]func(*world) Result{
		"the CA is revoked": func(w *world) Result {
			w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
			w.must(w.do(node("n0"), sharedCA(nil, []byte("ca"))))
			w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n1", "n2")))
			ring, _ := w.s.KeyRing(Subject{Kind: SubjectCA})
			return w.do(admin, KeyRevoke{Subject: "ca", Key: ring[0].Public.Fingerprint()})
		},
		"its maker is compromised": func(w *world) Result {
			w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
			w.must(w.do(node("n0"), sharedCA(nil, []byte("ca"))))
			w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2")))
			w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0", "n2")))
			return w.compromised("n1")
		},
	} {
		w, again := retryWorld(t, LevelKeys)
		w.must(end(w))
		if once, _ := w.s.Token("once"); once.State(w.s.ClockMs()) != "revoked" {
			t.Errorf("%s: the token is %s", what, once.State(w.s.ClockMs()))
		}
		if res := again(); res.OK() {
			t.Errorf("%s: the join is answered again: %+v", what, res)
		}
		restored(t, snapshotOf(t, w.s, w.history))
	}
}

// TestSharedWithAll: nothing is new to anybody until a member left and a key was replaced.
func TestSharedWithAll(t *testing.T) {
	w := sharedWorld(t)
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	if !w.s.SharedWithAll() {
		t.Error("it knows the keys that were in use when it left")
	}
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n2")))
	if w.s.SharedWithAll() {
		t.Error("the next key is new to who left")
	}
	w = sharedWorld(t)
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n1", "n2")))
	if !w.s.SharedWithAll() {
		t.Error("nobody left")
	}
}
