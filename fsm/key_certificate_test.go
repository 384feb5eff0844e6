package fsm

import (
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// tlsWorld is keysWorld with nodes t0 and t1 that have TLS keys of their names.
func tlsWorld(t testing.TB) *world {
	w := keysWorld(t, "a")
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: withTLS(nodeOf("t0", RoleCoordinator))}))
	w.must(w.do(Actor{TokenID: string(RoleObserver)}, CoordinatorJoin{Coordinator: withTLS(nodeOf("t1", RoleObserver))}))
	w.pass(RekeyPauseMs)
	return w
}

func (w *world) tlsStates(nodeID string) (out []KeyState) {
	n, _ := w.s.Coordinator(nodeID)
	for i := range n.TLSRing() {
		out = append(out, n.TLSRing().StateOf(i, w.s.ClockMs()))
	}
	return out
}

// TestP5CertificatesRotate: both keys verify in the overlap, and only then; the
// schedule asks every 180 days.
func TestP5CertificatesRotate(t *testing.T) {
	w := tlsWorld(t)
	for _, id := range []string{"t0", "t1"} {
		of := CertificateSubject(id)
		st, known := w.s.KeyStanding(of, w.s.ClockMs())
		if !known || st.Active != 0 || st.Due(w.s.ClockMs()) || !st.Due(st.AskMs) || st.DueMs-st.BeginMs != 180*keyDayMs || st.DueMs-st.AskMs != 7*keyDayMs {
			t.Fatalf("%s: %+v", of, st)
		}
		next := w.tlsOrder(id, "node "+id, id, id+" b", w.wallMs+60_000)
		w.must(w.do(node(id), next))
		if res := w.do(node(id), next); !res.OK() || !res.Repeated {
			t.Errorf("asked again: %+v", res)
		}
		if got := w.tlsStates(id); !slices.Equal(got, []KeyState{KeyActive, KeyNext}) {
			t.Errorf("%s announced: %v", of, got)
		}
	}
	w.pass(60_000)
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRetiring, KeyActive}) {
		t.Errorf("in the overlap: %v", got)
	}
	w.pass(2*keyDayMs + 1)
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRetired, KeyActive}) {
		t.Errorf("after the overlap: %v", got)
	}
	if n, _ := w.s.Coordinator("t0"); n.TLSKeyAt(w.s.ClockMs()) != crypto.Hash(tlsKey("t0 b")) || n.TLSKey != crypto.Hash(tlsKey("t0")) {
		t.Errorf("%+v", n)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestCertificateOrders: what an order for a TLS key may not say, and by whom.
func TestCertificateOrders(t *testing.T) {
	order := func(w *world) KeyPrepare { return w.tlsOrder("t0", "node t0", "t0", "t0 b", 0) }
	for name, tc := range map[string]struct {
		actor  Actor
		change func(w *world, b *KeyPrepare)
		want   Code
	}{
		"as it should be":    {node("t0"), func(*world, *KeyPrepare) {}, CodeOK},
		"by another node":    {node("n0"), func(*world, *KeyPrepare) {}, CodeForbidden},
		"by an admin":        {admin, func(*world, *KeyPrepare) {}, CodeForbidden},
		"no signer":          {node("t0"), func(_ *world, b *KeyPrepare) { b.Signer = crypto.PublicKey{} }, CodeInvalidSignature},
		"another's signer":   {node("t0"), func(_ *world, b *KeyPrepare) { b.Signer = publicKey("node n0") }, CodeInvalidSignature},
		"the thief's signer": {node("t0"), func(_ *world, b *KeyPrepare) { b.Signer = publicKey("thief") }, CodeInvalidSignature},
		"nobody's order":     {node("t0"), func(_ *world, b *KeyPrepare) { b.By, b.Order = crypto.PublicKey{}, nil }, CodeInvalid},
		"of another key":     {node("t0"), func(_ *world, b *KeyPrepare) { b.By = tlsKey("t1") }, CodeConflict},
		"a proof":            {node("t0"), func(_ *world, b *KeyPrepare) { b.Proof = b.Order }, CodeInvalid},
		"a shared key's signer": {node("n0"), func(w *world, b *KeyPrepare) {
			w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
			*b = sharedPoolKey("p1", "p2")
			b.Signer = publicKey("node n0")
		}, CodeInvalid},
		"its own key":        {node("t0"), func(_ *world, b *KeyPrepare) { b.Public = tlsKey("t0") }, CodeConflict},
		"another node's key": {node("t0"), func(_ *world, b *KeyPrepare) { b.Public = tlsKey("t1") }, CodeConflict},
		"a removed node's key": {node("t0"), func(w *world, b *KeyPrepare) {
			w.must(w.do(admin, CoordinatorRemove{ID: "t1"}))
			b.Public = tlsKey("t1")
		}, CodeConflict},
		"no key":    {node("t0"), func(_ *world, b *KeyPrepare) { b.Public = crypto.PublicKey{} }, CodeConflict},
		"old":       {node("t0"), func(_ *world, b *KeyPrepare) { b.SignedMs -= DefaultSkewMs + 1 }, CodeTimestampSkew},
		"far ahead": {node("t0"), func(w *world, b *KeyPrepare) { b.NotBeforeMs = w.wallMs + 8*keyDayMs }, CodeInvalid},
		"copies":    {node("t0"), func(_ *world, b *KeyPrepare) { b.Copies = []SealedCopy{{NodeID: "n0", Sealed: []byte("x")}} }, CodeInvalid},
		"a revoked signer": {node("t0"), func(w *world, _ *KeyPrepare) {
			w.must(w.do(admin, KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0")}))
		}, CodeInvalidSignature},
		"a signer of an agent's": {Actor{}, func(w *world, b *KeyPrepare) {
			*b = w.order(AgentSubject("a"), "a", "a2", 0)
			b.Signer = publicKey("a")
		}, CodeInvalidSignature},
	} {
		w := tlsWorld(t)
		b := order(w)
		tc.change(w, &b)
		if res := w.do(tc.actor, b); res.Code != tc.want {
			t.Errorf("%s: %+v, want %s", name, res, tc.want)
		}
	}
}

// TestCertificateOrderIsVerified: the signature is the signing key's, on this change.
func TestCertificateOrderIsVerified(t *testing.T) {
	w := tlsWorld(t)
	id := w.s.Meta().ClusterID
	good := w.tlsOrder("t0", "node t0", "t0", "t0 b", 0)
	if err := good.Verify(id); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b *KeyPrepare){
		"another signer":  func(b *KeyPrepare) { b.Signer = publicKey("node t1") },
		"another key":     func(b *KeyPrepare) { b.Public = tlsKey("thief") },
		"another subject": func(b *KeyPrepare) { b.Subject = "certificate/t1" },
		"another begin":   func(b *KeyPrepare) { b.NotBeforeMs = 1 },
		"no order":        func(b *KeyPrepare) { b.Order = nil },
	} {
		b := good
		if change(&b); b.Verify(id) == nil {
			t.Errorf("%s verifies", name)
		}
	}
}

// TestP5CertificateRevocation: it counts at its index; the next key, which others
// ordered, goes on at once; nobody is left without one.
func TestP5CertificateRevocation(t *testing.T) {
	revoke := func(w *world, name string) Result {
		return w.do(admin, KeyRevoke{Subject: "certificate/t0", Key: tlsKey(name).Fingerprint(), Reason: "copied"})
	}
	w := tlsWorld(t)
	if res := revoke(w, "t0"); res.Code != CodeConflict || !strings.Contains(res.Detail, "rotate first") || !strings.Contains(res.Detail, "peers remove t0") {
		t.Fatalf("the only key: %+v", res)
	}
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", w.wallMs+keyDayMs)))
	w.must(revoke(w, "t0"))
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRevoked, KeyActive}) {
		t.Errorf("the next one was announced: %v", got)
	}
	w.pass(RekeyPauseMs)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 b", "t0 c", 0)))
	w.pass(KeySettleMs)
	w.must(revoke(w, "t0 c"))
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyRevoked, KeyActive, KeyRevoked}) {
		t.Errorf("the newest in the overlap: %v", got)
	}
	if st, _ := w.s.KeyStanding(CertificateSubject("t0"), w.s.ClockMs()); st.Asked == nil || !st.Due(w.s.ClockMs()) {
		t.Error("nobody asks the node for another")
	}
	w.want(revoke(w, "t0 b"), CodeConflict)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0 b", "t0 d", w.wallMs+60_000)))
	w.must(revoke(w, "t0 d"))
	if got := w.tlsStates("t0"); got[1] != KeyActive {
		t.Errorf("the next one is taken back: %v", got)
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
}

// TestCertificateOrderedByAStolenSigningKey: with the signing key the next TLS key
// goes that it ordered.
func TestCertificateOrderedByAStolenSigningKey(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "thief", w.wallMs+60_000)))
	w.must(w.do(admin, KeyRevoke{Subject: "coordinator/t0", Key: keyRef("node t0"), Reason: "stolen"}))
	w.pass(keyDayMs)
	if got := w.tlsStates("t0"); !slices.Equal(got, []KeyState{KeyActive, KeyRevoked}) {
		t.Errorf("%v", got)
	}
	if n, _ := w.s.Coordinator("t0"); n.TLSRing()[0].NotAfterMs != 0 {
		t.Errorf("its successor never began, it ends at %d", n.TLSRing()[0].NotAfterMs)
	}
}

// TestCertificateOfWho: an edge has none that rotates, and neither has nobody.
func TestCertificateOfWho(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(Actor{TokenID: string(RoleEdge)}, edgeOf("e1")))
	for _, body := range []any{KeyRotate{Subject: "certificate/e1"}, KeyRevoke{Subject: "certificate/e1"}, KeyScheduleSet{Subject: "certificate/e1", Schedule: DefaultSchedule(SubjectCertificate)}} {
		if res := w.do(admin, body); res.Code != CodeNotFound || !strings.Contains(res.Detail, "joins anew") {
			t.Errorf("%T: %+v", body, res)
		}
	}
	w.want(w.do(admin, KeyRotate{Subject: "certificate/nobody"}), CodeNotFound)
	w.must(w.do(admin, KeyScheduleSet{Subject: "certificate", Schedule: DefaultSchedule(SubjectCertificate)}))
	var ids []string
	for _, of := range w.s.KeySubjects(SubjectCertificate, "n1", 9) {
		ids = append(ids, of.String())
	}
	if !slices.Equal(ids, []string{"certificate/t0", "certificate/t1"}) {
		t.Errorf("the page: %v", ids)
	}
}

// TestRemovalRemembersTLSKeys: all that verified or were to come, so that the node
// hears its farewell whichever it shows.
func TestRemovalRemembersTLSKeys(t *testing.T) {
	w := tlsWorld(t)
	w.must(w.do(admin, KeyRotate{Subject: "certificate/t1"}))
	w.must(w.do(node("t1"), w.tlsOrder("t1", "node t1", "t1", "t1 b", 0)))
	w.pass(RekeyPauseMs)
	w.must(w.do(node("t1"), w.tlsOrder("t1", "node t1", "t1 b", "t1 c", w.wallMs+60_000)))
	w.must(w.do(admin, KeyScheduleSet{Subject: "certificate/t1", Schedule: DefaultSchedule(SubjectCertificate)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "t1"}))
	gone, _ := w.s.Removal("t1")
	for name, want := range map[string]bool{"t1": true, "t1 b": true, "t1 c": true, "t0": false} {
		if gone.HasTLSKey(crypto.Hash(tlsKey(name))) != want {
			t.Errorf("%s: %t, %+v", name, !want, gone)
		}
	}
	if *gone.TLSKey != crypto.Hash(tlsKey("t1 b")) {
		t.Errorf("the active one: %+v", gone)
	}
	w.mark()
	if w.s.keyRequests.size()+w.s.keySchedules.size() != 0 {
		t.Error("something of a removed node is left")
	}
	if err := w.s.Validate(0); err != nil {
		t.Error(err)
	}
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if back.Digest() != w.s.Digest() {
		t.Error("a snapshot reads as another state")
	}
	gone.OtherTLSKeys = make([]crypto.Hash, MaxRingKeys+1)
	if removalFault("t1", gone) == nil {
		t.Error("any number of keys is taken from outside")
	}
}

// TestCertificatesShiftWithTheClock: what was to come comes after the same time, and a
// restore keeps the keys of the present's members.
func TestCertificatesShiftWithTheClock(t *testing.T) {
	w := tlsWorld(t)
	backup := copyState(t, w.s)
	w.must(w.do(node("t0"), w.tlsOrder("t0", "node t0", "t0", "t0 b", w.wallMs+60_000)))
	was, _ := w.s.Coordinator("t0")
	w.must(w.doAt(w.wallMs-30_000, admin, nil, ClockRecover{Voters: 1, Walls: walls(w.wallMs-30_000, 0), Reason: "half a minute"}))
	is, _ := w.s.Coordinator("t0")
	if is.TLSRing()[1].NotBeforeMs != was.TLSRing()[1].NotBeforeMs-30_000 || is.TLSRing()[0].NotAfterMs != was.TLSRing()[0].NotAfterMs-30_000 {
		t.Errorf("before %+v, after %+v", was.TLSRing(), is.TLSRing())
	}
	s, _, err := Restored(backup, w.s, Recovery{Action: "restore", AtMs: w.wallMs})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Coordinator("t0"); !n.TLSRing().Same(is.TLSRing()) {
		t.Errorf("restored: %+v", n.TLSRing())
	}
	if w.s.keysNeedLevel() != LevelKeys {
		t.Error("a backup of it is taken for an older one")
	}
}
