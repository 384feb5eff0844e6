package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// P2: after a ban is acknowledged nobody admits the agent.

func TestP2BanHolds(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	expires := w.wallMs + 10_000
	w.must(w.do(operator, w.banOf("a", "e1", "n0", &expires)))
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeBlacklisted)
	w.wantVerdict(claimOf("b", "n1", w.wallMs, ""), CodeOK)
	w.pass(10_000)
	w.mark() // a mark does not purge early
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeBlacklisted)
	w.pass(1)
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeOK)
	w.mark()
	if n := w.s.Sizes()["bans"]; n != 0 {
		t.Errorf("%d bans are kept after their end", n)
	}
}

func TestP2BanOfUnknownAgentHoldsOnceEnrolled(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(operator, w.banOf("a", "e1", "n0", nil)))
	w.enroll("a")
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeBlacklisted)
	w.s, _ = restored(t, snapshotOf(t, w.s, w.history))
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeBlacklisted)
}

func TestP2LiftSupersedes(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.want(w.do(operator, w.liftOf("a", "e0", "n0")), CodeNotFound)
	w.must(w.do(operator, w.banOf("a", "e1", "n0", nil)))
	old := w.liftOf("a", "e2", "n0")
	w.must(w.do(operator, w.banOf("a", "e3", "n0", nil))) // meanwhile another ban took its place
	w.want(w.do(operator, w.linked(old.Event, "n0", true)), CodeStale)
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeBlacklisted)
	w.must(w.do(operator, w.liftOf("a", "e4", "n0")))
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeOK)

	// A lift has one form only.
	w.must(w.do(operator, w.banOf("a", "e5", "n0", nil)))
	notExpired := w.liftOf("a", "e6", "n0").Event
	notExpired.ExpiresAtMs = nil
	w.want(w.do(operator, w.linked(notExpired, "n0", true)), CodeInvalid)
	other := w.liftOf("a", "e6", "n0").Event
	other.ReasonCode = "abuse_spam"
	w.want(w.do(operator, w.linked(other, "n0", true)), CodeInvalid)
}

// P3: no acknowledged record is lost, changed or reordered, and what is in the
// chain verifies anywhere.

func TestP3AppendOnlyChainVerifies(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.must(w.do(operator, w.banOf("a", "e1", "n0", nil)))
	w.want(w.do(operator, w.reportOf("b", "a-reporter", "e2")), CodeInvalid) // nobody of that name yet
	w.enroll("a-reporter")
	w.must(w.do(operator, w.reportOf("b", "a-reporter", "e3")))
	w.must(w.do(operator, w.liftOf("a", "e4", "n0")))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(operator, w.banOf("a", "e5", "n1", nil)))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	w.must(w.do(operator, w.banOf("b", "e6", "n0", nil)))
	verifyChain(t, w.s, w.history, 5)
}

// verifyChain walks the chain as a stranger would who has only the API.
func verifyChain(t interface{ Fatalf(string, ...any) }, s *State, h History, size int) {
	keys := map[string]crypto.PublicKey{}
	for _, k := range s.SigningKeys() {
		keys[k.Public.CoordinatorID()] = k.Public
	}
	v := crypto.NewChainVerifier(keys)
	records, err := h.Read(StreamBlacklist, 1, 1<<30)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	for _, r := range records {
		e, err := crypto.ParseBlacklistEvent(r.Data)
		if err != nil {
			t.Fatalf("record %d: %v", r.Seq, err)
		}
		if err := v.Add(e); err != nil {
			t.Fatalf("record %d: %v", r.Seq, err)
		}
	}
	head, n := s.Chain()
	if err := v.Finish(head); err != nil || v.Size() != size || n != uint64(size) || v.Unproven() != 0 {
		t.Fatalf("%d events verified, the state says %d, want %d; %d unproven: %v", v.Size(), n, size, v.Unproven(), err)
	}
}

func TestP3AppendOnlyStaleHeadRefused(t *testing.T) {
	w := genesisWorld(t)
	first, second := w.banOf("a", "e1", "n0", nil), w.banOf("b", "e2", "n0", nil)
	res := w.must(w.do(operator, first))
	if res.Chain == nil || res.Chain.Size != 1 || res.Chain.Head != first.Event.EventHash {
		t.Fatalf("chain %+v", res.Chain)
	}
	w.want(w.do(operator, second), CodeStale)
	w.must(w.do(operator, w.linked(second.Event, "n0", false))) // linked again it goes through
	verifyChain(t, w.s, w.history, 2)
}

// What no verifier accepts would spoil the chain for ever, so Apply refuses it.
func TestP3AppendOnlyRefusesWhatCannotVerify(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "r")
	w.must(w.do(operator, w.banOf("b", "twice", "n0", nil)))
	linked := func(change func(*crypto.BlacklistEvent)) BlacklistAppend {
		e := eventOf("a", "e1", w.s.ClockMs())
		change(&e)
		return w.linked(e, "n0", false)
	}
	afterLink := func(change func(*BlacklistAppend)) BlacklistAppend {
		b := w.banOf("a", "e1", "n0", nil)
		change(&b)
		return b
	}
	report := func(change func(*BlacklistAppend)) BlacklistAppend {
		b := w.reportOf("a", "r", "e1")
		change(&b)
		b = BlacklistAppend{Event: w.linked(b.Event, "n0", false).Event, ReporterKey: b.ReporterKey}
		return b
	}
	far, past := int64(1)<<60, w.wallMs
	otherRef := keyRef("a")
	cases := map[string]struct {
		b    BlacklistAppend
		want Code
	}{
		"the same event id again":       {w.banOf("b", "twice", "n0", nil), CodeConflict},
		"expiry beyond JSON's integers": {linked(func(e *crypto.BlacklistEvent) { e.ExpiresAtMs = &far }), CodeInvalid},
		"expired already":               {linked(func(e *crypto.BlacklistEvent) { e.ExpiresAtMs = &past }), CodeInvalid},
		"nobody reported":               {linked(func(e *crypto.BlacklistEvent) { e.ReportedBy = "" }), CodeInvalid},
		"short reason":                  {linked(func(e *crypto.BlacklistEvent) { e.Reason = "x" }), CodeInvalid},
		"long reason":                   {linked(func(e *crypto.BlacklistEvent) { e.Reason = strings.Repeat("x", MaxReasonBytes+1) }), CodeInvalid},
		"unknown reason code":           {linked(func(e *crypto.BlacklistEvent) { e.ReasonCode = "tampered_binary" }), CodeInvalid},
		"reason code without reporter":  {linked(func(e *crypto.BlacklistEvent) { e.ReasonCode = "abuse_spam" }), CodeInvalid},
		"evidence is no hash":           {linked(func(e *crypto.BlacklistEvent) { e.EvidenceHashSHA256 = strings.Repeat("Z", 64) }), CodeInvalid},
		"newline in the agent id":       {linked(func(e *crypto.BlacklistEvent) { e.AgentID = "a\nb" }), CodeInvalid},
		"time out of the window":        {linked(func(e *crypto.BlacklistEvent) { e.TimestampMs -= DefaultSkewMs + 1 }), CodeInvalid},
		"key that is no key":            {linked(func(e *crypto.BlacklistEvent) { e.ReporterPublicKeyPEM = "x" }), CodeInvalid},
		"no signature":                  {afterLink(func(b *BlacklistAppend) { b.Event.CoordinatorSignature = "" }), CodeInvalid},
		"changed after the link":        {afterLink(func(b *BlacklistAppend) { b.Event.Reason += "!" }), CodeInvalid},
		"hash of something else":        {afterLink(func(b *BlacklistAppend) { b.Event.EventHash = crypto.Sum(nil).String() }), CodeInvalid},
		"unknown coordinator":           {w.banOf("a", "e1", "n9", nil), CodeInvalid},
		"verified without a key":        {report(func(b *BlacklistAppend) { b.ReporterKey = nil }), CodeInvalid},
		"another key than carried":      {report(func(b *BlacklistAppend) { b.ReporterKey = &otherRef; b.Event.ReporterID = "a" }), CodeInvalid},
		"no reporter signature":         {report(func(b *BlacklistAppend) { b.Event.ReporterSignature = "" }), CodeInvalid},
		"another agent's id":            {report(func(b *BlacklistAppend) { b.Event.ReporterID = "a" }), CodeInvalid},
		"reporter unknown":              {report(func(b *BlacklistAppend) { b.Event.ReporterID = "nobody" }), CodeInvalid},
	}
	for name, c := range cases {
		if res := w.do(operator, c.b); res.Code != c.want {
			t.Errorf("%s: %s (%s: %s), want %s", name, res.Code, res.Field, res.Detail, c.want)
		}
	}
	w.must(w.do(operator, w.banOf("r", "e2", "n0", nil)))
	w.want(w.do(operator, w.reportOf("a", "r", "e3")), CodeInvalid) // a banned reporter does not count
	verifyChain(t, w.s, w.history, 2)
}

func TestP3AppendOnlyRetiredKeySignsNoMore(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(operator, w.banOf("a", "e1", "n1", nil)))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
	w.want(w.do(operator, w.banOf("b", "e2", "n1", nil)), CodeInvalid)
	verifyChain(t, w.s, w.history, 1) // what it signed before stays good
}

func TestBanListsInForceOnly(t *testing.T) {
	w := genesisWorld(t)
	soon := w.wallMs + 1000
	for _, b := range []struct {
		agent   string
		expires *int64
	}{{"c", nil}, {"a", nil}, {"b", &soon}} {
		w.must(w.do(operator, w.banOf(b.agent, "e-"+b.agent, "n0", b.expires)))
	}
	w.pass(1001)
	list := w.s.Bans("", 10, w.s.ClockMs())
	if len(list) != 2 || list[0].AgentID != "a" || list[1].AgentID != "c" {
		t.Errorf("in force: %+v", list)
	}
	if list := w.s.Bans("a", 1, w.s.ClockMs()); len(list) != 1 || list[0].AgentID != "c" {
		t.Errorf("after a: %+v", list)
	}
	if _, ok := w.s.Ban("b", w.s.ClockMs()); ok {
		t.Error("an expired ban is in force")
	}
}

// A ban set again and again leaves stale expiries, which must not pile up.
func TestExpiryIndexStaysSmall(t *testing.T) {
	w := genesisWorld(t)
	for i := range 500 {
		expires := w.wallMs + MaxTokenTTLMs + int64(i)
		w.must(w.do(operator, w.banOf("a", fmt.Sprint("e", i), "n0", &expires)))
	}
	if n := len(w.s.expiries); n > 100 {
		t.Errorf("%d expiries for one ban", n)
	}
}

func eventWith(reason string) crypto.BlacklistEvent {
	e := eventOf("a", "e", worldStart)
	e.Reason = reason
	return e
}

// A ban that ends before it begins is what followers of the chain read as a
// lift: nobody may write one that names a ban in force.
func TestBanThatEndsBeforeItBegins(t *testing.T) {
	for level, want := range map[uint32]Code{LevelRecovery: CodeOK, LevelProfiles: CodeInvalid} { // older logs may hold one
		w := genesisWorld(t)
		w.s.meta.v.Level = level
		w.must(w.do(operator, w.banOf("x", "e1", "n0", nil)))
		ban, _ := w.s.Ban("x", w.s.ClockMs())
		for id, ends := range map[string]int64{"e2": 109_000, "e3": 110_000} {
			e := eventOf("x", id, w.s.ClockMs()+110_000)
			e.EvidenceHashSHA256 = ban.EventHash.String()
			e.ExpiresAtMs = new(w.s.ClockMs() + ends)
			w.want(w.do(operator, w.linked(e, "n0", false)), want)
		}
		e := eventOf("x", "e4", w.s.ClockMs()+110_000)
		e.ExpiresAtMs = new(w.s.ClockMs() + 110_001)
		w.must(w.do(operator, w.linked(e, "n0", false)))
		w.must(w.do(operator, w.liftOf("x", "e5", "n0")))
	}
}
