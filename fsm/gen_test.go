package fsm

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// The generator draws commands over few ids, so that they collide: the same
// nonces, claim ids, agents, keys, tokens and nodes come up again and again,
// stale links beside good ones, and a clock that jumps and stumbles.

var (
	genAgents   = []string{"a", "b", "c", "d"}
	genKeys     = []string{"a", "b", "c", "d", "node n1", "node n0"}
	genNonces   = []string{"1", "2", "3", "4", "5"}
	genClaims   = []string{"", "", "c1", "c2", "c3", "c4"}
	genNodes    = []string{"n0", "n1", "n2", "n3"}
	genTokens   = []string{"admin", "operator", "verifier", "viewer", "agent", "coordinator", "t1", "t2", "none", ""}
	genSigners  = []string{"a", "b", "c"}
	genVersions = []string{"1", "1.0", "v1.0.0", "1.0.1", "1.1-rc.1", "1.1", "2", "2026.01.1", "x"}
	genCallers  = []string{"verifier", "operator", "viewer", "t1", "none"}
	genRoles    = []Role{RoleAdmin, RoleVerifier, RoleOperator, RoleAgent, RoleCoordinator, RoleMesh, "root"}
	genStates   = []AgentState{AgentActive, AgentActive, AgentSuspended, AgentRevoked, AgentPending, "dead"}
	genBacks    = []int64{0, 1, 999, 1_001, 5_000, 30_000, 60_000, 600_000, 3_600_000, 3_605_000, 7_200_000}
	genSteps    = []int64{0, 0, 0, 1, 1, 7, 100, 500, 999, 1_000, 1_001, 5_000, 30_000, 60_000, 60_001, -1, -5_000, 3_600_000}
)

// startWorld is a generated world's fixed beginning.
func startWorld(t *rapid.T) *world {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: 3, WindowMs: 1_000}; p.MaxSkewMs = 5_000 })
	w.must(w.trust(trustOf(1, genSigners...)))
	w.openGenerated()
	return w
}

// drawWorld applies between 1 and n generated commands.
func drawWorld(t *rapid.T, n int) *world {
	w := startWorld(t)
	for i := range rapid.IntRange(1, n).Draw(t, "commands") {
		w.apply(w.draw(t, i))
	}
	return w
}

func pick[T any](t *rapid.T, label string, from []T) T { return rapid.SampledFrom(from).Draw(t, label) }

// chance is true in about one of n cases.
func chance(t *rapid.T, label string, n int) bool { return rapid.IntRange(1, n).Draw(t, label) == 1 }

// draw returns the next command; i makes event ids fresh.
func (w *world) draw(t *rapid.T, i int) Command {
	step := pick(t, "step", genSteps)
	at := w.s.ClockMs() + step
	actor, body := w.drawBody(t, i, at)
	if _, recovers := body.(ClockRecover); recovers {
		at = w.s.ClockMs() - pick(t, "back", genBacks)
		body = ClockRecover{Voters: 3, Walls: walls(at, 0, pick(t, "second wall", []int64{0, 0, 4_000, 6_000})), Reason: fmt.Sprint("recovery ", i)}
	}
	cmd, err := New(actor, body)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	cmd.AtMs = at
	often := 5
	if cmd.Kind.answersEach() {
		often = 30 // always refused
	}
	if cmd.Kind != KindTick && chance(t, "idempotent", often) {
		cmd.Idem = &Idempotency{Key: crypto.Hash{byte(rapid.IntRange(0, 3).Draw(t, "idem key"))}, Body: crypto.Hash{byte(rapid.IntRange(0, 1).Draw(t, "idem body"))}}
	}
	return cmd
}

func (w *world) drawBody(t *rapid.T, i int, at int64) (Actor, any) {
	actor := Actor{TokenID: pick(t, "actor", genTokens), NodeID: pick(t, "node", genNodes)}
	by := func(usual string) Actor { // the right token most of the time
		if !chance(t, "any actor", 4) {
			actor.TokenID = usual
		}
		return actor
	}
	switch kind := rapid.IntRange(0, 40).Draw(t, "kind"); kind {
	default:
		return actor, w.drawBatch(t)
	case 0, 1, 2, 3:
		return actor, w.drawTick(t, at)
	case 4, 5:
		return by("operator"), w.drawBan(t, fmt.Sprint("e", i))
	case 6:
		return by("operator"), w.liftOf(pick(t, "lift", genAgents), fmt.Sprint("l", i), pick(t, "signer", genNodes[:2]))
	case 7:
		return by("agent"), AgentEnroll{AgentID: pick(t, "agent", genAgents), PublicKey: publicKey(pick(t, "key", genKeys))}
	case 8:
		return by("admin"), AgentSetState{AgentID: pick(t, "agent", genAgents), State: pick(t, "state", genStates)}
	case 9:
		return by("admin"), w.drawPolicy(t)
	case 10:
		return by("admin"), w.drawToken(t)
	case 11:
		return by("admin"), TokenRevoke{ID: pick(t, "token", genTokens)}
	case 12:
		n := nodeOf(pick(t, "joins", genNodes), pick(t, "as", []Role{RoleCoordinator, RoleCoordinator, RoleObserver}))
		n.Name = pick(t, "named", []string{n.Name, "name-n1"})
		return by("coordinator"), CoordinatorJoin{Coordinator: n, ReplaceID: pick(t, "replaces", []string{"", "", "n1", "n2"})}
	case 13:
		return actor, CoordinatorUpdate{ID: pick(t, "updates", genNodes), API: "h:9", Raft: "h:8", Gossip: "h:7", Version: fmt.Sprint(i)}
	case 14:
		return by("admin"), CoordinatorRemove{ID: pick(t, "removes", genNodes), Compromised: chance(t, "compromised", 2)}
	case 15:
		return actor, genesisOf("n3")
	case 16:
		return by("admin"), ClockRecover{} // draw fills it in
	case 17:
		return by("admin"), RestoreBegin{BackupEpoch: uint64(rapid.IntRange(0, 5).Draw(t, "backup epoch"))}
	case 18, 19, 20:
		return by("operator"), w.drawManifest(t)
	case 21:
		return by("admin"), w.drawTrust(t)
	case 29, 30, 31, 32, 33, 34, 35, 36:
		return w.drawLedger(t, actor, by)
	case 22:
		return by("admin"), ManifestRevoke{Name: pick(t, "manifest", []string{"m1", "m1", "m2", "x"}), Version: pick(t, "version", genVersions), Forget: chance(t, "forget", 2)}
	}
}

func (w *world) drawTick(t *rapid.T, at int64) Tick {
	term := w.s.Meta().TickTerm
	if chance(t, "new term", 3) {
		term++
	}
	tick := Tick{Term: term, Mark: chance(t, "mark", 2)}
	if chance(t, "walls", 2) {
		tick.Voters = 3
		tick.Walls = walls(at, 0, pick(t, "second wall", []int64{0, 4_000, 6_000}))
	}
	if chance(t, "round", 3) {
		tick.Round = w.drawRound(t)
	}
	if chance(t, "heads", 3) {
		tick.Heads = w.drawHeads(t)
	}
	return tick
}

func (w *world) drawHeads(t *rapid.T) (out []AuditReport) {
	for range rapid.IntRange(0, 3).Draw(t, "heads told") {
		r := AuditReport{NodeID: pick(t, "tells", genNodes), Lost: chance(t, "lost", 4), Head: placeOf(uint64(rapid.IntRange(0, 20).Draw(t, "ends")), "x")}
		if h, known := w.s.AuditHead(r.NodeID); known && !chance(t, "late", 5) {
			r.After = h.Place()
		}
		out = append(out, r)
	}
	return out
}

func (w *world) drawRound(t *rapid.T) *Round {
	r := &Round{Mark: w.index - uint64(rapid.IntRange(-2, 3).Draw(t, "mark ago")), Voters: rapid.IntRange(0, 4).Draw(t, "voters")}
	for range rapid.IntRange(0, 5).Draw(t, "reports") {
		r.Reports = append(r.Reports, Report{
			NodeID: pick(t, "reporter", append(genNodes, genNodes[0], "nobody", "")),
			Votes:  !chance(t, "observes", 4),
			Digest: crypto.Hash{pick(t, "digest", []byte{1, 1, 1, 2, 0})},
		})
	}
	return r
}

func (w *world) drawBatch(t *rapid.T) AdmitBatch {
	b := AdmitBatch{Callers: genCallers}
	clock := w.s.ClockMs()
	for range rapid.IntRange(0, 6).Draw(t, "claims") {
		if len(b.Claims) > 0 && chance(t, "same claim", 5) {
			b.Claims = append(b.Claims, b.Claims[len(b.Claims)-1])
			continue
		}
		offset := pick(t, "offset", []int64{0, 0, 0, 100, -100, -1_000, 2_000, 5_000, -5_000, 5_001, -5_001, -30_000})
		// Times in steps of a second make the very same request come up again.
		ts := (clock+offset)/1_000*1_000 + pick(t, "millisecond", []int64{0, 0, 999})
		c := claimOf(pick(t, "agent", append(genAgents, "nobody")), pick(t, "nonce", genNonces), ts, pick(t, "claim id", genClaims))
		if c.ClaimID == (ClaimTag{}) {
			c.Tag[0] = byte(rapid.IntRange(0, 255).Draw(t, "server tag"))
		}
		if chance(t, "usual caller", 8) {
			c.Caller = uint16(rapid.IntRange(0, len(genCallers)).Draw(t, "caller"))
		}
		if chance(t, "foreign key", 12) {
			c.Key = keyRef(pick(t, "key", genKeys))
		}
		if chance(t, "message signature", 3) {
			c = messageOf(c, c.TimestampMs+pick(t, "lifetime", []int64{1_000, 1_000, 2_000, 60_000, 3_600_000}))
		}
		b.Claims = append(b.Claims, c)
	}
	return b
}

func (w *world) drawBan(t *rapid.T, eventID string) BlacklistAppend {
	agent := pick(t, "bans", genAgents)
	if chance(t, "reported", 3) {
		return w.reportOf(agent, pick(t, "reporter", genAgents), eventID)
	}
	var expires *int64
	if chance(t, "expires", 2) {
		at := w.s.ClockMs() + pick(t, "expires in", []int64{0, 1, 1_000, 10_000})
		expires = &at
	}
	b := w.banOf(agent, eventID, pick(t, "signer", genNodes[:2]), expires)
	if chance(t, "stale", 4) {
		b.Event.Link(crypto.Sum(nil).String(), privateKey("node n0"))
	}
	return b
}

func (w *world) drawPolicy(t *rapid.T) PolicySet {
	p := w.s.Policy()
	version := p.Version - uint64(rapid.IntRange(0, 1).Draw(t, "stale policy"))
	p.MaxSkewMs = pick(t, "skew", []int64{1_000, 5_000, 30_000, 0})
	p.RateLimit = RateLimit{Requests: pick(t, "requests", []int64{1, 3, 5}), WindowMs: pick(t, "window", []int64{100, 1_000, 5_000})}
	p.AutoApprove = !chance(t, "approve by hand", 4)
	p.Overrides = nil
	if chance(t, "override", 3) {
		p.Overrides = map[string]RateLimit{"a": {Requests: 10, WindowMs: 10_000}, "b": {Requests: 1, WindowMs: 100}}
	}
	p.Profiles = pick(t, "profiles", []ProfileRule{ProfilesAny, ProfilesAny, ProfilesAny, ProfilesRFC9421, ProfilesRFC9421 + 1})
	p.AgentProfiles = nil
	if chance(t, "agent profiles", 3) {
		p.AgentProfiles = map[string]ProfileRule{"a": ProfilesAny, "b": ProfilesRFC9421}
	}
	return PolicySet{IfVersion: version, Policy: p}
}

func (w *world) drawToken(t *rapid.T) TokenCreate {
	tok := TokenCreate{ID: pick(t, "token", []string{"t1", "t2"}), Role: pick(t, "role", genRoles), Uses: pick(t, "uses", []int64{-1, -1, 1, 2, 0})}
	if chance(t, "token expires", 2) {
		tok.ExpiresMs = w.s.ClockMs() + pick(t, "token expires in", []int64{-1, 500, 5_000, 60_000})
	}
	return tok
}

// drawManifest draws statements that come up again: few names, versions and artifacts.
func (w *world) drawManifest(t *rapid.T) ManifestAccept {
	st := w.statementOf(pick(t, "manifest", []string{"m1", "m1", "m2", "x", ""}), pick(t, "version", genVersions), pick(t, "artifact", []string{"x", "x", "y"}))
	clock := w.s.ClockMs()
	st.IssuedMs = clock/60_000*60_000 - 60_000
	st.ExpiresMs = clock + pick(t, "manifest expires in", []int64{-1, 0, 1, 500, 30_000, 120_000, 3_600_000})
	if chance(t, "another place", 6) {
		st.Source = pick(t, "place", []string{"https://models.example/a/b", "https://evil.example/x", "http://models.example/x"})
	}
	if chance(t, "issued ahead", 10) {
		st.IssuedMs = clock + pick(t, "issued in", []int64{60_000, 60_001})
		st.ExpiresMs = st.IssuedMs + 1_000
	}
	b := ManifestAccept{Statement: st}
	for _, name := range genSigners {
		if !chance(t, "did not sign "+name, 3) {
			b.Signers = append(b.Signers, keyRef("signer "+name))
		}
	}
	if chance(t, "signed twice", 4) && len(b.Signers) > 0 {
		b.Signers = append(b.Signers, b.Signers[0])
	}
	return b
}

func (w *world) drawTrust(t *rapid.T) ManifestTrustSet {
	trust := ManifestTrust{Threshold: int64(rapid.IntRange(0, 3).Draw(t, "threshold")), Sources: []string{testSource}}
	for _, name := range genSigners {
		if chance(t, "trusts "+name, 2) {
			trust.Signers = append(trust.Signers, ManifestSigner{Name: name, Key: publicKey("signer " + name), Prefix: pick(t, "prefix", []string{"", "", "m"})})
		}
	}
	if chance(t, "no sources", 6) {
		trust.Sources = nil
	}
	return ManifestTrustSet{IfVersion: w.s.ManifestTrust().Version - uint64(rapid.IntRange(0, 1).Draw(t, "stale trust")), Trust: trust}
}
