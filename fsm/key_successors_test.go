package fsm

import (
	"bytes"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestP5SuccessorsOfAStolenKey: a key that the stolen one ordered and that has begun is
// named, and ends when the admin says so, also later; so does what it ordered itself.
func TestP5SuccessorsOfAStolenKey(t *testing.T) {
	for of, actor := range map[Subject]Actor{AgentSubject("a"): {}, CoordinatorSubject("n0"): node("n0"), {SubjectManifest, "m"}: admin} {
		for _, after := range []bool{false, true} {
			w := keysWorld(t, "a")
			stolen := map[SubjectKind]string{SubjectAgent: "a", SubjectCoordinator: "node n0", SubjectManifest: "signer m"}[of.Kind]
			w.must(w.do(actor, w.order(of, stolen, "thief", 0)))
			w.pass(RekeyPauseMs)
			w.must(w.do(actor, w.order(of, "thief", "thief 2", w.wallMs+keyHourMs)))
			names := []string{of.String() + " " + publicKey("thief").KeyID(), of.String() + " " + publicKey("thief 2").KeyID()}
			revoke := KeyRevoke{Subject: of.String(), Key: keyRef(stolen), Reason: "stolen"}
			if after {
				for range 2 { // asked again it says so again
					if res := w.must(w.do(admin, revoke)); res.Ended == nil || !slices.Equal(res.Ended.Left, names) || len(res.Ended.Keys) > 0 {
						t.Errorf("%s: left %+v", of, res.Ended)
					}
				}
				if activeIn(w.s, of, 0) != publicKey("thief") {
					t.Errorf("%s: a key in use ended and nobody said so", of)
				}
			}
			revoke.WithSuccessors = true
			if res := w.must(w.do(admin, revoke)); res.Ended == nil || !slices.Equal(res.Ended.Keys, names) || len(res.Ended.Left) > 0 {
				t.Errorf("%s: ended %+v", of, res.Ended)
			}
			ring, _ := w.s.KeyRing(of)
			for i := range ring {
				if state := ring.StateOf(i, w.s.ClockMs()+keyDayMs); state != KeyRevoked {
					t.Errorf("%s: key %d is %s", of, i, state)
				}
			}
			if res := w.must(w.do(admin, revoke)); res.Ended != nil {
				t.Errorf("%s: it ends more: %+v", of, res.Ended)
			}
			if row, ok := w.s.SigningKey(publicKey("thief").CoordinatorID()); ok && row.RetiredAt == 0 {
				t.Error("what the thief's key signs counts on")
			}
		}
	}
}

// TestSuccessorsAreThoseThatAKeyOrdered: what an operator brought, or a key before it
// ordered, is none, nor is what others' signatures brought.
func TestSuccessorsAreThoseThatAKeyOrdered(t *testing.T) {
	w := keysWorld(t, "a", "b")
	w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a2"), TimestampMs: w.wallMs})) // by a request
	w.pass(RekeyPauseMs)
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a2", "a3", 0)))
	a, _ := w.s.Agent("a")
	if got := a.Keys.successors(0); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("of the first: %v", got)
	}
	if got := a.Keys.successors(1); !slices.Equal(got, []int{2}) {
		t.Errorf("of the second: %v", got)
	}
	w.must(w.do(operator, w.recovery("b", "b2")))
	if b, _ := w.s.Agent("b"); len(b.Keys.successors(0)) != 0 {
		t.Error("an operator's word counts as the lost key's order")
	}
	w.want(w.do(admin, KeyRevoke{Subject: "gossip", WithSuccessors: true}), CodeNotFound)
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	w.want(w.do(admin, KeyRevoke{Subject: "gossip", Key: PoolKeyName(poolKey("p1")).Fingerprint(), WithSuccessors: true}), CodeInvalid)
}

// TestP5EncryptionKeyOfARevokedKey: what whoever had a key may have registered is
// forgotten with it, unless a later key vouches for it.
func TestP5EncryptionKeyOfARevokedKey(t *testing.T) {
	proof := bytes.Repeat([]byte{7}, crypto.SignatureSize)
	own, theirs := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{66}, 32)
	names := func(w *world, by string, key []byte) {
		w.pass(EncryptionPauseMs)
		w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef(by), PublicKey: publicKey(by), EncryptionKey: key, EncryptionProof: proof, TimestampMs: w.wallMs}))
	}
	for name, tc := range map[string]struct {
		proof  []byte // of the next key on the encryption key
		thief  bool   // registers its own with the next key
		begins int64
		revoke string
		keeps  bool
	}{
		"the thief's":                     {proof: proof, thief: true, revoke: "a2"},
		"of a key that nothing vouches":   {revoke: "a"},
		"a later key vouches":             {proof: proof, revoke: "a", keeps: true},
		"the next key, which never began": {proof: proof, begins: keyDayMs, revoke: "a2", keeps: true},
	} {
		w := keysWorld(t, "a")
		names(w, "a", own)
		w.pass(1)
		b := w.order(AgentSubject("a"), "a", "a2", 0)
		if tc.begins > 0 {
			b = w.order(AgentSubject("a"), "a", "a2", w.wallMs+tc.begins)
		}
		b.EncryptionProof = tc.proof
		w.must(w.do(Actor{}, b))
		if tc.thief {
			names(w, "a2", theirs)
		}
		res := w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef(tc.revoke), Reason: "stolen"}))
		a, _ := w.s.Agent("a")
		if kept := len(a.EncryptionKey) > 0; kept != tc.keeps || kept == (res.Ended != nil && res.Ended.EncryptionKey) || !kept && len(a.EncryptionProofAt(w.s.ClockMs())) > 0 {
			t.Errorf("%s: the encryption key is %x, told %+v", name, a.EncryptionKey, res.Ended)
		}
	}
}

// TestRekeyAfterTheNextWasTakenBack: the key that goes on changes the agent's keys, by
// either way, and keeps no longer window than it had.
func TestRekeyAfterTheNextWasTakenBack(t *testing.T) {
	w := keysWorld(t, "a")
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", w.wallMs+keyDayMs)))
	w.must(w.do(admin, KeyRevoke{Subject: "agent/a", Key: keyRef("a2")}))
	w.pass(EncryptionPauseMs)
	encryption := bytes.Repeat([]byte{1}, 32)
	w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a"), EncryptionKey: encryption, TimestampMs: w.wallMs}))
	w.pass(1)
	w.want(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a2"), PublicKey: publicKey("a3"), TimestampMs: w.wallMs}), CodeConflict)
	w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a3"), EncryptionKey: encryption, TimestampMs: w.wallMs}))
	if a, _ := w.s.Agent("a"); a.Key() != publicKey("a3") || !bytes.Equal(a.EncryptionKey, encryption) {
		t.Errorf("%+v", a)
	}

	w = keysWorld(t, "b")
	w.must(w.do(Actor{}, w.order(AgentSubject("b"), "b", "b2", 0)))
	b, _ := w.s.Agent("b")
	endMs := b.Keys[0].NotAfterMs
	w.must(w.do(admin, KeyRevoke{Subject: "agent/b", Key: keyRef("b2")}))
	w.pass(endMs - 1_000 - w.wallMs)
	w.must(w.do(Actor{}, AgentRekey{AgentID: "b", By: keyRef("b"), PublicKey: publicKey("b3"), TimestampMs: w.wallMs}))
	if b, _ = w.s.Agent("b"); b.Keys[0].NotAfterMs != endMs {
		t.Errorf("announced to end at %d, it ends at %d", endMs, b.Keys[0].NotAfterMs)
	}
}
