package fsm

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A recovery is where somebody with an old request waits for the cluster to
// forget. P1: it never does.

func recoveryAt(atMs int64, action string) Recovery {
	return Recovery{ID: "0123456789abcdef", AtMs: atMs, Actor: Actor{NodeID: "n0"}, Action: action, Detail: "for a test"}
}

// backupOf is what a backup holds: a state read back from a snapshot, and its history.
func backupOf(t rapid.TB, w *world) (*State, *MemoryHistory) {
	t.Helper()
	s, records := restored(t, snapshotOf(t, w.s, w.history))
	return s, historyOf(t, records)
}

// onward is a world that goes on with a state, above its index.
func onward(t rapid.TB, s *State, h *MemoryHistory, records []Record) *world {
	t.Helper()
	if err := h.Append(s.Meta().Epoch, records); err != nil {
		t.Fatalf("the records do not append to the history: %v", err)
	}
	return &world{t: t, s: s, history: h, wallMs: s.ClockMs(), index: s.Index(), term: s.Meta().TickTerm + 1}
}

// restoreWorld restores a backup into the world and goes on.
func restoreWorld(t rapid.TB, w *world, backup *State, h *MemoryHistory, atMs int64) *world {
	t.Helper()
	s, records, err := Restored(backup, w.s, recoveryAt(atMs, "restore"))
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return onward(t, s, h, records)
}

// jump moves the clock to a time at once, on the word of a majority.
func (w *world) jump(toMs int64) {
	w.t.Helper()
	w.term++
	w.wallMs = toMs
	w.must(w.doAt(toMs, Actor{}, nil, Tick{Term: w.term, Voters: 1, Walls: walls(toMs, 0)}))
}

// setBack recovers the clock.
func (w *world) setBack(toMs int64) Result {
	w.t.Helper()
	w.wallMs = toMs
	return w.do(admin, ClockRecover{Voters: 3, Walls: walls(toMs, 0, 1), Reason: "it ran ahead"})
}

// admittedOf returns the claims that a log admitted, each once.
func admittedOf(log []logged) []Claim {
	var out []Claim
	for _, l := range log {
		if l.cmd.Kind != KindAdmitBatch || !l.res.OK() {
			continue
		}
		b, err := BodyOf[AdmitBatch](l.cmd)
		if err != nil {
			panic(err)
		}
		for i, r := range l.res.Claims {
			if r.Code == CodeOK && !r.Repeated {
				out = append(out, b.Claims[i])
			}
		}
	}
	return out
}

// open tells whether the state would let a claim use its nonce, if agent, key
// and quota were all in order.
func (s *State) open(c *Claim) bool {
	_, used := s.nonces.find(nonceKeyOf(c.Key, c.Nonce))
	return s.Recovering() == 0 && s.inWindow(c.TimestampMs, s.ClockMs()) && !used
}

// replayAll asks for each claim again, as itself and under another claim id;
// nothing is admitted anew, whoever the agent is.
func (w *world) replayAll(claims []Claim) {
	w.t.Helper()
	var batch []Claim
	for _, c := range claims {
		if w.s.open(&c) {
			w.t.Fatalf("clock %d: nonce %s of %s, signed at %+d ms, is open again (floor %+d, closed %v)",
				w.s.ClockMs(), c.Nonce, c.AgentID, c.TimestampMs-w.s.ClockMs(), w.s.Meta().NonceFloorMs-w.s.ClockMs(), w.s.Meta().Closed)
		}
		c.Caller = 0
		other := c
		other.Tag[15]++
		other.ClaimID = ClaimTag{}
		batch = append(batch, c, other)
	}
	for chunk := range slices.Chunk(batch, MaxClaims) {
		for i, r := range w.admit(chunk...) {
			if r.Code == CodeOK && !r.Repeated {
				w.t.Fatalf("clock %d: claim %+v is admitted a second time", w.s.ClockMs(), chunk[i])
			}
		}
	}
}

// waitOut moves the clock to the end of the pause, in which nothing is admitted
// and the time of its end is told exactly.
func (w *world) waitOut(agent string) {
	w.t.Helper()
	until := w.s.Recovering()
	if until == 0 {
		w.t.Fatal("there is no pause")
	}
	for i, now := range []int64{w.s.ClockMs(), w.s.ClockMs() + 1, (w.s.ClockMs() + until) / 2, until - 1} {
		w.jump(max(now, w.s.ClockMs()))
		fresh := claimOf(agent, fmt.Sprint("in the pause ", i), w.s.ClockMs(), "")
		for _, got := range []ClaimResult{w.admit(fresh)[0], w.s.Check(&fresh, w.s.ClockMs())} {
			if got.Code != CodeUnavailable || got.RetryAfterMs != until-w.s.ClockMs() || got.RetryAfterMs < 1 {
				w.t.Fatalf("%d ms before the end: %+v", until-w.s.ClockMs(), got)
			}
		}
		// A replica that lags behind the cluster time asks nobody to come back in the past.
		if got := w.s.Check(&fresh, until); got.Code == CodeUnavailable {
			w.t.Fatalf("at the end: %+v", got)
		}
	}
	w.jump(until)
	if w.s.Recovering() != 0 {
		w.t.Fatal("the pause does not end when it was said to")
	}
	fresh := claimOf(agent, "after the pause", w.wallMs, "")
	if got := w.s.Check(&fresh, until-1); got.Code != CodeOK { // a node whose estimate lags behind what was applied
		w.t.Fatalf("after the end, in the eyes of a slow node: %+v", got)
	}
	w.wantVerdict(fresh, CodeOK)
}

// narrow makes windows of a second and quotas without end, so that every
// millisecond can be tried and no limit hides a replay.
func narrow(p *Policy) {
	p.MaxSkewMs = MinSkewMs
	p.RateLimit = RateLimit{Requests: MaxRateRequests, WindowMs: MinRateWindowMs}
}

// everyMillisecond is a claim for each timestamp that the window accepts now.
func (w *world) everyMillisecond(label string) []Claim {
	var out []Claim
	for d := int64(-MinSkewMs); d <= MinSkewMs; d++ {
		out = append(out, claimOf("a", fmt.Sprint(label, d), w.wallMs+d, fmt.Sprint(label, d)))
	}
	return out
}

func TestRecover(t *testing.T) {
	w, _, _ := busyBackup(t)
	w.must(w.do(Actor{TokenID: "observer"}, CoordinatorJoin{Coordinator: nodeOf("watcher", RoleObserver)}))
	c := claimOf("b", "kept", w.wallMs, "kept")
	w.wantVerdict(c, CodeOK)
	s, h := backupOf(t, w)
	was := s.Meta()
	digest := s.Digest()
	if records, err := s.Recover(recoveryAt(w.wallMs, "recover"), "nobody"); err == nil || records != nil || s.Digest() != digest {
		t.Errorf("with an unknown survivor: %v", err)
	}
	records, err := s.Recover(recoveryAt(w.wallMs+50, "recover"), "new")
	if err != nil {
		t.Fatal(err)
	}
	r := onward(t, s, h, records)
	if s.Digest() != s.FullDigest() {
		t.Error("the digest kept is not that of the contents")
	}
	m := s.Meta()
	if m.Epoch != 2 || m.ClockMs != w.wallMs+50 || m.NonceFloorMs != w.wallMs+50+60_000 || m.Index != was.Index || m.ChainHead != was.ChainHead || m.AdminSize != was.AdminSize+3 {
		t.Errorf("from %+v to %+v", was, m)
	}
	if n := s.Coordinators(); len(n) != 1 || n[0].ID != "new" || !s.IsRemoved("n0") || !s.IsRemoved("watcher") || s.IsRemoved("new") {
		t.Errorf("members %+v, removed %+v", n, s.Removed())
	}
	if len(s.Marks()) != 0 || len(s.Divergences()) != 0 {
		t.Errorf("marks %v, differing %v", s.Marks(), s.Divergences())
	}
	for _, tok := range s.Tokens() {
		if tok.Role.SingleUse() {
			t.Errorf("the token %s of role %s is left", tok.ID, tok.Role)
		}
	}
	if !h.covers(s.Totals()) {
		t.Error("the history is not that of the state")
	}
	replica, _ := restored(t, snapshotOf(t, s, h))
	r.want(r.do(operator, r.banOf("z", "e9", "n0", nil)), CodeInvalid) // a key of the removed
	r.waitOut("late")
	r.wantVerdict(c, CodeTimestampSkew)
	r.must(r.do(operator, r.banOf("z", "e9", "new", nil)))
	verifyChain(t, s, h, 7)
	replay(t, replica, r.log)
}

func TestRecoverWithoutRoomChangesNothing(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n2", RoleCoordinator)}))
	digest := w.s.Digest()
	w.s.removed.cap = 1
	if _, err := w.s.Recover(recoveryAt(w.wallMs, "recover"), "n1"); err == nil || w.s.Digest() != digest {
		t.Errorf("%v", err)
	}
	w.s.removed.cap = 2
	if _, err := w.s.Recover(recoveryAt(w.wallMs, "recover"), "n1"); err != nil {
		t.Error(err)
	}
}
