package fsm

import (
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/crypto"
)

// P8: without a valid token nothing is writable, whatever the proposing node
// believed: the token is asked at the index of the command.

// The matrix of CONTRACT.md. Join and enrolment tokens open only those; what an
// edge may do it does with the credential that it joined for, not with its join token.
func TestP8ClosedRoles(t *testing.T) {
	matrix := map[Role][]Capability{
		RoleCoordinator: {CapJoinVoter},
		RoleObserver:    {CapJoinObserver},
		RoleEdge:        {CapJoinEdge},
		RoleAgent:       {CapEnroll},
		RoleEdgeMember:  {CapAdmit, CapReadTrust, CapReadStatus},
		RoleMesh:        {CapReadTrust, CapReadLedger},
		RoleVerifier:    {CapAdmit, CapReadTrust},
		RoleViewer:      {CapReadTrust, CapReadStatus, CapReadLedger, CapReadOps},
		RoleOperator:    {CapAdmit, CapReadTrust, CapReadStatus, CapReadLedger, CapReadOps, CapOperate},
		RoleAdmin:       {CapAdmit, CapReadTrust, CapReadStatus, CapReadLedger, CapReadOps, CapOperate, CapAdmin},
		"nobody":        nil,
		"":              nil,
	}
	for role, has := range matrix {
		var want Capability
		for _, c := range has {
			want |= c
		}
		for c := CapAdmit; c <= CapEnroll; c <<= 1 {
			if got := role.Can(c); got != (want&c != 0) {
				t.Errorf("role %q, capability %b: %t", role, c, got)
			}
		}
		if role.Known() != (len(has) > 0 && role != RoleEdgeMember) { // which joining alone gives
			t.Errorf("role %q known: %t", role, role.Known())
		}
	}
	if len(capabilities) != len(matrix)-2 {
		t.Errorf("%d roles, the matrix has %d", len(capabilities), len(matrix)-2)
	}
}

// Each mutation is tried with each role's token; only those of the matrix pass.
func TestP8ClosedMutations(t *testing.T) {
	tokens := []Role{RoleCoordinator, RoleObserver, RoleEdge, RoleAgent, RoleMesh, RoleVerifier, RoleViewer, RoleOperator, RoleAdmin, "unknown"}
	cases := map[string]struct {
		body    func(w *world) any
		allowed []Role
	}{
		"token create":      {func(*world) any { return TokenCreate{ID: "t", Role: RoleViewer, Uses: -1} }, []Role{RoleAdmin}},
		"token revoke":      {func(*world) any { return TokenRevoke{ID: "mesh"} }, []Role{RoleAdmin}},
		"policy":            {func(w *world) any { return PolicySet{IfVersion: w.s.Policy().Version, Policy: w.s.Policy()} }, []Role{RoleAdmin}},
		"enrol":             {func(*world) any { return AgentEnroll{AgentID: "new", PublicKey: publicKey("new")} }, []Role{RoleAgent}},
		"suspend":           {func(*world) any { return AgentSetState{AgentID: "a", State: AgentSuspended} }, []Role{RoleOperator, RoleAdmin}},
		"revoke":            {func(*world) any { return AgentSetState{AgentID: "a", State: AgentRevoked} }, []Role{RoleAdmin}},
		"ban":               {func(w *world) any { return w.banOf("a", "e", "n0", nil) }, []Role{RoleOperator, RoleAdmin}},
		"join as voter":     {func(*world) any { return CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)} }, []Role{RoleCoordinator}},
		"join as observer":  {func(*world) any { return CoordinatorJoin{Coordinator: nodeOf("n1", RoleObserver)} }, []Role{RoleObserver}},
		"join as an admin":  {func(*world) any { return CoordinatorJoin{Coordinator: nodeOf("n1", RoleAdmin)} }, nil},
		"remove":            {func(*world) any { return CoordinatorRemove{ID: "n2"} }, []Role{RoleAdmin}},
		"update of another": {func(*world) any { return CoordinatorUpdate{ID: "n2", API: "x:1", Raft: "x:2", Gossip: "x:3"} }, nil},
		"genesis again":     {func(*world) any { return genesisOf("n9") }, nil},
		"begin a restore":   {func(*world) any { return RestoreBegin{} }, []Role{RoleAdmin}},
		"clock recovery": {func(w *world) any {
			w.must(w.doAt(w.wallMs+1000, Actor{}, nil, Tick{}))
			return ClockRecover{Voters: 1, Walls: walls(w.wallMs, 0)}
		}, []Role{RoleAdmin}},
	}
	for name, c := range cases {
		for _, role := range tokens {
			w := genesisWorld(t)
			w.enroll("a")
			w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n2", RoleCoordinator)}))
			res := w.do(Actor{TokenID: string(role), NodeID: "n1"}, c.body(w))
			may := false
			for _, r := range c.allowed {
				may = may || r == role
			}
			if res.OK() != may {
				t.Errorf("%s with a token of role %s: %s (%s)", name, role, res.Code, res.Detail)
			}
		}
	}
}

func TestP8ClosedAdmissions(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	callers := []string{"verifier", "operator", "admin", "viewer", "mesh", "agent", "nobody", ""}
	want := []Code{CodeOK, CodeOK, CodeOK, CodeForbidden, CodeForbidden, CodeForbidden, CodeUnauthorized, CodeUnauthorized}
	for i := range callers {
		c := claimOf("a", "n"+callers[i], w.wallMs, "")
		c.Caller = uint16(i)
		res := w.must(w.do(Actor{}, AdmitBatch{Callers: callers, Claims: []Claim{c}}))
		if res.Claims[0].Code != want[i] {
			t.Errorf("caller %q: %s, want %s", callers[i], res.Claims[0].Code, want[i])
		}
		if got := w.s.CheckCaller(callers[i], w.wallMs); got != want[i] {
			t.Errorf("caller %q beforehand: %s, want %s", callers[i], got, want[i])
		}
	}
	c := claimOf("a", "n", w.wallMs, "")
	c.Caller = 7
	if got := w.must(w.do(Actor{}, AdmitBatch{Callers: []string{"verifier"}, Claims: []Claim{c}})).Claims[0].Code; got != CodeUnauthorized {
		t.Errorf("a caller out of range: %s", got)
	}
}

func TestP8ClosedAgents(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.AutoApprove = false })
	w.enroll("pending")
	foreign := claimOf("a", "n", w.wallMs, "")
	foreign.Key = keyRef("pending")
	w.wantVerdict(claimOf("nobody", "n", w.wallMs, ""), CodeUnknownAgent)
	w.wantVerdict(claimOf("pending", "n", w.wallMs, ""), CodeAgentNotActive)
	w.wantVerdict(foreign, CodeInvalidSignature)
	w.must(w.do(operator, AgentSetState{AgentID: "pending", State: AgentActive}))
	w.wantVerdict(claimOf("pending", "n", w.wallMs, ""), CodeOK)

	// A key counts only inside its window, both ends included.
	a, _ := w.s.Agent("a")
	ref := keyRef("a")
	a.Keys = Ring{{Public: publicKey("a"), NotBeforeMs: 100, NotAfterMs: 200}}
	for now, want := range map[int64]Code{99: CodeKeyExpired, 100: CodeOK, 200: CodeOK, 201: CodeKeyExpired} {
		if got := a.keyCode(ref, now); got != want {
			t.Errorf("key at %d: %s, want %s", now, got, want)
		}
	}
}

func TestP8ClosedTokenEndsBetweenProposalAndApply(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.must(w.do(admin, TokenCreate{ID: "short", Role: RoleVerifier, Uses: -1, ExpiresMs: w.wallMs + 1000}))
	batch := func(caller, nonce string) Code {
		return w.must(w.do(Actor{}, AdmitBatch{Callers: []string{caller}, Claims: []Claim{claimOf("a", nonce, w.wallMs, "")}})).Claims[0].Code
	}
	w.wallMs += 1000
	if got := batch("short", "n1"); got != CodeOK {
		t.Errorf("at its last moment: %s", got)
	}
	w.wallMs++
	if got := batch("short", "n2"); got != CodeUnauthorized {
		t.Errorf("after its end: %s", got)
	}
	proposed, err := New(operator, w.banOf("a", "e1", "n0", nil))
	if err != nil {
		t.Fatal(err)
	}
	proposed.AtMs = w.wallMs
	w.must(w.do(admin, TokenRevoke{ID: "operator"}))
	w.want(w.apply(proposed), CodeUnauthorized)
	w.must(w.do(admin, TokenRevoke{ID: "verifier"}))
	if got := batch("verifier", "n3"); got != CodeUnauthorized {
		t.Errorf("after its revocation: %s", got)
	}
}

func TestP8ClosedTokenUses(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(admin, TokenCreate{ID: "once", Role: RoleAgent, Uses: 1}))
	once := Actor{TokenID: "once"}
	w.want(w.do(once, AgentEnroll{AgentID: "a", PublicKey: crypto.PublicKey{}}), CodeInvalid) // a refusal uses nothing up
	first := w.must(w.do(once, AgentEnroll{AgentID: "a", PublicKey: publicKey("a")}))
	w.want(w.do(once, AgentEnroll{AgentID: "b", PublicKey: publicKey("b")}), CodeUnauthorized)
	// The retry of the very enrolment whose answer was lost is answered, no other.
	again := w.must(w.do(once, AgentEnroll{AgentID: "a", PublicKey: publicKey("a")}))
	if !again.Repeated || again.ID != first.ID {
		t.Errorf("the retry got %+v", again)
	}
	w.want(w.do(once, AgentEnroll{AgentID: "a", PublicKey: publicKey("other")}), CodeUnauthorized)
	w.want(w.do(Actor{}, AgentEnroll{AgentID: "a", PublicKey: publicKey("a")}), CodeUnauthorized)
	if tok, _ := w.s.Token("once"); tok.State(w.wallMs) != "used" || tok.PurgeMs != w.wallMs+tokenKeepMs {
		t.Errorf("the token is %s, %+v", tok.State(w.wallMs), tok)
	}

	w.must(w.do(admin, TokenCreate{ID: "join-once", Role: RoleCoordinator, Uses: 1}))
	node := Actor{TokenID: "join-once"}
	w.must(w.do(node, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	if again := w.must(w.do(node, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)})); !again.Repeated {
		t.Errorf("the retry got %+v", again)
	}
	w.want(w.do(node, CoordinatorJoin{Coordinator: nodeOf("n2", RoleCoordinator)}), CodeUnauthorized)
	w.want(w.do(Actor{}, CoordinatorJoin{Coordinator: nodeOf("n0", RoleCoordinator)}), CodeUnauthorized)
}

// An id is bound to a key once: no token rebinds it (WEAKNESSES C2).
func TestP8ClosedEnrolmentIsNoTakeover(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.want(w.do(enroller, AgentEnroll{AgentID: "a", PublicKey: publicKey("thief")}), CodeConflict)
	if keys, _ := w.s.AgentKeys("a"); len(keys) != 1 || keys[0] != publicKey("a") {
		t.Errorf("the keys are %v", keys)
	}
	if _, ok := w.s.keyOwners.get(string(keyRefBytes("thief"))); ok {
		t.Error("the refused key is owned")
	}
	w.must(w.do(admin, AgentSetState{AgentID: "a", State: AgentRevoked}))
	w.want(w.do(admin, AgentSetState{AgentID: "a", State: AgentActive}), CodeConflict)
	w.want(w.do(enroller, AgentEnroll{AgentID: "a", PublicKey: publicKey("thief")}), CodeConflict)
	w.wantVerdict(claimOf("a", "n", w.wallMs, ""), CodeAgentNotActive)
}

func keyRefBytes(name string) []byte { ref := keyRef(name); return ref[:] }

func TestP8ClosedLastAdminStays(t *testing.T) {
	w := genesisWorld(t)
	w.want(w.do(admin, TokenRevoke{ID: "admin"}), CodeConflict)
	// One that ends tomorrow is no replacement: the day after nobody could administer.
	w.must(w.do(admin, TokenCreate{ID: "tomorrow", Role: RoleAdmin, Uses: -1, ExpiresMs: w.wallMs + 86_400_000}))
	w.want(w.do(admin, TokenRevoke{ID: "admin"}), CodeConflict)
	w.must(w.do(admin, TokenRevoke{ID: "tomorrow"}))
	w.must(w.do(admin, TokenCreate{ID: "second", Role: RoleAdmin, Uses: -1}))
	w.must(w.do(admin, TokenRevoke{ID: "admin"}))
	w.want(w.do(admin, TokenRevoke{ID: "second"}), CodeUnauthorized)
}

func TestP8ClosedBeforeGenesis(t *testing.T) {
	for _, body := range []any{Tick{Term: 1}, AdmitBatch{}, TokenCreate{ID: "t", Role: RoleAdmin, Uses: -1}, CoordinatorJoin{}, ClockRecover{}, RestoreBegin{}} {
		w := newWorld(t)
		w.want(w.do(admin, body), CodeUnavailable)
	}
	bad := map[string]func(*Genesis){
		"no cluster id":       func(g *Genesis) { g.ClusterID = "" },
		"no admin token":      func(g *Genesis) { g.AdminToken = TokenCreate{} },
		"token of a viewer":   func(g *Genesis) { g.AdminToken.Role = RoleViewer },
		"token ended":         func(g *Genesis) { g.AdminToken.ExpiresMs = 1 },
		"no coordinator":      func(g *Genesis) { g.Coordinator = Coordinator{} },
		"an observer":         func(g *Genesis) { g.Coordinator.Role = RoleObserver },
		"no signing key":      func(g *Genesis) { g.Coordinator.SigningKey = crypto.PublicKey{} },
		"certificate too big": func(g *Genesis) { g.CACert = make([]byte, MaxCACertBytes+1) },
	}
	for name, change := range bad {
		w := newWorld(t)
		g := genesisOf("n0")
		change(&g)
		if res := w.do(Actor{}, g); res.OK() {
			t.Errorf("%s: accepted", name)
		}
		if w.s.Meta().ClusterID != "" || w.s.Sizes()["tokens"] != 0 {
			t.Errorf("%s: half of it took effect", name)
		}
		w.must(w.do(Actor{}, genesisOf("n0")))
	}
	w := newWorld(t)
	w.want(w.doAt(0, Actor{}, nil, genesisOf("n0")), CodeInvalid)
}

func TestTokenForm(t *testing.T) {
	w := genesisWorld(t)
	bad := map[string]TokenCreate{
		"id taken":       {ID: "viewer", Role: RoleViewer, Uses: -1},
		"no id":          {Role: RoleViewer, Uses: -1},
		"no role":        {ID: "t", Role: "root", Uses: -1},
		"no uses":        {ID: "t", Role: RoleViewer},
		"negative uses":  {ID: "t", Role: RoleViewer, Uses: -2},
		"ended":          {ID: "t", Role: RoleViewer, Uses: -1, ExpiresMs: w.wallMs},
		"eleven years":   {ID: "t", Role: RoleViewer, Uses: -1, ExpiresMs: w.wallMs + MaxTokenTTLMs + 1},
		"negative end":   {ID: "t", Role: RoleViewer, Uses: -1, ExpiresMs: -1},
		"label too long": {ID: "t", Role: RoleViewer, Uses: -1, Label: strings.Repeat("x", MaxLabelBytes+1)},
	}
	for name, c := range bad {
		if res := w.do(admin, c); res.OK() {
			t.Errorf("%s: accepted", name)
		}
	}
	// An ended token stays listed for a week, then goes.
	w.must(w.do(admin, TokenCreate{ID: "t", Role: RoleViewer, Uses: -1, ExpiresMs: w.wallMs + 1}))
	w.must(w.do(admin, TokenRevoke{ID: "t"}))
	w.want(w.do(admin, TokenRevoke{ID: "none"}), CodeNotFound)
	w.must(w.do(admin, TokenRevoke{ID: "t"}))
	jump := w.wallMs + tokenKeepMs
	w.must(w.doAt(jump, Actor{}, nil, Tick{Term: 2, Mark: true, Voters: 1, Walls: walls(jump, 0)}))
	if tok, ok := w.s.Token("t"); !ok || tok.State(jump) != "revoked" {
		t.Errorf("listed %t as %s", ok, tok.State(jump))
	}
	w.must(w.doAt(jump+1, Actor{}, nil, Tick{Term: 2, Mark: true}))
	if _, ok := w.s.Token("t"); ok {
		t.Error("still listed after a week")
	}
}

func TestPolicyForm(t *testing.T) {
	w := genesisWorld(t)
	bad := map[string]func(*Policy){
		"no requests":      func(p *Policy) { p.RateLimit.Requests = 0 },
		"too many":         func(p *Policy) { p.RateLimit.Requests = MaxRateRequests + 1 },
		"short window":     func(p *Policy) { p.RateLimit.WindowMs = MinRateWindowMs - 1 },
		"long window":      func(p *Policy) { p.RateLimit.WindowMs = MaxRateWindowMs + 1 },
		"narrow skew":      func(p *Policy) { p.MaxSkewMs = MinSkewMs - 1 },
		"wide skew":        func(p *Policy) { p.MaxSkewMs = MaxSkewMs + 1 },
		"profile rule":     func(p *Policy) { p.Profiles = ProfilesRFC9421 + 1 },
		"agent's rule":     func(p *Policy) { p.AgentProfiles = map[string]ProfileRule{"a": ProfilesRFC9421 + 1} },
		"rule of none":     func(p *Policy) { p.AgentProfiles = map[string]ProfileRule{"": ProfilesAny} },
		"override of zero": func(p *Policy) { p.Overrides = map[string]RateLimit{"a": {}} },
		"override of none": func(p *Policy) { p.Overrides = map[string]RateLimit{"": {Requests: 1, WindowMs: 1000}} },
		"many overrides": func(p *Policy) {
			p.Overrides = map[string]RateLimit{}
			for i := range MaxOverrides + 1 {
				p.Overrides[string(rune('א'+i))] = RateLimit{Requests: 1, WindowMs: 1000}
			}
		},
	}
	version := w.s.Policy().Version
	for name, change := range bad {
		p := DefaultPolicy()
		change(&p)
		if res := w.do(admin, PolicySet{IfVersion: version, Policy: p}); res.Code != CodeInvalid || res.Field == "" {
			t.Errorf("%s: %s, field %q", name, res.Code, res.Field)
		}
	}
	w.want(w.do(admin, PolicySet{IfVersion: version - 1, Policy: DefaultPolicy()}), CodeConflict)
	w.must(w.do(admin, PolicySet{IfVersion: version, Policy: DefaultPolicy()}))
	if got := w.s.Policy().Version; got != version+1 {
		t.Errorf("version %d after %d", got, version)
	}
}
