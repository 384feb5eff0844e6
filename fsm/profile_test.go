package fsm

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// The policy says who may sign how; what it does not say is as it always was.
func TestProfilesPolicy(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	n := 0
	verdict := func(agent string, profile crypto.Profile) Code {
		n++
		c := claimOf(agent, fmt.Sprint("n", n), w.wallMs, "")
		c.Profile = profile
		return w.verdict(c)
	}
	for _, tt := range []struct {
		rule  ProfileRule
		agent map[string]ProfileRule
		five  map[string]Code
	}{
		{ProfilesAny, nil, map[string]Code{"a": CodeOK, "b": CodeOK}},
		{ProfilesRFC9421, nil, map[string]Code{"a": CodeProfileRefused, "b": CodeProfileRefused}},
		{ProfilesRFC9421, map[string]ProfileRule{"b": ProfilesAny}, map[string]Code{"a": CodeProfileRefused, "b": CodeOK}},
		{ProfilesAny, map[string]ProfileRule{"a": ProfilesRFC9421}, map[string]Code{"a": CodeProfileRefused, "b": CodeOK}},
	} {
		w.pass(DefaultRateWindowMs + 1)
		w.setPolicy(func(p *Policy) { p.Profiles, p.AgentProfiles = tt.rule, tt.agent })
		for agent, want := range tt.five {
			if got := verdict(agent, crypto.ProfileFiveHeader); got != want {
				t.Errorf("%s, %v: five headers of %s: %s, want %s", tt.rule, tt.agent, agent, got, want)
			}
			if got := verdict(agent, 7); got != want { // a profile of a later binary is no message signature
				t.Errorf("%s, %v: an unknown profile of %s: %s, want %s", tt.rule, tt.agent, agent, got, want)
			}
			if got := verdict(agent, crypto.ProfileRFC9421); got != CodeOK {
				t.Errorf("%s, %v: message signature of %s: %s", tt.rule, tt.agent, agent, got)
			}
		}
	}
	if got := verdict("nobody", crypto.ProfileFiveHeader); got != CodeUnknownAgent {
		t.Errorf("an unknown agent: %s", got)
	}
}

// wantFirstAnswer asks again for an admitted claim, at the log and at a replica.
func (w *world) wantFirstAnswer(c Claim, first ClaimResult) {
	w.t.Helper()
	first.Repeated = true
	if got := w.admit(c)[0]; got != first {
		w.t.Errorf("the retry got %+v, first %+v", got, first)
	}
	if got := w.s.Check(&c, w.wallMs); got.Code != CodeOK || !got.Repeated {
		w.t.Errorf("a replica's own check says %+v", got)
	}
}

// A policy of profiles is about admissions: who asks again gets the first answer,
// and no other claim gets anything by it.
func TestP1OnceFirstAnswerAcrossThePolicyOfProfiles(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	c := claimOf("a", "n", w.wallMs, "c1")
	first := w.admit(c)[0]
	w.setPolicy(func(p *Policy) { p.Profiles = ProfilesRFC9421 })
	w.wantFirstAnswer(c, first)
	w.wantVerdict(claimOf("a", "n", w.wallMs, "c2"), CodeReplay)
	w.wantVerdict(messageOf(claimOf("a", "n", w.wallMs, "c2"), 0), CodeReplay)
	w.wantVerdict(claimOf("a", "fresh", w.wallMs, "c3"), CodeProfileRefused)
	w.wantVerdict(claimOf("a", "fresh", w.wallMs, "c1"), CodeProfileRefused)
	w.setPolicy(func(p *Policy) { p.Profiles = ProfilesAny })
	w.wantFirstAnswer(c, first)
}

// The signature's own end is judged at the state's clock, equality accepted, on
// replicas too; it neither shortens nor lengthens what is remembered.
func TestExpiryOfAClaim(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	signed := w.wallMs
	c := messageOf(claimOf("a", "n", signed, "c1"), signed+5_000)
	late := messageOf(claimOf("a", "late", signed, "c2"), signed+5_000)
	first := w.admit(c)[0]
	w.wallMs += 5_000
	w.wantVerdict(messageOf(claimOf("a", "just", signed, ""), signed+5_000), CodeOK)
	if got := w.s.Check(&late, w.wallMs); got.Code != CodeOK {
		t.Errorf("a replica, at the end: %s", got.Code)
	}
	w.wallMs++
	w.wantVerdict(late, CodeTimestampSkew)
	if got := w.s.Check(&late, w.wallMs); got.Code != CodeTimestampSkew {
		t.Errorf("a replica, past the end: %s", got.Code)
	}
	w.wantFirstAnswer(c, first) // P1: the timestamp is in the window
	other := claimOf("a", "n", signed, "c9")
	w.wantVerdict(other, CodeReplay)
	w.wantVerdict(messageOf(claimOf("a", "far", signed-DefaultSkewMs-10_000, ""), w.wallMs+60_000), CodeTimestampSkew)
	w.pass(signed + DefaultSkewMs - w.wallMs)
	w.wantFirstAnswer(c, first)
	w.wallMs++
	w.wantVerdict(c, CodeTimestampSkew)
	w.pass(DefaultSkewMs)
	w.mark()
	if n := w.s.Sizes()["nonces"]; n != 0 {
		t.Errorf("%d nonces are remembered after their window", n)
	}
}

// P1 and W4: whatever happened before, a request in the five headers is not
// admitted while policy wants message signatures of its agent.
func TestPropertyPolicyNeverAdmitsADowngrade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		admitted := 0
		for i := range rapid.IntRange(1, 80).Draw(t, "commands") {
			before := w.s.Policy()
			res := w.apply(w.draw(t, i))
			l := w.log[len(w.log)-1]
			if l.cmd.Kind != KindAdmitBatch || !res.OK() {
				continue
			}
			b, err := BodyOf[AdmitBatch](l.cmd)
			if err != nil {
				t.Fatal(err)
			}
			for j, c := range b.Claims {
				if res.Claims[j].Code != CodeOK || res.Claims[j].Repeated { // a first answer was judged when it was made
					continue
				}
				admitted++
				rule := before.Profiles
				if own, ok := before.AgentProfiles[c.AgentID]; ok {
					rule = own
				}
				if rule == ProfilesRFC9421 && c.Profile != crypto.ProfileRFC9421 {
					t.Fatalf("index %d: %s is admitted in profile %s under %s", l.index, c.AgentID, c.Profile, rule)
				}
				if c.ExpiresMs != 0 && res.ClockMs > c.ExpiresMs {
					t.Fatalf("index %d: admitted at %d, the signature ended at %d", l.index, res.ClockMs, c.ExpiresMs)
				}
			}
		}
	})
}

// A policy that says nothing of profiles has the bytes and the history that it
// always had; one that does names whom it exempts.
func TestProfilesInHistoryAndEncoding(t *testing.T) {
	plain, err := Encode(DefaultPolicy())
	if err != nil || plain[0] != 0xa4 { // a map of the four members
		t.Errorf("a policy without rules: %x, %v", plain, err)
	}
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelClients
	last := func() string {
		records := recordsOf(t, w.history, StreamAdmin)
		var r AdminRecord
		if err := Decode(records[len(records)-1].Data, &r); err != nil {
			t.Fatal(err)
		}
		return r.Detail
	}
	if got := last(); strings.Contains(got, "profiles") {
		t.Errorf("without rules history says %q", got)
	}
	w.setPolicy(func(p *Policy) {
		p.Profiles = ProfilesRFC9421
		p.AgentProfiles = map[string]ProfileRule{"strict": ProfilesRFC9421}
		for i := range 40 {
			p.AgentProfiles[fmt.Sprintf("old %02d", i)] = ProfilesAny
		}
	})
	got := last()
	if !strings.Contains(got, `signature_profiles=rfc9421 agent_profiles=41 signature_profiles=any->rfc9421 "old 00"=unset->any "old 01"`) ||
		!strings.HasSuffix(got, ` "old 39"=unset->any "strict"=unset->rfc9421`) {
		t.Errorf("history says %q", got)
	}
	w.s.meta.v.Level = LevelProfiles // where binaries that compare this record name 32 agents, and only their rule
	w.setPolicy(func(p *Policy) { p.MaxSkewMs++ })
	if got := last(); !strings.Contains(got, `agent_profiles=41 "old 00"=any "old 01"=any`) || !strings.HasSuffix(got, ` "old 31"=any`) {
		t.Errorf("at level 3 history says %q", got)
	}
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if p := back.Policy(); p.Profiles != ProfilesRFC9421 || p.AgentProfiles["old 03"] != ProfilesAny || len(p.AgentProfiles) != 41 || back.NeedsLevel() != LevelProfiles {
		t.Errorf("a snapshot keeps %+v", p)
	}
}

// Whoever loosens a rule is on record with it, however many others stand beside.
func TestNoLooserRuleIsHidden(t *testing.T) {
	rules := func(changed string, rule ProfileRule) map[string]ProfileRule {
		out := map[string]ProfileRule{}
		for i := range MaxOverrides - 1 {
			out[fmt.Sprintf("aaa-%03d", i)] = ProfilesAny
		}
		out[changed] = rule
		return out
	}
	for name, tt := range map[string]struct {
		was, is Policy
		want    string // what the changes begin with
	}{
		"among exempt ones": {Policy{Profiles: ProfilesRFC9421, AgentProfiles: rules("victim", ProfilesRFC9421)}, Policy{Profiles: ProfilesRFC9421, AgentProfiles: rules("victim", ProfilesAny)},
			`"victim"=rfc9421->any`},
		"a new exemption": {Policy{Profiles: ProfilesRFC9421, AgentProfiles: rules("aaa-1000", ProfilesAny)}, Policy{Profiles: ProfilesRFC9421, AgentProfiles: rules("victim", ProfilesAny)},
			`"victim"=unset->any "aaa-1000"=any->unset`},
		"under any":         {Policy{AgentProfiles: map[string]ProfileRule{"victim": ProfilesRFC9421}}, Policy{AgentProfiles: map[string]ProfileRule{"victim": ProfilesAny}}, `"victim"=rfc9421->any`},
		"its rule removed":  {Policy{AgentProfiles: map[string]ProfileRule{"victim": ProfilesRFC9421}}, Policy{}, `"victim"=rfc9421->unset`},
		"behind tightening": {Policy{AgentProfiles: map[string]ProfileRule{"z": ProfilesRFC9421}}, Policy{AgentProfiles: map[string]ProfileRule{"a": ProfilesRFC9421}}, `"z"=rfc9421->unset "a"=unset->rfc9421`},
		"for all":           {Policy{Profiles: ProfilesRFC9421}, Policy{}, `signature_profiles=rfc9421->any`},
		"exempt by the rest": {Policy{AgentProfiles: map[string]ProfileRule{"victim": ProfilesAny}}, Policy{Profiles: ProfilesRFC9421, AgentProfiles: map[string]ProfileRule{"victim": ProfilesAny}},
			`signature_profiles=any->rfc9421 "victim"=any->any`},
	} {
		if got := strings.Join(ruleChanges(tt.was, tt.is), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if text := tt.is.summary(tt.was); !strings.HasSuffix(text, tt.want) {
			t.Errorf("%s: history says %q", name, text)
		}
	}
	worst := func(rule ProfileRule, sign string) Policy { // \u0378 is not assigned: quoted it has six bytes for two
		p := DefaultPolicy()
		p.AgentProfiles = map[string]ProfileRule{}
		for i := range MaxOverrides {
			p.AgentProfiles[fmt.Sprintf("%s%04d", strings.Repeat("\u0378", 61), i)+sign] = rule
		}
		if field, fault := p.Validate(); fault != "" {
			t.Fatal(field, fault)
		}
		return p
	}
	w := genesisWorld(t)
	w.setPolicy(func(p *Policy) { *p = worst(ProfilesRFC9421, "a") })
	w.setPolicy(func(p *Policy) { *p = worst(ProfilesAny, "b") })
	if _, records := restored(t, snapshotOf(t, w.s, w.history)); len(records) != len(recordsOf(t, w.history, StreamAdmin)) {
		t.Errorf("%d records came back", len(records))
	}
}

// A restore makes nobody's rule looser than it is, nor than it was in the backup.
func TestPropertyRestoreKeepsTheStricterRules(t *testing.T) {
	ids := []string{"a", "b", "c"}
	draw := func(t *rapid.T, name string) Policy {
		p := DefaultPolicy()
		p.Profiles = ProfileRule(rapid.IntRange(0, 1).Draw(t, name))
		for _, id := range ids {
			if rule := rapid.IntRange(-1, 1).Draw(t, name+" "+id); rule >= 0 {
				if p.AgentProfiles == nil {
					p.AgentProfiles = map[string]ProfileRule{}
				}
				p.AgentProfiles[id] = ProfileRule(rule)
			}
		}
		return p
	}
	rapid.Check(t, func(t *rapid.T) {
		backup, present := draw(t, "backup"), draw(t, "present")
		next := backup.stricterRules(present)
		for _, id := range append(ids, "without a rule") {
			if want := max(backup.profilesOf(id), present.profilesOf(id)); next.profilesOf(id) != want {
				t.Fatalf("%s: %s, want %s", id, next.profilesOf(id), want)
			}
			own := func(p Policy) bool { rule, ok := p.AgentProfiles[id]; return ok && rule == ProfilesRFC9421 }
			if (own(backup) || own(present)) && !own(next) {
				t.Fatalf("%s loses the strict rule of its own", id)
			}
		}
		if !sameEncoding(backup.stricterRules(backup), backup) {
			t.Fatal("with itself it becomes another")
		}
	})
}

func TestRestoreKeepsTheStricterRules(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.setPolicy(func(p *Policy) { p.MaxSkewMs, p.AgentProfiles = 90_000, map[string]ProfileRule{"b": ProfilesRFC9421} })
	backup, h := backupOf(t, w)
	w.setPolicy(func(p *Policy) {
		p.MaxSkewMs, p.Profiles, p.AgentProfiles = 60_000, ProfilesRFC9421, map[string]ProfileRule{"b": ProfilesAny}
	})
	u := Compare(backup, w.s)
	if fmt.Sprint(u.RulesKept) != "[signature_profiles=any->rfc9421]" || fmt.Sprint(u.RulesNew) != `["b"=any->rfc9421]` {
		t.Errorf("the plan says kept %q, new %q", u.RulesKept, u.RulesNew)
	}
	r := restoreWorld(t, w, backup, h, w.wallMs)
	if p := r.s.Policy(); p.Profiles != ProfilesRFC9421 || p.AgentProfiles["b"] != ProfilesRFC9421 || p.MaxSkewMs != 90_000 {
		t.Errorf("the policy is %+v", p)
	}
	records := recordsOf(t, r.history, StreamAdmin)
	if last := string(records[len(records)-1].Data); !strings.Contains(last, `; "b"=any->rfc9421`) {
		t.Errorf("the record is %q", last)
	}
	r.jump(r.s.Recovering())
	r.wantVerdict(claimOf("a", "n1", r.wallMs, ""), CodeProfileRefused)

	both := func(prefix string) map[string]ProfileRule {
		out := map[string]ProfileRule{}
		for i := range MaxOverrides {
			out[fmt.Sprint(prefix, i)] = ProfilesRFC9421
		}
		return out
	}
	w.setPolicy(func(p *Policy) { p.Profiles, p.AgentProfiles = ProfilesAny, both("x") })
	full, _ := backupOf(t, w)
	w.setPolicy(func(p *Policy) { p.AgentProfiles = both("y") })
	if _, _, err := Restored(full, w.s, recoveryAt(w.wallMs, "restore")); err == nil || !strings.Contains(err.Error(), "agent_profiles: rules for 2000 agents") {
		t.Errorf("more rules than there is room for: %v", err)
	}
}

func TestProfileRuleNames(t *testing.T) {
	for _, r := range []ProfileRule{ProfilesAny, ProfilesRFC9421} {
		if back, err := ParseProfileRule(r.String()); err != nil || back != r {
			t.Errorf("%s: %v", r, err)
		}
	}
	for _, s := range []string{"", "Any", "rule 2", "five-header"} {
		if r, err := ParseProfileRule(s); err == nil {
			t.Errorf("%q is read as %s", s, r)
		}
	}
}

// LevelOf keeps from the log what an older server could not read.
func TestLevelOfAPolicy(t *testing.T) {
	for name, tt := range map[string]struct {
		body any
		want uint32
	}{
		"plain policy": {PolicySet{Policy: DefaultPolicy()}, 0},
		"rule":         {PolicySet{Policy: Policy{Profiles: ProfilesRFC9421}}, LevelProfiles},
		"agent's rule": {PolicySet{Policy: Policy{AgentProfiles: map[string]ProfileRule{"a": ProfilesAny}}}, LevelProfiles},
		"recovery":     {ClockRecover{}, LevelRecovery},
		"tick":         {Tick{}, 0},
	} {
		cmd, err := New(admin, tt.body)
		if err != nil {
			t.Fatal(err)
		}
		if got := LevelOf(cmd); got != tt.want {
			t.Errorf("%s: level %d, want %d", name, got, tt.want)
		}
	}
}
