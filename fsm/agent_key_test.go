package fsm

import (
	"bytes"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// rekeyOf changes the key of agent "a" from one to another, signed now.
func (w *world) rekeyOf(by, key string) AgentRekey {
	return AgentRekey{AgentID: "a", By: keyRef(by), PublicKey: publicKey(key), EncryptionKey: bytes.Repeat([]byte{1}, 32), TimestampMs: w.wallMs}
}

// encryptTo changes the encryption key of agent "a" alone, signed now.
func (w *world) encryptTo(b byte) AgentRekey {
	out := w.rekeyOf("a", "a")
	out.EncryptionKey = bytes.Repeat([]byte{b}, 32)
	return out
}

// TestW2KeyIsChangedByTheCurrentKeyAlone is WEAKNESSES C2 in Apply.
func TestW2KeyIsChangedByTheCurrentKeyAlone(t *testing.T) {
	w := clientsWorld(t, "a", "b")
	w.pass(1)
	to := w.rekeyOf
	w.want(w.do(Actor{}, to("thief", "thief")), CodeConflict)
	w.want(w.do(Actor{}, to("b", "thief")), CodeConflict)
	w.want(w.do(Actor{}, to("a", "b")), CodeConflict) // another's key
	w.want(w.do(Actor{}, to("a", "node n0")), CodeConflict)
	weak := to("a", "a2")
	weak.PublicKey = crypto.PublicKey{}
	w.want(w.do(Actor{}, weak), CodeInvalid)
	w.want(w.do(Actor{}, AgentRekey{AgentID: "nobody", By: keyRef("a"), PublicKey: publicKey("a2"), TimestampMs: w.wallMs}), CodeNotFound)
	first := to("a", "a2")
	w.must(w.do(Actor{}, first))
	if again := w.must(w.do(Actor{}, first)); !again.Repeated {
		t.Error("the same change took effect twice")
	}
	w.want(w.do(Actor{}, to("a", "a3")), CodeConflict) // the old key is no longer the newest
	w.pass(1)
	w.want(w.do(Actor{}, to("a2", "a")), CodeConflict)    // and never comes back
	w.want(w.do(Actor{}, to("a2", "a3")), CodeOverloaded) // not at will
	signedBy := func(key, nonce string) Claim {
		c := claimOf("a", nonce, w.wallMs, nonce)
		c.Key = keyRef(key)
		return c
	}
	w.wantVerdict(signedBy("a", "under way"), CodeOK) // P5: both verify in the overlap
	w.wantVerdict(signedBy("a2", "new"), CodeOK)
	w.pass(DefaultSkewMs + 1)
	w.wantVerdict(signedBy("a", "late"), CodeKeyExpired)
	w.pass(RekeyPauseMs)
	w.must(w.do(Actor{}, to("a2", "a3")))
	if a, _ := w.s.Agent("a"); len(a.Keys) != 2 || a.Key() != publicKey("a3") {
		t.Errorf("keys %+v", a.Keys)
	}
	if err := w.s.Validate(w.wallMs); err != nil {
		t.Errorf("a state that changed keys is no sound backup: %v", err)
	}
	if w.s.NeedsLevel() != LevelClients {
		t.Errorf("it needs level %d", w.s.NeedsLevel())
	}
	w.want(w.do(enroller, AgentEnroll{AgentID: "c", PublicKey: publicKey("a")}), CodeConflict) // replaced long ago, still a's
}

// TestW2ChangeRacesWithTheOperator: what is decided is decided in log order, so a
// change that was proposed before a ban, a suspension or a revocation loses to it.
func TestW2ChangeRacesWithTheOperator(t *testing.T) {
	w := clientsWorld(t, "a", "b", "c")
	w.pass(1)
	of := func(id string) AgentRekey {
		b := w.rekeyOf(id, id+"2")
		b.AgentID = id
		return b
	}
	banned, suspended := of("a"), of("b")
	w.must(w.do(operator, w.banOf("a", "e1", "n0", nil)))
	w.want(w.do(Actor{}, banned), CodeBlacklisted)
	w.must(w.do(admin, AgentSetState{AgentID: "b", State: AgentSuspended}))
	w.want(w.do(Actor{}, suspended), CodeAgentNotActive)
	w.must(w.do(admin, AgentSetState{AgentID: "b", State: AgentActive}))
	w.must(w.do(Actor{}, suspended))
	w.must(w.do(admin, AgentSetState{AgentID: "c", State: AgentRevoked}))
	w.want(w.do(Actor{}, of("c")), CodeAgentNotActive)
	w.must(w.do(admin, AgentSetState{AgentID: "b", State: AgentRevoked}))
	if a, _ := w.s.Agent("b"); a.State != AgentRevoked || a.Key() != publicKey("b2") {
		t.Errorf("%+v", a)
	}
	for _, key := range []string{"b", "b2", "c"} { // the keys of who was revoked are nobody's to take
		b := of("a")
		b.PublicKey = publicKey(key)
		w.must(w.do(operator, w.liftOf("a", "e-"+key, "n0")))
		w.want(w.do(Actor{}, b), CodeConflict)
		w.must(w.do(operator, w.banOf("a", "again-"+key, "n0", nil)))
	}
}

// TestW2NoOlderRequestChangesTheKeys: a captured registration must not take a
// change back, however long the pause between changes is (WEAKNESSES C2, C3).
func TestW2NoOlderRequestChangesTheKeys(t *testing.T) {
	w := clientsWorld(t, "a")
	w.pass(1)
	w.want(w.do(Actor{}, w.encryptTo(1)), CodeOverloaded) // too soon
	w.pass(EncryptionPauseMs)
	captured := w.encryptTo(1)
	w.must(w.do(Actor{}, captured))
	w.pass(EncryptionPauseMs)
	w.must(w.do(Actor{}, w.encryptTo(2)))
	w.pass(EncryptionPauseMs - 1)
	w.want(w.do(Actor{}, w.encryptTo(3)), CodeOverloaded)
	w.pass(1)
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs }) // the captured one is still in the window
	w.want(w.do(Actor{}, captured), CodeReplay)
	sameTime := w.encryptTo(3)
	sameTime.TimestampMs = w.wallMs - EncryptionPauseMs
	w.want(w.do(Actor{}, sameTime), CodeReplay)
	early, late := w.encryptTo(3), w.encryptTo(3)
	early.TimestampMs, late.TimestampMs = w.wallMs+MaxSkewMs+1, w.wallMs-MaxSkewMs-1
	w.want(w.do(Actor{}, early), CodeTimestampSkew)
	w.want(w.do(Actor{}, late), CodeTimestampSkew)
	if a, _ := w.s.Agent("a"); len(a.Keys) != 1 || a.EncryptionKey[0] != 2 || a.KeysSignedMs != w.wallMs-EncryptionPauseMs {
		t.Errorf("%+v", a)
	}
	if again := w.must(w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a"), PublicKey: publicKey("a"), EncryptionKey: bytes.Repeat([]byte{2}, 32)})); !again.Repeated {
		t.Error("what is there already needs no time")
	}
}

func TestW2EnrolmentIsAChangeTooAndBadKeysAreNone(t *testing.T) {
	w := clientsWorld(t, "a")
	before := w.encryptTo(1)
	w.pass(EncryptionPauseMs)
	w.want(w.do(Actor{}, before), CodeReplay) // signed before the agent enrolled
	bad := w.encryptTo(1)
	bad.EncryptionKey = []byte{1}
	w.want(w.do(Actor{}, bad), CodeInvalid)
	for _, proof := range [][]byte{{1}, bytes.Repeat([]byte{1}, 65)} {
		bad := w.encryptTo(1)
		bad.EncryptionProof = proof
		w.want(w.do(Actor{}, bad), CodeInvalid)
	}
	bad = w.encryptTo(1)
	bad.EncryptionKey, bad.EncryptionProof = nil, bytes.Repeat([]byte{1}, 64)
	w.want(w.do(Actor{}, bad), CodeInvalid)
}

// TestProofGoesWithTheKeys: the proof of an encryption key is the signature of one
// key on another, so it ends with either of them.
func TestProofGoesWithTheKeys(t *testing.T) {
	w := clientsWorld(t)
	e, proof := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{8}, 64)
	w.must(w.do(enroller, AgentEnroll{AgentID: "a", PublicKey: publicKey("a"), EncryptionKey: e, EncryptionProof: proof}))
	has := func(want []byte) {
		t.Helper()
		if a, _ := w.s.Agent("a"); !bytes.Equal(a.EncryptionProof, want) {
			t.Errorf("the proof is %x, want %x", a.EncryptionProof, want)
		}
		restored(t, snapshotOf(t, w.s, w.history))
	}
	w.pass(RekeyPauseMs)
	w.must(w.do(Actor{}, w.rekeyOf("a", "a2"))) // the same encryption key
	has(nil)
	w.pass(RekeyPauseMs)
	fresh := w.rekeyOf("a2", "a3")
	fresh.EncryptionProof = bytes.Repeat([]byte{7}, 64)
	w.must(w.do(Actor{}, fresh))
	has(fresh.EncryptionProof)
	w.pass(EncryptionPauseMs)
	other := w.rekeyOf("a3", "a3")
	other.EncryptionKey = bytes.Repeat([]byte{2}, 32)
	w.must(w.do(Actor{}, other))
	has(nil)
	w.pass(EncryptionPauseMs)
	other.TimestampMs, other.EncryptionProof = w.wallMs, proof // the proof alone, later
	w.must(w.do(Actor{}, other))
	has(proof)
}

// TestP5ClockSetBackOpensNoGap: keys that were changed while the clock ran ahead
// are those of a change made now: the new one verifies, the old one not for ever.
func TestP5ClockSetBackOpensNoGap(t *testing.T) {
	w := clientsWorld(t, "a")
	w.pass(1)
	now, ahead := w.wallMs, w.wallMs+365*24*3_600_000
	w.jump(ahead)
	w.must(w.do(Actor{}, w.rekeyOf("a", "a2")))
	w.must(w.setBack(now))
	if err := w.s.Validate(w.wallMs); err != nil {
		t.Error(err)
	}
	w.pass(3 * DefaultSkewMs) // the pause of a recovery
	for key, want := range map[string]Code{"a": CodeKeyExpired, "a2": CodeOK} {
		c := claimOf("a", "n-"+key, w.wallMs, "c-"+key)
		c.Key = keyRef(key)
		w.wantVerdict(c, want)
	}
	w.pass(RekeyPauseMs)
	w.want(w.do(Actor{}, w.rekeyOf("a2", "a3")), CodeReplay) // what was signed a year ahead may still come
}

// TestW2RestoreReplaysNoChange: a restore takes the keys back, and what was signed
// before it changes them no more.
func TestW2RestoreReplaysNoChange(t *testing.T) {
	w := clientsWorld(t, "a")
	backup, _ := restored(t, snapshotOf(t, w.s, w.history))
	w.pass(EncryptionPauseMs)
	captured := w.encryptTo(1)
	w.must(w.do(Actor{}, captured))
	if u := Compare(backup, w.s); len(u.AgentsOther) != 1 {
		t.Errorf("the plan of a restore lists %+v", u.AgentsOther)
	}
	next, _, err := Restored(backup, w.s, Recovery{AtMs: w.wallMs, Action: "restore"})
	if err != nil {
		t.Fatal(err)
	}
	if next.Recovering() <= w.wallMs {
		t.Fatal("no pause after a restore")
	}
	w.s = next
	w.index = next.Index()
	w.want(w.do(Actor{}, captured), CodeUnavailable)
	w.pass(next.Recovering() - w.wallMs + 1)
	w.want(w.do(Actor{}, captured), CodeTimestampSkew)
	w.must(w.do(Actor{}, w.encryptTo(1)))
}
