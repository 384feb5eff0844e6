package node

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// lostAnswers is a node whose leader commits a batch and falls before it answers;
// the next one decides after time and policy have moved on.
type lostAnswers struct {
	*loneState
	atMs  int64
	n     *Node
	owned *leadership
}

func newLostAnswers(t *testing.T) *lostAnswers {
	l := &lostAnswers{loneState: newLoneState(t), atMs: standingStart + 1000}
	l.at(fsm.Actor{TokenID: "admin"}, fsm.TokenCreate{ID: "verifier", Role: fsm.RoleVerifier, Uses: -1})
	l.at(fsm.Actor{TokenID: "admin"}, fsm.TokenCreate{ID: "agent", Role: fsm.RoleAgent, Uses: -1})
	for _, id := range []string{"a", "b", "c"} {
		l.at(fsm.Actor{TokenID: "agent"}, fsm.AgentEnroll{AgentID: id, PublicKey: agentKey(t, id)})
		l.at(fsm.Actor{TokenID: "admin"}, fsm.AgentSetState{AgentID: id, State: fsm.AgentActive})
	}
	l.n = l.node()
	l.n.admit = newAdmitter()
	l.n.cfg.Timing.NoLeader = time.Second
	l.owned = &leadership{ready: make(chan struct{}), over: t.Context().Done(), units: newIntake[*admitUnit]()}
	close(l.owned.ready)
	l.n.lead.Store(l.owned)
	return l
}

func agentKey(t *testing.T, id string) crypto.PublicKey { return crypto.PublicOf(seededKey(t, id[0])) }

func (l *lostAnswers) at(actor fsm.Actor, body any) fsm.Result {
	l.t.Helper()
	cmd, err := fsm.New(actor, body)
	if err != nil {
		l.t.Fatal(err)
	}
	l.index++
	cmd.AtMs = l.atMs
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		l.t.Fatal(err)
	}
	res := l.machine.Apply(&raft.Log{Index: l.index, Term: 1, Data: data}).(fsm.Result)
	if !res.OK() {
		l.t.Fatalf("%T: %+v", body, res)
	}
	return res
}

func (l *lostAnswers) setPolicy(change func(*fsm.Policy)) {
	l.t.Helper()
	var p fsm.Policy
	l.machine.Read(func(s *fsm.State) { p = s.Policy() })
	version := p.Version
	change(&p)
	l.at(fsm.Actor{TokenID: "admin"}, fsm.PolicySet{IfVersion: version, Policy: p})
}

// claim is one of an agent's, signed at the start.
func (l *lostAnswers) claim(agent, nonce, claimID string) fsm.Claim {
	return fsm.Claim{AgentID: agent, Key: agentKey(l.t, agent).Fingerprint(), TimestampMs: standingStart + 1000, Nonce: nonce,
		Tag: fsm.NewClaimTag("verifier", claimID, "POST", "/", crypto.Sum(nil), standingStart+1000), ClaimID: fsm.NewClaimID("verifier", claimID)}
}

// ask sends the claims, has what the first leader does with them done without an
// answer, and then the rest, and returns what the node answers.
func (l *lostAnswers) ask(token string, claims []fsm.Claim, first, meanwhile func()) []api.AdmitOutcome {
	l.t.Helper()
	call := &admitCall{ctx: l.t.Context(), done: make(chan struct{}), missing: len(claims),
		outcomes: make([]api.AdmitOutcome, len(claims)), answered: make([]bool, len(claims)), sent: make([]bool, len(claims))}
	for i, c := range claims {
		l.n.admit.ready.put(&admission{AdmitRequest: api.AdmitRequest{TokenID: token, ClaimID: "mine"}, call: call, slot: i, claim: c})
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan struct{})
	go func() { l.n.sendLoop(ctx); close(done) }()
	u := l.owned.units.take(ctx, 1)[0]
	first()
	u.reply <- unitReply[admitReply]{err: errUnknown()}
	meanwhile()
	u = l.owned.units.take(ctx, 1)[0]
	u.reply <- unitReply[admitReply]{reply: admitReply{Results: l.at(fsm.Actor{}, u.batch).Claims, MaxSkewMs: 120_000}}
	<-call.done
	cancel()
	<-done
	return call.outcomes
}

// TestP1P9NoCertainNoAfterAnUnknownTry: a leader commits a batch and falls before it
// answers. Whatever time, policy and operators do until the next one decides, what
// was admitted gets its first answer or an unknown one.
func TestP1P9NoCertainNoAfterAnUnknownTry(t *testing.T) {
	known, unknown := "", client.CodeUnknownOutcome
	for name, tt := range map[string]struct {
		meanwhile func(*lostAnswers)
		want      string
	}{
		"nothing":              {func(*lostAnswers) {}, known},
		"the signature ends":   {func(l *lostAnswers) { l.atMs += 11_000 }, known},
		"the rule of profiles": {func(l *lostAnswers) { l.setPolicy(func(p *fsm.Policy) { p.Profiles = fsm.ProfilesRFC9421 }) }, known},
		"the rate limit falls": {func(l *lostAnswers) { l.setPolicy(func(p *fsm.Policy) { p.RateLimit.Requests = 1 }) }, known},
		"the window passes":    {func(l *lostAnswers) { l.tickTo(standingStart + 1000 + 121_000) }, unknown},
		"the window narrows":   {func(l *lostAnswers) { l.atMs += 3_000; l.setPolicy(func(p *fsm.Policy) { p.MaxSkewMs = 1_000 }) }, unknown},
		"the agent is stopped": {func(l *lostAnswers) {
			l.at(fsm.Actor{TokenID: "admin"}, fsm.AgentSetState{AgentID: "a", State: fsm.AgentSuspended})
		}, unknown},
		"the token is revoked": {func(l *lostAnswers) { l.at(fsm.Actor{TokenID: "admin"}, fsm.TokenRevoke{ID: "verifier"}) }, unknown},
		"the cluster's clock is set back": {func(l *lostAnswers) {
			l.atMs -= 60_000
			l.at(fsm.Actor{TokenID: "admin"}, fsm.ClockRecover{Voters: 1, Walls: []fsm.VoterWall{{NodeID: "n0", WallMs: l.atMs}}, Reason: "a test"})
		}, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLostAnswers(t)
				c := l.claim("a", "n", "c1")
				c.ExpiresMs = c.TimestampMs + 10_000
				if !strings.HasPrefix(name, "the rule") {
					c.Profile = crypto.ProfileRFC9421
				}
				var made fsm.ClaimResult
				got := l.ask("verifier", []fsm.Claim{c}, func() {
					made = l.at(fsm.Actor{}, fsm.AdmitBatch{Callers: []string{"verifier"}, Claims: []fsm.Claim{c}}).Claims[0]
				}, func() { tt.meanwhile(l) })[0]
				made.Repeated = true
				switch {
				case tt.want == known && (got.Err != nil || got.Result != made):
					t.Errorf("%+v %v, want the first answer %+v", got.Result, got.Err, made)
				case tt.want == unknown && (got.Err == nil || got.Err.Code != unknown || got.Err.ClaimID != "mine"):
					t.Errorf("%+v %+v, want %s", got.Result, got.Err, unknown)
				}
			})
		})
	}
}

// tickTo moves the cluster's clock in steps that it takes.
func (l *lostAnswers) tickTo(ms int64) {
	for l.atMs < ms {
		l.atMs = min(ms, l.atMs+fsm.MaxAheadMs)
		l.at(fsm.Actor{}, fsm.Tick{Term: 1})
	}
}

// TestDenialsThatTellOfEveryTry: what says that the nonce was not used is passed on.
func TestDenialsThatTellOfEveryTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLostAnswers(t)
		l.setPolicy(func(p *fsm.Policy) {
			p.RateLimit = fsm.RateLimit{Requests: 2, WindowMs: 60_000}
			p.AgentProfiles = map[string]fsm.ProfileRule{"c": fsm.ProfilesRFC9421}
		})
		used := []fsm.Claim{l.claim("a", "n1", "c1"), l.claim("a", "n2", "c2")}
		l.at(fsm.Actor{}, fsm.AdmitBatch{Callers: []string{"verifier"}, Claims: used})
		claims := []fsm.Claim{l.claim("a", "n1", "other"), l.claim("b", "n", "c1"), l.claim("a", "n3", "c3"), l.claim("c", "n", "c4"), l.claim("b", "n", "c5")}
		got := l.ask("verifier", claims, func() {}, func() {})
		for i, want := range []fsm.Code{fsm.CodeReplay, fsm.CodeConflict, fsm.CodeRateLimited, fsm.CodeProfileRefused, fsm.CodeOK} {
			if got[i].Err != nil || got[i].Result.Code != want {
				t.Errorf("claim %d: %+v %v, want %s", i, got[i].Result, got[i].Err, want)
			}
		}
		if fresh := l.ask("nobody's", claims[:1], func() {}, func() {})[0]; fresh.Err == nil {
			t.Errorf("a caller that may not ask: %+v", fresh.Result)
		}
	})
}

// TestReplayIsNotToldFromAStateThatMayNotBeTold: a nonce that only a restore
// knows, which nobody confirmed yet, is no final replay.
func TestReplayIsNotToldFromAStateThatMayNotBeTold(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(*lostAnswers)
		told   bool
	}{
		"confirmed":   {func(*lostAnswers) {}, true},
		"unconfirmed": {func(l *lostAnswers) { l.n.epochs.arrived = &arrival{epoch: 2, from: l.index} }, false},
		"diverged":    {func(l *lostAnswers) { l.diverge() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLostAnswers(t)
			l.at(fsm.Actor{}, fsm.AdmitBatch{Callers: []string{"verifier"}, Claims: []fsm.Claim{l.claim("a", "n", "c1")}})
			tt.before(l)
			key := seededKey(t, 'a')
			signed, err := crypto.SignRequest(key, "a", "POST", "/", nil, standingStart+1000, "n")
			if err != nil {
				t.Fatal(err)
			}
			call := &admitCall{ctx: t.Context(), done: make(chan struct{}), outcomes: make([]api.AdmitOutcome, 1), missing: 1, answered: make([]bool, 1), sent: make([]bool, 1)}
			a := &admission{AdmitRequest: api.AdmitRequest{TokenID: "verifier", ClaimID: "c2", Signed: signed}, call: call}
			l.n.cfg.Now = time.Now
			ready, doubtful := l.n.sortOut([]*admission{a})
			if told := call.answered[0]; told != tt.told || len(ready) != 0 || (len(doubtful) == 1) == tt.told {
				t.Errorf("answered %t: %+v, %d ready, %d doubtful", told, call.outcomes[0], len(ready), len(doubtful))
			}
			if tt.told && call.outcomes[0].Result.Code != fsm.CodeReplay {
				t.Errorf("%+v", call.outcomes[0])
			}
		})
	}
}

// TestLiarIsRemovedByGatedNodes: a coordinator that claims a newer epoch keeps
// the others from learning whether their binaries are accepted. They must be able
// to remove it all the same, and nothing else.
func TestLiarIsRemovedByGatedNodes(t *testing.T) {
	l := newLoneState(t)
	l.apply(fsm.Actor{TokenID: "admin"}, fsm.TokenCreate{ID: "join", Role: fsm.RoleCoordinator, Uses: -1})
	c := coordinatorOf(t, "n1")
	c.TLSKey = crypto.Sum([]byte("n1"))
	l.apply(fsm.Actor{TokenID: "join"}, fsm.CoordinatorJoin{Coordinator: c})
	n := l.node()
	n.book = openAddressBook(t.TempDir(), testLog(t))
	n.cfg.RequireManifest = "edgecoder"
	wantReason(t, n.mayDecide(fsm.KindCoordinatorRemove), "manifest") // one to be asked yet removes nobody
	n.newer.Store(&newerEpoch{epoch: 9, by: "n1"})
	if err := n.mayDecide(fsm.KindCoordinatorRemove); err != nil {
		t.Errorf("the removal: %v", err)
	}
	wantReason(t, n.mayDecide(fsm.KindTokenCreate), "manifest")
	n.accepted.Store(true)
	if err := n.mayDecide(fsm.KindCoordinatorRemove); err != nil {
		t.Errorf("the removal, accepted: %v", err)
	}
	wantReason(t, n.mayDecide(fsm.KindTokenCreate), reasonSuperseded)
	n.diverged.Store(&fsm.Divergence{NodeID: "n0"})
	wantReason(t, n.mayDecide(fsm.KindCoordinatorRemove), reasonDiverged)
}

// TestLiarIsRemovedThroughTheAPI: all others are stopped by its word and gated; one
// removal by name, at any of them, goes through, and they serve again.
func TestLiarIsRemovedThroughTheAPI(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	liar, other := (lead+1)%3, (lead+2)%3
	for _, i := range []int{lead, other} {
		n := c.nodes[i]
		n.newer.Store(&newerEpoch{epoch: 9, by: c.nodes[liar].id.NodeID})
		wantReason(t, n.Serving(), reasonSuperseded)
		_, err := n.Read(t.Context(), api.ReadOptions{Strong: true}, func(*fsm.State) { t.Error("a superseded node asked") })
		wantReason(t, err, reasonSuperseded)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.client(other, c.admin).RemovePeer(ctx, c.cfgs[liar].Name, false); err != nil {
		t.Fatal(err)
	}
	c.eventually("they serve again", func() bool { return c.nodes[lead].Ready() == nil && c.nodes[other].Ready() == nil })
}
