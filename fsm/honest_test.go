package fsm

import (
	"errors"
	"fmt"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// P9: what could not be decided is never answered as yes.

func TestP9HonestFullCollectionsRefuse(t *testing.T) {
	cases := map[string]struct {
		fill func(*State)
		body func(w *world) any
		by   Actor
	}{
		"agents": {func(s *State) { s.agents.cap = s.agents.size() },
			func(*world) any { return AgentEnroll{AgentID: "new", PublicKey: publicKey("new")} }, enroller},
		"keys of agents": {func(s *State) { s.keyOwners.cap = s.keyOwners.size() },
			func(*world) any { return AgentEnroll{AgentID: "new", PublicKey: publicKey("new")} }, enroller},
		"tokens": {func(s *State) { s.tokens.cap = s.tokens.size() },
			func(*world) any { return TokenCreate{ID: "new", Role: RoleViewer, Uses: -1} }, admin},
		"coordinators": {func(s *State) { s.coordinators.cap = s.coordinators.size() },
			func(*world) any { return CoordinatorJoin{Coordinator: nodeOf("new", RoleCoordinator)} }, joiner},
		"signing keys": {func(s *State) { s.signingKeys.cap = s.signingKeys.size() },
			func(*world) any { return CoordinatorJoin{Coordinator: nodeOf("new", RoleCoordinator)} }, joiner},
		"keys of coordinators": {func(s *State) { s.keyOwners.cap = s.keyOwners.size() },
			func(*world) any { return CoordinatorJoin{Coordinator: nodeOf("new", RoleCoordinator)} }, joiner},
		"removed": {func(s *State) { s.removed.cap = 0 },
			func(*world) any { return CoordinatorRemove{ID: "n1"} }, admin},
		"removed by replacement": {func(s *State) { s.removed.cap = 0 },
			func(*world) any {
				n := nodeOf("new", RoleCoordinator)
				n.Name = "name-n1"
				return CoordinatorJoin{Coordinator: n, ReplaceID: "n1"}
			}, joiner},
		"bans": {func(s *State) { s.bans.cap = s.bans.size() },
			func(w *world) any { return w.banOf("new", "new", "n0", nil) }, operator},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := genesisWorld(t)
			w.enroll("a")
			w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
			w.must(w.do(operator, w.banOf("old", "old", "n0", nil)))
			c.fill(w.s)
			before := w.s.FieldDigests()
			w.want(w.do(c.by, c.body(w)), CodeOverloaded)
			for field, digest := range w.s.FieldDigests() {
				if field != "meta" && digest != before[field] {
					t.Errorf("the refusal changed %s", field)
				}
			}
		})
	}
}

func TestP9HonestFullIdempotencyRefuses(t *testing.T) {
	w := genesisWorld(t)
	known := &Idempotency{Key: [32]byte{1}}
	w.must(w.doAt(w.wallMs, admin, known, TokenCreate{ID: "t1", Role: RoleViewer, Uses: -1}))
	w.s.idempotent.cap = 1
	w.want(w.doAt(w.wallMs, admin, &Idempotency{Key: [32]byte{2}}, TokenCreate{ID: "t2", Role: RoleViewer, Uses: -1}), CodeOverloaded)
	w.must(w.doAt(w.wallMs, admin, known, TokenCreate{ID: "t1", Role: RoleViewer, Uses: -1}))
	w.must(w.do(admin, TokenCreate{ID: "t2", Role: RoleViewer, Uses: -1})) // without a key nothing needs remembering
}

// A full window refuses the new, keeps the old, and still knows replays.
func TestP9HonestFullWindowRefuses(t *testing.T) {
	for name, fill := range map[string]func(*State){
		"nonces":       func(s *State) { s.nonces.limit = s.nonces.size() },
		"rate windows": func(s *State) { s.windows.runs = MaxWindowRuns },
	} {
		t.Run(name, func(t *testing.T) {
			w := genesisWorld(t)
			w.enroll("a")
			c := claimOf("a", "n1", w.wallMs, "c1")
			w.wantVerdict(c, CodeOK)
			fill(w.s)
			w.wallMs++
			w.wantVerdict(claimOf("a", "n2", w.wallMs, "c2"), CodeOverloaded)
			w.wantVerdict(c, CodeOK)
			w.wantVerdict(claimOf("a", "n1", w.wallMs, "c3"), CodeReplay)
			w.wantVerdict(claimOf("nobody", "n1", w.wallMs, "c3"), CodeUnknownAgent)
		})
	}
}

func TestP9HonestBatchBounds(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	res := w.do(Actor{}, AdmitBatch{Callers: []string{"verifier"}, Claims: make([]Claim, MaxClaims+1)})
	if w.want(res, CodeTooLarge); res.Claims != nil {
		t.Error("a batch that was not decided has verdicts")
	}
	w.want(w.do(Actor{}, AdmitBatch{Callers: make([]string, MaxCallers+1)}), CodeTooLarge)
	w.must(w.do(Actor{}, AdmitBatch{Callers: make([]string, MaxCallers), Claims: make([]Claim, MaxClaims)}))
	res = w.doAt(w.wallMs+MaxAheadMs+1, Actor{}, nil, AdmitBatch{Callers: []string{"verifier"}, Claims: []Claim{claimOf("a", "n", w.wallMs, "")}})
	if w.want(res, CodeClockAhead); res.Claims != nil {
		t.Error("a batch with a bad stamp has verdicts")
	}
}

// What the replicas could not read must not get into the log: there it would
// stop every one of them, at every restart.
func TestP9HonestNothingUnreadableIsProposed(t *testing.T) {
	many := map[string]RateLimit{}
	for i := range 5000 {
		many[fmt.Sprint(i)] = RateLimit{Requests: 1, WindowMs: 1000}
	}
	for name, body := range map[string]any{
		"token id not UTF-8":   TokenRevoke{ID: "\xff"},
		"agent id not UTF-8":   AgentSetState{AgentID: "a\xc3", State: AgentActive},
		"nonce not UTF-8":      AdmitBatch{Claims: []Claim{{Nonce: "\xff"}}},
		"5000 overrides":       PolicySet{Policy: Policy{Overrides: many}},
		"200000 claims":        AdmitBatch{Claims: make([]Claim, 200_000)},
		"reason not UTF-8":     BlacklistAppend{Event: eventWith("\xff")},
		"version not UTF-8":    CoordinatorUpdate{ID: "n0", Version: "\xff"},
		"cause not UTF-8":      ClockRecover{Reason: "\xff"},
		"reporter not UTF-8":   Tick{Round: &Round{Reports: []Report{{NodeID: "\xff"}}}},
		"too large altogether": Genesis{CACert: make([]byte, MaxCommandBytes)},
	} {
		cmd, err := New(admin, body)
		if err == nil {
			_, err = EncodeCommand(cmd)
		}
		if !errors.Is(err, ErrCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, _ := New(Actor{}, Tick{})
	for name, change := range map[string]func(*Command){
		"unknown kind":      func(c *Command) { c.Kind = 999 },
		"other version":     func(c *Command) { c.Version = 2 },
		"body of another":   func(c *Command) { c.Kind = KindAdmitBatch },
		"body cut":          func(c *Command) { c.Body = c.Body[:len(c.Body)-1] },
		"body and more":     func(c *Command) { c.Body = append(append(cbor.RawMessage{}, c.Body...), 0) },
		"actor not UTF-8":   func(c *Command) { c.Actor.NodeID = "\xff" },
		"unknown member":    func(c *Command) { c.Body = cbor.RawMessage{0xa1, 0x18, 0x63, 0x01} },
		"text for a number": func(c *Command) { c.Body = cbor.RawMessage{0xa1, 0x01, 0x61, 'x'} },
	} {
		c := good
		change(&c)
		if _, err := EncodeCommand(c); !errors.Is(err, ErrCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Actor{}, struct{}{}); !errors.Is(err, ErrCommand) {
		t.Errorf("a body without a kind: %v", err)
	}
}

// A broken log stops the node: skipping what others applied is divergence.
func TestP9HonestBrokenLogIsAnError(t *testing.T) {
	w := genesisWorld(t)
	if _, _, err := w.s.Apply(w.index, Command{Kind: KindTick}); err == nil {
		t.Error("an index again is applied")
	}
	if _, _, err := w.s.Apply(w.index+1, Command{Kind: 999}); !errors.Is(err, ErrCommand) {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, _, err := w.s.Apply(w.index+2, Command{Kind: KindTick, Body: cbor.RawMessage{0x01}}); !errors.Is(err, ErrCommand) {
		t.Errorf("a body that is no body: %v", err)
	}
}

func TestBodyOfReadsWhatNewWrote(t *testing.T) {
	want := TokenRevoke{ID: "t"}
	cmd, err := New(admin, want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := BodyOf[TokenRevoke](cmd); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	cmd.Body = nil
	if _, err := BodyOf[AdmitBatch](Command{Body: cbor.RawMessage{0x01}}); !errors.Is(err, ErrCommand) {
		t.Errorf("%v", err)
	}
}
