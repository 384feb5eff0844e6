package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// TestKeysWhoMay: each change of keys is one party's to make, and refused below
// LevelKeys.
func TestKeysWhoMay(t *testing.T) {
	second := PoolKeyName(poolKey("p2")).Fingerprint()
	for name, tc := range map[string]struct {
		body  func(w *world) any
		allow []Actor
	}{
		"schedule":             {func(*world) any { return KeyScheduleSet{Subject: "gossip", Schedule: DefaultSchedule(SubjectGossip)} }, []Actor{admin}},
		"an agent's rotation":  {func(*world) any { return KeyRotate{Subject: "agent/a"} }, []Actor{admin, operator}},
		"a node's rotation":    {func(*world) any { return KeyRotate{Subject: "coordinator/n0"} }, []Actor{admin}},
		"an agent's recovery":  {func(w *world) any { return w.recovery("a", "a2") }, []Actor{admin, operator}},
		"revocation":           {func(*world) any { return KeyRevoke{Subject: "agent/a", Key: keyRef("a")} }, []Actor{admin}},
		"a node's next key":    {func(w *world) any { return w.order(CoordinatorSubject("n0"), "node n0", "n0 b", 0) }, []Actor{node("n0")}},
		"a node's TLS key":     {func(w *world) any { return w.tlsOrder("watcher", "node watcher", "watcher", "w2", 0) }, []Actor{node("watcher")}},
		"its rotation":         {func(*world) any { return KeyRotate{Subject: "certificate/watcher"} }, []Actor{admin}},
		"a signer's next key":  {func(w *world) any { return w.order(Subject{SubjectManifest, "m"}, "signer m", "m2", 0) }, []Actor{admin}},
		"the next pool key":    {func(*world) any { return sharedPoolKey("p1", "p3", "n0", "n1") }, []Actor{node("n0"), node("n1")}},
		"the first of the CA":  {func(*world) any { return sharedCA(nil, []byte("ca")) }, []Actor{node("n0"), node("n1")}},
		"a member has it":      {func(*world) any { return KeyReady{Subject: "gossip", Key: second} }, []Actor{node("n0"), node("n1"), node("watcher")}},
		"the switch":           {func(*world) any { return KeySwitch{Subject: "gossip", Key: second} }, []Actor{node("n0"), node("n1")}},
		"an agent's next key":  {func(w *world) any { return w.order(AgentSubject("a"), "a", "a2", 0) }, nil}, // the order is the credential: anybody carries it
		"a switch of an agent": {func(*world) any { return KeySwitch{Subject: "agent/a", Key: keyRef("a")} }, []Actor{}},
	} {
		for _, actor := range []Actor{admin, operator, {TokenID: "verifier"}, {TokenID: "none"}, {}, node("n0"), node("n1"), node("watcher"), node("stranger")} {
			w := keysWorld(t, "a")
			w.must(w.do(Actor{TokenID: string(RoleObserver)}, CoordinatorJoin{Coordinator: withTLS(nodeOf("watcher", RoleObserver))}))
			w.pass(RekeyPauseMs)
			w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
			if name == "a member has it" || name == "the switch" {
				w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0", "n1", "watcher")))
			}
			if name == "the switch" {
				w.must(w.do(node("n0"), KeyReady{Subject: "gossip", Key: second}))
				w.must(w.do(node("n1"), KeyReady{Subject: "gossip", Key: second}))
			}
			res := w.do(actor, tc.body(w))
			if want := tc.allow == nil || slices.Contains(tc.allow, actor); res.OK() != want {
				t.Errorf("%s by %+v: %+v", name, actor, res)
			}
			below := keysWorld(t, "a")
			below.s.meta.v.Level = LevelKeys - 1
			if res := below.do(actor, tc.body(below)); res.Code != CodeConflict {
				t.Errorf("%s below the level: %+v", name, res)
			}
		}
	}
}

func atLevel(n Coordinator) Coordinator { n.Level = LevelKeys; return n }

// TestKeyPrepareRefused: what an order may not say.
func TestKeyPrepareRefused(t *testing.T) {
	a, n0, m := AgentSubject("a"), CoordinatorSubject("n0"), Subject{SubjectManifest, "m"}
	for name, tc := range map[string]struct {
		actor Actor
		body  func(w *world) KeyPrepare
		want  Code
	}{
		"by nobody": {Actor{}, func(w *world) KeyPrepare {
			b := w.order(a, "a", "a2", 0)
			b.By, b.Order = crypto.PublicKey{}, nil
			return b
		}, CodeInvalid},
		"an order by nobody": {Actor{}, func(w *world) KeyPrepare { b := w.order(a, "a", "a2", 0); b.By = crypto.PublicKey{}; return b }, CodeInvalid},
		"no order":           {Actor{}, func(w *world) KeyPrepare { b := w.order(a, "a", "a2", 0); b.Order = nil; return b }, CodeInvalid},
		"a long order": {Actor{}, func(w *world) KeyPrepare {
			b := w.order(a, "a", "a2", 0)
			b.Order = make([]byte, MaxKeySignatureBytes+1)
			return b
		}, CodeInvalid},
		"by another":    {Actor{}, func(w *world) KeyPrepare { return w.order(a, "b", "a2", 0) }, CodeConflict},
		"itself":        {Actor{}, func(w *world) KeyPrepare { return w.order(a, "a", "a", 0) }, CodeConflict},
		"another's key": {Actor{}, func(w *world) KeyPrepare { return w.order(a, "a", "b", 0) }, CodeConflict},
		"a node's key":  {Actor{}, func(w *world) KeyPrepare { return w.order(a, "a", "node n1", 0) }, CodeConflict},
		"a weak key":    {Actor{}, func(w *world) KeyPrepare { b := w.order(a, "a", "a2", 0); b.Public = crypto.PublicKey{}; return b }, CodeInvalid},
		"too old":       {Actor{}, func(w *world) KeyPrepare { b := w.order(a, "a", "a2", 0); b.SignedMs -= DefaultSkewMs + 1; return b }, CodeTimestampSkew},
		"far ahead":     {Actor{}, func(w *world) KeyPrepare { return w.order(a, "a", "a2", w.wallMs+MaxScheduleMs+1) }, CodeInvalid},
		"beyond time":   {Actor{}, func(w *world) KeyPrepare { return w.order(a, "a", "a2", 1<<62) }, CodeInvalid},
		"copies": {Actor{}, func(w *world) KeyPrepare {
			b := w.order(a, "a", "a2", 0)
			b.Copies = []SealedCopy{{NodeID: "n0", Sealed: []byte("x")}}
			return b
		}, CodeInvalid},
		"a short proof":  {Actor{}, func(w *world) KeyPrepare { b := w.order(a, "a", "a2", 0); b.EncryptionProof = []byte("x"); return b }, CodeInvalid},
		"a banned agent": {Actor{}, func(w *world) KeyPrepare { return w.order(AgentSubject("banned"), "banned", "a2", 0) }, CodeBlacklisted},
		"nobody's":       {Actor{}, func(w *world) KeyPrepare { return w.order(AgentSubject("x"), "a", "a2", 0) }, CodeNotFound},
		"no subject":     {Actor{}, func(w *world) KeyPrepare { return w.order(Subject{SubjectAgent, ""}, "a", "a2", 0) }, CodeInvalid},
		"a node's lost key": {node("n0"), func(w *world) KeyPrepare {
			b := w.order(n0, "node n0", "n2", 0)
			b.By, b.Order = crypto.PublicKey{}, nil
			return b
		}, CodeInvalid},
		"a signer's own":      {admin, func(w *world) KeyPrepare { return w.order(m, "signer m", "signer m", 0) }, CodeConflict},
		"a CA of other name":  {node("n0"), func(*world) KeyPrepare { b := sharedCA(nil, []byte("ca")); b.Public[0]++; return b }, CodeInvalid},
		"another first CA":    {node("n0"), func(*world) KeyPrepare { return sharedCA(nil, []byte("mine")) }, CodeConflict},
		"copies out of order": {node("n0"), func(*world) KeyPrepare { return sharedPoolKey("", "p1", "n1", "n0") }, CodeInvalid},
		"a long copy": {node("n0"), func(*world) KeyPrepare {
			b := sharedPoolKey("", "p1")
			b.Copies = []SealedCopy{{NodeID: "n0", Sealed: make([]byte, MaxSealedBytes+1)}}
			return b
		}, CodeInvalid},
	} {
		w := keysWorld(t, "a", "b", "banned")
		w.must(w.do(operator, w.banOf("banned", "e", "n0", nil)))
		before := w.s.Digest()
		res := w.do(tc.actor, tc.body(w))
		if res.Code != tc.want {
			t.Errorf("%s: %+v, want %s", name, res, tc.want)
		}
		w.s.meta.v.Index-- // that alone moved
		if w.s.Digest() != before {
			t.Errorf("%s: it changed something", name)
		}
	}
}

// TestKeyOrdersAreNotReplayed: an order that was captured does not take a later
// change back, and an agent cannot make keys at will.
func TestKeyOrdersAreNotReplayed(t *testing.T) {
	w := keysWorld(t, "a")
	a := AgentSubject("a")
	early := w.order(a, "a", "a3", 0)
	w.pass(1)
	w.must(w.do(Actor{}, w.order(a, "a", "a2", 0)))
	w.want(w.do(Actor{}, early), CodeConflict)                   // not the active key any more
	w.want(w.do(Actor{}, w.order(a, "a2", "a4", 0)), CodeReplay) // signed in the same instant
	w.pass(1)
	w.want(w.do(Actor{}, w.order(a, "a2", "a4", 0)), CodeOverloaded)
	w.pass(RekeyPauseMs)
	w.must(w.do(Actor{}, w.order(a, "a2", "a4", 0)))
	if res := w.do(Actor{}, AgentRekey{AgentID: "a", By: keyRef("a4"), PublicKey: publicKey("a5"), TimestampMs: w.wallMs}); res.OK() {
		t.Errorf("the older way has no pause: %+v", res)
	}
}

// TestAgentRekeyBesideASchedule: the older way to change keys waits for a key that
// is announced, and a revoked key changes nothing.
func TestAgentRekeyBesideASchedule(t *testing.T) {
	w := keysWorld(t, "a", "b")
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", w.wallMs+60_000)))
	w.pass(1)
	rekey := AgentRekey{AgentID: "a", By: keyRef("a2"), PublicKey: publicKey("a3"), TimestampMs: w.wallMs}
	w.want(w.do(Actor{}, rekey), CodeConflict)
	w.must(w.do(admin, KeyRevoke{Subject: "agent/b", Key: keyRef("b")}))
	w.want(w.do(Actor{}, AgentRekey{AgentID: "b", By: keyRef("b"), PublicKey: publicKey("b2"), TimestampMs: w.wallMs}), CodeConflict)
	w.pass(60_000)
	fresh := claimOf("a", "1", w.wallMs, "")
	fresh.Key = keyRef("a2")
	w.wantVerdict(fresh, CodeOK)
	w.wantVerdict(claimOf("b", "2", w.wallMs, ""), CodeKeyExpired)
}

// TestKeySuccessionsVerify: what the state keeps of a change is enough for anybody
// to verify it.
func TestKeySuccessionsVerify(t *testing.T) {
	w := keysWorld(t, "a")
	b := w.order(AgentSubject("a"), "a", "a2", w.wallMs+60_000)
	if err := b.Verify(w.s.Meta().ClusterID); err != nil {
		t.Fatal(err)
	}
	w.must(w.do(Actor{}, b))
	ring, _ := w.s.KeyRing(AgentSubject("a"))
	p := ring[1].Succession
	st := crypto.Succession{ClusterID: w.s.Meta().ClusterID, Subject: "agent/a", Predecessor: p.Predecessor, Successor: ring[1].Public, NotBeforeMs: p.NotBeforeMs, SignedMs: p.SignedMs}
	if !st.Ordered(p.Signature) || p.Predecessor != ring[0].Public {
		t.Errorf("%+v", p)
	}
	for name, change := range map[string]func(*KeyPrepare){
		"order":   func(b *KeyPrepare) { b.Order = bytes.Repeat([]byte{1}, 64) },
		"proof":   func(b *KeyPrepare) { b.Proof = nil },
		"subject": func(b *KeyPrepare) { b.Subject = "agent/b" },
		"nobody":  func(b *KeyPrepare) { b.Subject = "x" },
	} {
		other := b
		if change(&other); other.Verify(w.s.Meta().ClusterID) == nil {
			t.Errorf("%s: it verifies", name)
		}
	}
	r := w.recovery("a", "a3")
	if err := r.Verify(w.s.Meta().ClusterID); err != nil {
		t.Error(err)
	}
	if r.Public = publicKey("a4"); r.Verify(w.s.Meta().ClusterID) == nil {
		t.Error("a recovery verifies for another key")
	}
}

// TestManifestSignerRotates: both keys count as one signer, manifests of before
// stay vouched for, and a revoked key vouches for nothing.
func TestManifestSignerRotates(t *testing.T) {
	w := keysWorld(t)
	w.must(w.do(admin, ManifestTrustSet{IfVersion: 1, Trust: trustOf(2, "m", "other")}))
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "1.0.0", "x"), "m", "other")))
	m := Subject{SubjectManifest, "m"}
	w.must(w.do(admin, w.order(m, "signer m", "signer m2", 0)))
	w.want(w.do(operator, acceptOf(w.statementOf("bin", "1.1.0", "y"), "m", "m2")), CodeInvalid) // one signer
	w.must(w.do(operator, acceptOf(w.statementOf("bin", "1.1.0", "y"), "m2", "other")))
	w.pass(MaxAheadMs)
	trust := w.s.ManifestTrust()
	w.must(w.do(admin, ManifestTrustSet{IfVersion: trust.Version, Trust: trustOf(2, "m", "other")})) // a change of others leaves its keys
	state := func(version string) string {
		row, _ := w.s.Manifest("bin")
		for _, v := range row.Versions {
			if v.Statement.Version == version {
				return string(row.StateOf(v, w.s.ManifestTrust(), w.s.ClockMs()))
			}
		}
		return ""
	}
	before := state("1.0.0")
	w.must(w.do(admin, KeyRevoke{Subject: m.String(), Key: keyRef("signer m")}))
	if after := state("1.0.0"); before == after {
		t.Errorf("what a revoked key vouched for is %s as before", after)
	}
	if got := state("1.1.0"); got != before {
		t.Errorf("what the next key vouched for is %s", got)
	}
}

// TestP5RestoreKeepsKeys: a backup from before a rotation or a revocation brings no
// key back, and the state that comes of it is a sound backup.
func TestP5RestoreKeepsKeys(t *testing.T) {
	w := keysWorld(t, "a", "b", "c")
	data := snapshotOf(t, w.s, w.history)
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", 0)))
	w.must(w.do(admin, KeyRevoke{Subject: "agent/b", Key: keyRef("b")}))
	w.must(w.do(admin, KeyRevoke{Subject: "manifest/m", Key: keyRef("signer m")}))
	w.must(w.do(node("n0"), w.order(CoordinatorSubject("n0"), "node n0", "n0 b", 0)))
	w.must(w.do(admin, KeyScheduleSet{Subject: "agent/a", Schedule: DefaultSchedule(SubjectAgent)}))
	w.mark()
	backup, _ := restored(t, data)
	if u := CompareRestore(backup, w.s); len(u.AgentsOther) != 0 {
		t.Errorf("the plan says that keys are undone: %+v", u.AgentsOther)
	}
	if u := Compare(backup, w.s); len(u.AgentsOther) != 2 {
		t.Errorf("a recovery would undo: %+v", u.AgentsOther)
	}
	next, _, err := Restored(backup, w.s, Recovery{AtMs: w.wallMs, Actor: admin, Action: "restore"})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Validate(0); err != nil {
		t.Errorf("no sound backup: %v", err)
	}
	now := next.ClockMs()
	for subject, want := range map[string]string{"agent/a": "a2", "agent/c": "c", "coordinator/n0": "n0 b"} {
		of, err := ParseSubject(subject)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := next.KeyStanding(of, now)
		if st.Active < 0 || st.Ring[st.Active].Public != publicKey(want) {
			t.Errorf("%s: %+v", subject, st)
		}
	}
	for _, subject := range []Subject{AgentSubject("b"), {SubjectManifest, "m"}} {
		if st, _ := next.KeyStanding(subject, now); st.Active >= 0 {
			t.Errorf("%s: a revoked key is back: %+v", subject, st.Ring)
		}
	}
	if next.NeedsLevel() != LevelKeys {
		t.Errorf("it needs level %d", next.NeedsLevel())
	}
}

// TestKeysOfAHostileBackup: what no command makes is refused.
func TestKeysOfAHostileBackup(t *testing.T) {
	ring := func(change func(r Ring) Ring) func(s *State) {
		return func(s *State) {
			r, _ := s.keyRings.get("gossip")
			s.keyRings.put("gossip", change(slices.Clone(r)))
		}
	}
	for name, tc := range map[string]struct {
		change func(s *State)
		want   string
	}{
		"a schedule of nobody":  {func(s *State) { s.keySchedules.put("x", DefaultSchedule(SubjectAgent)) }, "no subject"},
		"a schedule too short":  {func(s *State) { s.keySchedules.put("agent", Schedule{Version: 1}) }, "overlap_ms"},
		"a schedule not set":    {func(s *State) { s.keySchedules.put("agent", DefaultSchedule(SubjectAgent)) }, "version 0"},
		"a request of nobody":   {func(s *State) { s.keyRequests.put("x", KeyRequest{}) }, "key_requests"},
		"a request out of time": {func(s *State) { s.keyRequests.put("ca", KeyRequest{AtMs: -1}) }, "asked for"},
		"a ring of agents":      {func(s *State) { s.keyRings.put("agent/a", Ring{}) }, "shares no keys"},
		"keys alone":            {ring(func(r Ring) Ring { r[0].Shared = nil; return r }), "alone"},
		"a key twice":           {ring(func(r Ring) Ring { return Ring{r[0], r[0]} }), "twice"},
		"too many":              {ring(func(r Ring) Ring { return make(Ring, MaxRingKeys+1) }), "keys, at most"},
		"a wait in the middle":  {ring(func(r Ring) Ring { r[0], r[1] = r[1], r[0]; return r }), "waits"},
		"out of time":           {ring(func(r Ring) Ring { r[0].NotAfterMs = -1; return r }), "end of a key"},
		"a stolen key": {func(s *State) {
			n, _ := s.coordinators.get("n0")
			n.Keys = append(slices.Clone(n.Keys), Key{Public: publicKey("thief"), NotBeforeMs: MaxTimeMs - 1})
			s.coordinators.put("n0", n)
		}, "not in use"},
		"an agent's shared key": {func(s *State) {
			s.changeAgent(func(a *Agent) { a.Keys = slices.Clone(a.Keys); a.Keys[0].Shared = &SharedKey{} })
		}, "alone"},
		"an order too long": {func(s *State) {
			s.changeAgent(func(a *Agent) {
				a.Keys = slices.Clone(a.Keys)
				a.Keys[0].Succession = &Succession{Signature: make([]byte, MaxKeySignatureBytes+1)}
			})
		}, "order of"},
	} {
		w := sampleWorld(t)
		if err := w.s.Validate(0); err != nil {
			t.Fatal(err)
		}
		tc.change(w.s)
		if err := w.s.Validate(0); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestKeySchedulesHold: the closest schedule counts, and keys fall due by it.
func TestKeySchedulesHold(t *testing.T) {
	w := keysWorld(t, "a", "b")
	set := func(subject string, periodMs int64) {
		w.must(w.do(admin, KeyScheduleSet{Subject: subject, IfVersion: 0, Schedule: Schedule{PeriodMs: periodMs, OverlapMs: keyHourMs, LeadMs: keyHourMs / 2}}))
	}
	due := func(id string) bool {
		st, _ := w.s.KeyStanding(AgentSubject(id), w.s.ClockMs())
		return st.Due(w.s.ClockMs())
	}
	if due("a") || len(w.s.AgentsDue(w.s.ClockMs())) != 0 {
		t.Error("agents are asked without a schedule")
	}
	set("agent", 2*keyHourMs)
	set("agent/b", keyDayMs)
	w.pass(keyHourMs)
	if !due("a") || due("b") {
		t.Errorf("due: %t and %t", due("a"), due("b"))
	}
	asked := w.s.AgentsDue(w.s.ClockMs())
	if len(asked) != 1 || asked[0].Subject.ID != "a" || asked[0].Overdue(w.s.ClockMs()) || asked[0].Expired(w.s.ClockMs()) {
		t.Fatalf("%+v", asked)
	}
	w.pass(keyHourMs)
	if asked = w.s.AgentsDue(w.s.ClockMs()); !asked[0].Overdue(w.s.ClockMs()) || !asked[0].Expired(w.s.ClockMs()) {
		t.Errorf("%+v", asked)
	}
	w.must(w.do(Actor{}, w.order(AgentSubject("a"), "a", "a2", 0)))
	if due("a") {
		t.Error("a key that was just changed is due")
	}
	for text, d := range map[string]Schedule{
		"a period too short":   {PeriodMs: 1, OverlapMs: MinOverlapMs},
		"a lead of a period":   {PeriodMs: keyHourMs, OverlapMs: MinOverlapMs, LeadMs: keyHourMs},
		"overlaps that pile":   {PeriodMs: keyHourMs, OverlapMs: keyHourMs + 1},
		"an overlap too short": {OverlapMs: MinOverlapMs - 1},
		"beyond all":           {OverlapMs: MaxScheduleMs + 1},
	} {
		if _, fault := d.Fault(SubjectAgent); fault == "" {
			t.Errorf("%s is taken", text)
		}
	}
	for _, kind := range SubjectKinds() {
		if field, fault := DefaultSchedule(kind).Fault(kind); fault != "" {
			t.Errorf("the default of %s: %s: %s", kind, field, fault)
		}
	}
}

// TestSubjectTexts: one spelling each, and back.
func TestSubjectTexts(t *testing.T) {
	for _, text := range []string{"agent/a", "agent/a/b", "coordinator/n0", "certificate/n0", "manifest/release", "gossip", "ca"} {
		if of, err := ParseSubject(text); err != nil || of.String() != text {
			t.Errorf("%s: %v, %v", text, of, err)
		}
	}
	for _, text := range []string{"", "agent", "agent/", "gossip/", "ca/x", "Agent/a", "agent/\x00", "certificate", "key/a", fmt.Sprintf("agent/%0200d", 1)} {
		if of, err := ParseSubject(text); err == nil {
			t.Errorf("%q: %v", text, of)
		}
	}
	if of, err := ParseScheduled("agent"); err != nil || of != (Subject{Kind: SubjectAgent}) {
		t.Errorf("%v, %v", of, err)
	}
}

// TestW15RemovedCoordinatorSignsWithNoKey: neither with the one it joined with nor
// with any that came after, and none of them is anybody's again.
func TestW15RemovedCoordinatorSignsWithNoKey(t *testing.T) {
	w := keysWorld(t, "a")
	n1 := CoordinatorSubject("n1")
	w.must(w.do(node("n1"), w.order(n1, "node n1", "node n1 b", 0)))
	w.must(w.do(operator, w.banOf("x", "e1", "n1", nil)))
	w.must(w.do(operator, w.banOf("y", "e2", "n1 b", nil)))
	w.must(w.do(node("n1"), CoordinatorUpdate{ID: "n1", API: "h:9", Raft: "h:8", Gossip: "h:7", Level: LevelKeys}))
	for _, k := range w.s.SigningKeys() {
		if k.NodeID == "n1" && k.API != "h:9" {
			t.Errorf("%s is at %s", k.Public.CoordinatorID(), k.API)
		}
	}
	w.must(w.do(admin, KeyRotate{Subject: n1.String()}))
	w.must(w.do(node("n0"), sharedPoolKey("", "p1")))
	w.must(w.do(node("n0"), sharedCA(nil, []byte("ca"))))
	w.must(w.do(node("n0"), sharedPoolKey("p1", "p2", "n0")))
	w.must(w.do(node("n0"), sharedCA([]byte("ca"), []byte("ca 2"), "n0")))
	w.must(w.compromised("n1"))
	w.must(w.do(admin, TokenCreate{ID: "after the CA", Role: RoleCoordinator, Uses: -1}))
	for i, key := range []string{"n1", "n1 b"} {
		w.want(w.do(operator, w.banOf("z", fmt.Sprint("e", 3+i), key, nil)), CodeInvalid)
		if row, ok := w.s.SigningKey(publicKey("node " + key).CoordinatorID()); !ok || row.RetiredAt == 0 {
			t.Errorf("%s: %+v", key, row)
		}
		thief := nodeOf("thief", RoleCoordinator)
		thief.Level, thief.SigningKey = LevelKeys, publicKey("node "+key)
		w.want(w.do(Actor{TokenID: "after the CA"}, CoordinatorJoin{Coordinator: thief}), CodeConflict)
	}
	w.want(w.do(node("n1"), w.order(n1, "node n1 b", "node n1 c", 0)), CodeNotFound)
	w.mark()
	if w.s.keyRequests.size() != 0 {
		t.Error("a rotation is asked of nobody")
	}
	verifyChain(t, w.s, w.history, 2)
}
