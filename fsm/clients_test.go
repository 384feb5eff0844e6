package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

func clientsWorld(t *testing.T, ids ...string) *world {
	w := genesisWorld(t)
	w.s.meta.v.Level = LevelClients
	w.enroll(ids...)
	return w
}

// TestP1AgentsAskForThemselves: what an agent asks for itself is admitted once,
// its very repetition gets the first answer, and the rate window of what services
// ask is left alone.
func TestP1AgentsAskForThemselves(t *testing.T) {
	w := clientsWorld(t, "a")
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: 2, WindowMs: 60_000} })
	ask := func(c Claim) ClaimResult {
		c.Caller = 0
		return w.must(w.do(Actor{NodeID: "n0"}, AdmitBatch{Callers: []string{SelfCaller}, Claims: []Claim{c}})).Claims[0]
	}
	for _, nonce := range []string{"1", "2", "3", "4"} {
		c := claimOf("a", nonce, w.wallMs, "")
		if got := ask(c); got.Code != CodeOK || got.Repeated {
			t.Fatalf("%s: %+v", nonce, got)
		}
		if got := ask(c); got.Code != CodeOK || !got.Repeated {
			t.Fatalf("%s again: %+v", nonce, got)
		}
		c.Tag[0]++
		if got := ask(c); got.Code != CodeReplay {
			t.Fatalf("%s for something else: %+v", nonce, got)
		}
	}
	w.wantVerdict(claimOf("a", "1", w.wallMs, "service"), CodeReplay) // one space of nonces
	w.wantVerdict(claimOf("a", "5", w.wallMs, "s5"), CodeOK)
	w.wantVerdict(claimOf("a", "6", w.wallMs, "s6"), CodeOK)
	w.wantVerdict(claimOf("a", "7", w.wallMs, "s7"), CodeRateLimited)
	w.must(w.do(operator, w.banOf("a", "e1", "n0", nil)))
	if got := ask(claimOf("a", "8", w.wallMs, "")); got.Code != CodeBlacklisted {
		t.Errorf("banned: %+v", got)
	}
	w.s.meta.v.Level = LevelProfiles // older binaries know no such caller
	if got := ask(claimOf("a", "9", w.wallMs, "")); got.Code != CodeUnauthorized || w.s.CheckCaller(SelfCaller, w.wallMs) != CodeUnauthorized {
		t.Errorf("below the level: %+v", got)
	}
}

// TestW4DowngradeIsForOneAgentAndInHistory: policy may name agents that need not
// sign, each with a reading token of its own.
func TestW4DowngradeIsForOneAgentAndInHistory(t *testing.T) {
	w := clientsWorld(t)
	text := crypto.TokenText{ClusterID: "00112233445566778899aabbccddeeff", Role: "mesh", ID: "0011223344556677", Secret: strings.Repeat("ab", 32)}
	w.must(w.do(admin, TokenCreate{ID: text.ID, Hash: text.Hash(), Role: RoleMesh, Uses: -1}))
	set := func(change func(*Policy)) Result {
		p := w.s.Policy()
		change(&p)
		return w.do(admin, PolicySet{IfVersion: p.Version, Policy: p})
	}
	other := text
	other.Secret = strings.Repeat("cd", 32)
	for name, change := range map[string]func(*Policy){
		"no token":          func(p *Policy) { p.UnsignedAgents = map[string]string{"phone": "nothing"} },
		"a token that acts": func(p *Policy) { p.UnsignedAgents = map[string]string{"phone": "operator"} },
		"one for two":       func(p *Policy) { p.UnsignedAgents = map[string]string{"phone": "mesh", "other": "mesh"} },
		"no id":             func(p *Policy) { p.UnsignedAgents = map[string]string{"": "mesh"} },
		"legacy garbage":    func(p *Policy) { p.LegacyMesh = "secret" },
		"legacy forged":     func(p *Policy) { p.LegacyMesh = other.String() },
		"legacy too long":   func(p *Policy) { p.LegacyMesh = strings.Repeat("x", MaxTokenBytes+1) },
		"legacy and one's": func(p *Policy) {
			p.UnsignedAgents, p.LegacyMesh = map[string]string{"phone": text.ID}, text.String()
		},
		"too many": func(p *Policy) {
			p.UnsignedAgents = map[string]string{}
			for i := range MaxUnsignedAgents + 1 {
				p.UnsignedAgents[string(rune('a'+i/26))+string(rune('a'+i%26))] = string(rune('a' + i))
			}
		},
	} {
		if res := set(change); res.Code != CodeInvalid {
			t.Errorf("%s: %+v", name, res)
		}
	}
	good := func(p *Policy) { p.UnsignedAgents, p.LegacyMesh = map[string]string{"phone": "mesh"}, text.String() }
	w.must(set(good))
	records := recordsOf(t, w.history, StreamAdmin)
	last := string(records[len(records)-1].Data)
	if !strings.Contains(last, `"phone"=token:mesh`) || !strings.Contains(last, "legacy_mesh_token="+text.ID) || strings.Contains(last, text.Secret) {
		t.Errorf("history has %q", last)
	}
	p := w.s.Policy()
	if cmd, err := New(admin, PolicySet{Policy: p}); err != nil || LevelOf(cmd) != LevelClients || w.s.NeedsLevel() != LevelClients {
		t.Errorf("level %d of the state, %v", w.s.NeedsLevel(), err)
	}
	w.must(w.do(admin, TokenRevoke{ID: "mesh"}))
	w.must(set(func(p *Policy) { p.AutoApprove = false })) // a token that ended stops no other change
	w.must(set(func(p *Policy) { p.LegacyMesh = "" }))
	told := func(p *Policy) { p.UnsignedAgents = map[string]string{"phone": text.ID} }
	if res := set(told); res.Code != CodeInvalid || !strings.Contains(res.Detail, "every agent was told") {
		t.Errorf("a token that all know stands for one agent: %+v", res)
	}
	restored(t, snapshotOf(t, w.s, w.history))
	if code := w.s.Stands("phone", w.wallMs); code != CodeOK {
		t.Errorf("nobody: %s", code)
	}
}

// TestP6AgentsAskForThemselvesWithinBounds: one agent has a share of the nonces,
// all agents together have half, and services have the rest.
func TestP6AgentsAskForThemselvesWithinBounds(t *testing.T) {
	w := clientsWorld(t, "a", "b")
	nonces := 0
	ask := func(agent string, aheadMs int64) ClaimResult {
		nonces++
		c := claimOf(agent, fmt.Sprint("n", nonces), w.wallMs+aheadMs, "")
		c.Caller = 0
		return w.must(w.do(Actor{NodeID: "n0"}, AdmitBatch{Callers: []string{SelfCaller}, Claims: []Claim{c}})).Claims[0]
	}
	limit := w.s.policy.v.SelfLimit()
	if limit.WindowMs != 2*DefaultSkewMs || limit.Requests != 480 {
		t.Fatalf("limit %+v", limit)
	}
	before := w.s.nonces.size()
	for i := range limit.Requests {
		w.pass(i % 2)
		if got := ask("a", DefaultSkewMs); got.Code != CodeOK {
			t.Fatalf("%d: %+v", i, got)
		}
	}
	if got := ask("a", 0); got.Code != CodeRateLimited || got.RetryAfterMs <= 0 {
		t.Fatalf("one more: %+v", got)
	}
	if got := ask("b", 0); got.Code != CodeOK {
		t.Errorf("another agent: %+v", got)
	}
	w.wantVerdict(claimOf("a", "of a service", w.wallMs, "x"), CodeOK)
	w.mark()
	w.s, _ = restored(t, snapshotOf(t, w.s, w.history))
	if got := ask("a", 0); got.Code != CodeRateLimited {
		t.Errorf("after a snapshot: %+v", got)
	}
	if total := w.s.selves.total; total != 481 {
		t.Errorf("%d are counted", total)
	}

	w.s.selves.total = MaxSelfNonces
	if got := ask("b", 0); got.Code != CodeOverloaded {
		t.Errorf("all agents have half: %+v", got)
	}
	w.wantVerdict(claimOf("b", "of a service", w.wallMs, "y"), CodeOK)
	w.s.selves.total = 481

	// When the windows are over, so are the nonces that they counted.
	w.pass(limit.WindowMs + NonceBucketMs + 1)
	w.mark()
	if w.s.selves.total != 0 || w.s.selves.size() != 0 || w.s.nonces.size() > before {
		t.Errorf("left over: %d claims, %d windows, %d nonces", w.s.selves.total, w.s.selves.size(), w.s.nonces.size())
	}
	if err := w.s.Validate(w.wallMs); err != nil {
		t.Error(err)
	}
}
