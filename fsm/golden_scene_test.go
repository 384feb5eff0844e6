package fsm

import "testing"

// goldenScene has everything happen that the first two feature levels know, in
// a fixed order: accepted, refused and repeated. Its log was stored by the
// binaries of those levels and is never changed; what a later level brings has a
// scene of its own behind it (goldenScenes).
func goldenScene(t testing.TB, level uint32) *world {
	w := newWorld(t)
	g := genesisOf("n0")
	g.Level, g.Coordinator.Level = level, level
	w.must(w.do(Actor{}, g))
	w.want(w.do(Actor{}, g), CodeConflict)
	for _, role := range []Role{RoleVerifier, RoleViewer, RoleOperator, RoleMesh, RoleAgent, RoleCoordinator, RoleObserver, RoleEdge} {
		w.must(w.do(admin, TokenCreate{ID: string(role), Role: role, Uses: -1}))
	}
	w.setPolicy(func(p *Policy) {
		p.AutoApprove, p.Overrides = true, map[string]RateLimit{"b": {Requests: 1, WindowMs: 1000}}
	})
	w.want(w.do(admin, PolicySet{IfVersion: 99, Policy: w.s.Policy()}), CodeConflict)
	w.goldenAgents()
	w.goldenMembers(level)
	w.goldenBans()
	w.goldenClaims()
	w.goldenTime()
	if level >= LevelRecovery {
		w.goldenRecovery()
	}
	return w
}

func (w *world) goldenAgents() {
	w.enroll("a", "b", "c", "d")
	w.want(w.do(enroller, AgentEnroll{AgentID: "a", PublicKey: publicKey("other")}), CodeConflict)
	w.want(w.do(admin, AgentEnroll{AgentID: "e", PublicKey: publicKey("e")}), CodeForbidden)
	w.must(w.do(operator, AgentSetState{AgentID: "c", State: AgentSuspended}))
	w.must(w.do(admin, AgentSetState{AgentID: "d", State: AgentRevoked}))
	w.want(w.do(operator, AgentSetState{AgentID: "nobody", State: AgentActive}), CodeNotFound)
	idem := &Idempotency{Key: KeyRef{1}, Body: KeyRef{2}}
	made := TokenCreate{ID: "t", Role: RoleViewer, Uses: 3, ExpiresMs: w.wallMs + 5_000, Label: "x"}
	w.must(w.doAt(w.wallMs, admin, idem, made))
	w.must(w.doAt(w.wallMs, admin, idem, made))
	w.want(w.doAt(w.wallMs, admin, &Idempotency{Key: KeyRef{1}, Body: KeyRef{3}}, made), CodeConflict)
	w.must(w.do(admin, TokenRevoke{ID: string(RoleViewer)}))
}

func (w *world) goldenMembers(level uint32) {
	n1, n2 := nodeOf("n1", RoleCoordinator), nodeOf("n2", RoleObserver)
	n1.Level, n2.Level = level, level
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n1}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: n1}))
	w.must(w.do(Actor{TokenID: string(RoleObserver)}, CoordinatorJoin{Coordinator: n2}))
	w.must(w.do(Actor{NodeID: "n1"}, CoordinatorUpdate{ID: "n1", API: "h:1", Raft: "h:2", Gossip: "h:3", Level: level, Version: "v2"}))
	w.want(w.do(Actor{NodeID: "n2"}, CoordinatorUpdate{ID: "n1", API: "h:1", Raft: "h:2", Gossip: "h:3", Level: level}), CodeForbidden)
	w.must(w.do(admin, CoordinatorRemove{ID: "n1", Compromised: true}))
	w.want(w.do(joiner, CoordinatorJoin{Coordinator: n1}), CodeForbidden)
}

func (w *world) goldenBans() {
	expires := w.wallMs + 100_000
	stale := w.banOf("z", "e0", "n0", nil)
	w.must(w.do(operator, w.banOf("x", "e1", "n0", nil)))
	w.want(w.do(operator, stale), CodeStale)
	w.must(w.do(operator, w.banOf("y", "e2", "n0", &expires)))
	w.must(w.do(operator, w.reportOf("v", "a", "e3")))
	w.must(w.do(operator, w.liftOf("x", "e4", "n0")))
	w.must(w.do(operator, w.banOf("d", "e5", "n0", nil)))
	w.want(w.do(Actor{TokenID: string(RoleMesh)}, w.banOf("a", "e6", "n0", nil)), CodeForbidden)
}

func (w *world) goldenClaims() {
	w.admit(claimOf("a", "n1", w.wallMs, "c1"), claimOf("a", "n2", w.wallMs+5_000, ""), claimOf("b", "n1", w.wallMs-5_000, "c2"),
		claimOf("b", "n2", w.wallMs, ""), claimOf("a", "n1", w.wallMs, "c1"), claimOf("a", "n1", w.wallMs, "c9"), claimOf("a", "n3", w.wallMs, "c1"),
		claimOf("a", "old", w.wallMs-2*DefaultSkewMs, ""), claimOf("nobody", "n", w.wallMs, ""), claimOf("c", "n", w.wallMs, ""), claimOf("d", "n", w.wallMs, ""))
	w.must(w.do(operator, w.banOf("b", "e7", "n0", nil)))
	w.admit(claimOf("b", "n4", w.wallMs, ""))
	w.must(w.do(Actor{}, AdmitBatch{Callers: []string{string(RoleMesh), "gone"}, Claims: []Claim{claimOf("a", "n5", w.wallMs, ""), {Caller: 1, AgentID: "a", Key: keyRef("a"), TimestampMs: w.wallMs, Nonce: "n6"}}}))
}

func (w *world) goldenTime() {
	w.pass(10_000)
	w.mark()
	w.want(w.doAt(w.wallMs+2*MaxAheadMs, admin, nil, TokenRevoke{ID: "t"}), CodeClockAhead)
	w.want(w.doAt(w.wallMs+2*MaxAheadMs, Actor{}, nil, Tick{Term: w.term}), CodeClockAhead)
	w.admit(claimOf("a", "n7", w.wallMs, ""))
	w.pass(2*DefaultSkewMs + 2*NonceBucketMs)
	w.mark()
	w.admit(claimOf("a", "n1", w.wallMs, ""), claimOf("a", "n8", w.wallMs-1, "c8"))
	w.term++
	ahead := w.wallMs + 1_000_000
	w.must(w.doAt(ahead, Actor{}, nil, Tick{Term: w.term, Voters: 3, Walls: walls(ahead, 0, 1, -1), Mark: true}))
	w.must(w.doAt(ahead, Actor{}, nil, AdmitBatch{Callers: []string{string(RoleVerifier)}, Claims: []Claim{claimOf("a", "n9", ahead, "")}}))
}

// goldenRecovery: a replica differs, a restore is begun, the clock is set back.
func (w *world) goldenRecovery() {
	at := w.s.ClockMs()
	marks := w.s.Marks()
	w.must(w.doAt(at, Actor{}, nil, Tick{Term: w.term, Mark: true, Round: &Round{Mark: marks[len(marks)-1].Index, Voters: 3, Reports: []Report{
		{NodeID: "n0", Votes: true, Digest: KeyRef{1}}, {NodeID: "n3", Votes: true, Digest: KeyRef{1}}, {NodeID: "n4", Votes: true, Digest: KeyRef{2}}}}}))
	w.must(w.doAt(at, admin, nil, RestoreBegin{BackupEpoch: 3, Backup: KeyRef{4}}))
	w.want(w.doAt(at, operator, nil, RestoreBegin{BackupEpoch: 3}), CodeForbidden)
	to := w.wallMs + 10_000
	w.want(w.doAt(to, admin, nil, ClockRecover{Voters: 3, Walls: walls(to, 0)}), CodeInvalid)
	w.must(w.doAt(to, admin, nil, ClockRecover{Voters: 1, Walls: walls(to, 0), Reason: "NTP server gone mad"}))
	w.wallMs = to
	w.admit(claimOf("a", "n10", w.wallMs, ""))
	w.pass(2*DefaultSkewMs + 2*NonceBucketMs)
	w.admit(claimOf("a", "n10", w.wallMs, ""))
	w.mark()
}
