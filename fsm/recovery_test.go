package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

// A recovery is where somebody with an old request waits for the cluster to
// forget. P1: it never does.

func recoveryAt(atMs int64, action string) Recovery {
	return Recovery{AtMs: atMs, Actor: Actor{NodeID: "n0"}, Action: action, Detail: "for a test"}
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

func TestP1OnceAcrossRestoreOfABackup(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(narrow)
	before := w.everyMillisecond("before")
	w.admit(before...)
	backup, h := backupOf(t, w)
	w.pass(700)
	w.admit(w.everyMillisecond("after")...)
	claims := admittedOf(w.log)
	if len(claims) < 3500 {
		t.Fatalf("%d claims admitted: the test shows nothing", len(claims))
	}
	end := w.wallMs
	r := restoreWorld(t, w, backup, h, end)
	if until := r.s.Recovering(); until != end+MinSkewMs+1 {
		t.Fatalf("the pause ends after %d ms", until-end)
	}
	for now := end; now < end+2*MinSkewMs+3; now += 37 {
		r.jump(now)
		for i := range claims {
			if r.s.open(&claims[i]) {
				t.Fatalf("%d ms after: the claim signed %+d ms from the restore is open", now-end, claims[i].TimestampMs-end)
			}
		}
	}
	r.replayAll(claims)
	r.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs })
	r.replayAll(claims)
	r.wantVerdict(claimOf("a", "fresh", r.wallMs, ""), CodeOK)
}

func TestP1OnceRestorePausesAdmissions(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	backup, h := backupOf(t, w)
	w.enroll("late")
	r := restoreWorld(t, w, backup, h, w.wallMs+5_000) // the wall may be ahead of the cluster clock
	if got := r.s.ClockMs(); got != w.wallMs+5_000 {
		t.Fatalf("the clock is %+d ms from the old one", got-w.wallMs)
	}
	r.wantVerdict(claimOf("late", "n", r.wallMs, ""), CodeUnknownAgent) // who may not act is told so at once
	r.waitOut("a")
}

// Only the policy of the present may have been wide when a nonce was used, or
// an earlier one; the backup's says nothing of it.
func TestP1OnceRestoreOfANarrowerPolicy(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(narrow)
	backup, h := backupOf(t, w)
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = 600_000 })
	w.admit(claimOf("a", "far", w.wallMs+600_000, "far"), claimOf("a", "near", w.wallMs, "near"))
	still := restoreWorld(t, w, backup, h, w.wallMs)
	if until := still.s.Recovering(); until != w.wallMs+600_001 { // what came after this copy of the present may be as far ahead
		t.Errorf("the pause is %d ms", until-w.wallMs)
	}
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = MinSkewMs + 300 })
	w.admit(claimOf("a", "edge", w.wallMs+MinSkewMs+300, "edge")) // in the second in which the floor will lie
	w.setPolicy(narrow)
	w.pass(1)
	_, fresh := backupOf(t, w)
	narrowed, _ := restored(t, snapshotOf(t, w.s, w.history))
	for _, r := range []*world{still, restoreWorld(t, w, narrowed, fresh, w.wallMs)} {
		claims := admittedOf(w.log)
		for _, at := range []int64{1_001, 1_002, 1_300, 2_002, 598_900, 599_000, 600_000, 600_001, 601_000, 602_000} {
			r.jump(w.wallMs + at)
			r.replayAll(claims)
		}
	}
}

// What a clock recovery closed, and the nonces it left far ahead, stay so over
// a restore, of backups from before the poisoning, from within, and from after.
func TestP1OnceRestoreKeepsWhatAClockRecoveryClosed(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(narrow)
	start := w.wallMs
	type copied struct {
		s *State
		h *MemoryHistory
	}
	var backups []copied
	keep := func() {
		s, h := backupOf(t, w)
		backups = append(backups, copied{s, h})
	}
	keep()
	ahead := start + 86_400_000
	w.jump(ahead)
	w.admit(claimOf("a", "dropped", ahead+900, "dropped"))
	keep()
	w.jump(ahead + 5_000)
	w.admit(claimOf("a", "kept", ahead+5_000, "kept"))
	keep()
	w.must(w.setBack(start + 10_000))
	keep()
	claims := admittedOf(w.log)
	for i, b := range backups {
		r := restoreWorld(t, w, b.s, b.h, w.wallMs)
		if until, closed := r.s.Recovering(), r.s.Meta().Closed; len(closed) != 1 || until != closed[0].ToMs+1 || until > ahead+4_000 {
			t.Errorf("backup %d: the pause is %d ms, closed are %v", i, until-r.wallMs, closed)
		}
		for _, at := range []int64{start + 15_000, ahead - 1000, ahead, ahead + 900, ahead + 2_000, ahead + 4_000, ahead + 5_000, ahead + 6_500} {
			r.jump(at)
			r.replayAll(claims)
		}
	}
}

// The property: whatever happened, a claim that was admitted once is never
// admitted again after a restore, a restore into another cluster or a recovery,
// at no later time, under no policy, through restarts and clock recoveries.
func TestP1OnceAcrossRecoveries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := startWorld(t)
		for i := range rapid.IntRange(0, 40).Draw(t, "commands before") {
			w.apply(w.draw(t, i))
		}
		backup, h := backupOf(t, w)
		how := pick(t, "recovery", []string{"restore", "restore", "recover", "into another"})
		latest := w.s.ClockMs()
		for i := range rapid.IntRange(0, 40).Draw(t, "commands after") {
			cmd := w.draw(t, 100+i)
			if cmd.Kind == KindPolicySet && how != "restore" {
				continue // that others widened the window is what a lost copy cannot know
			}
			w.apply(cmd)
			latest = max(latest, w.s.ClockMs())
		}
		claims := admittedOf(w.log)
		var r *world
		switch how {
		case "restore":
			r = restoreWorld(t, w, backup, h, w.s.ClockMs()-pick(t, "wall behind", []int64{0, 5_000, 3_600_000}))
		case "recover":
			records, err := backup.Recover(recoveryAt(latest, "recover"), backup.Coordinators()[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			r = onward(t, backup, h, records)
		case "into another":
			r = restoreWorld(t, otherWorld(t), backup, h, latest)
		}
		attack(t, r, claims)
	})
}

// otherWorld is a fresh cluster of another id and node.
func otherWorld(t rapid.TB) *world {
	t.Helper()
	w := newWorld(t)
	g := genesisOf("m0")
	g.ClusterID, g.CACert = "ffeeddccbbaa99887766554433221100", []byte("another ca")
	w.must(w.do(Actor{}, g))
	w.must(w.do(admin, TokenCreate{ID: "verifier", Role: RoleVerifier, Uses: -1}))
	w.must(w.do(admin, TokenCreate{ID: "coordinator", Role: RoleCoordinator, Uses: -1}))
	return w
}

// attack replays claims at all times that matter, with the window as wide as
// it gets, and once more after the clock was set back.
func attack(t *rapid.T, r *world, claims []Claim) {
	t.Helper()
	for id, role := range map[string]Role{"admin": RoleAdmin, "verifier": RoleVerifier} {
		r.s.tokens.put(id, Token{ID: id, Role: role, UsesLeft: -1}) // whatever the log made of it
	}
	start := r.s.ClockMs()
	widen := func() {
		r.setPolicy(func(p *Policy) {
			p.MaxSkewMs = pick(t, "skew", []int64{1_000, 5_000, 60_000, MaxSkewMs, MaxSkewMs})
			p.RateLimit, p.Overrides = RateLimit{Requests: MaxRateRequests, WindowMs: MinRateWindowMs}, nil
		})
	}
	for range rapid.IntRange(1, 2).Draw(t, "walks") {
		stops := []int64{r.s.Recovering(), r.s.Recovering() + 1}
		for _, c := range claims {
			for _, d := range []int64{-MaxSkewMs, -60_000, -5_000, -1_000, 0, 999, 5_000, MaxSkewMs} {
				stops = append(stops, c.TimestampMs+d)
			}
		}
		slices.Sort(stops)
		stops = slices.DeleteFunc(slices.Compact(stops), func(at int64) bool { return at < r.s.ClockMs() })
		every := max(1, len(stops)/25)
		for i := rapid.IntRange(0, every-1).Draw(t, "first stop"); i < len(stops); i += every {
			r.jump(max(stops[i], r.s.ClockMs()))
			if chance(t, "widen", 4) {
				widen()
			}
			if chance(t, "restart", 20) {
				r.s, _ = restored(t, snapshotOf(t, r.s, r.history))
			}
			r.replayAll(claims)
		}
		if r.s.ClockMs() > start {
			r.must(r.setBack(start))
		}
	}
}

// busyBackup is a world with a backup of its past and everything changed since.
func busyBackup(t testing.TB) (w *world, backup *State, h *MemoryHistory) {
	w = genesisWorld(t)
	w.enroll("a", "b")
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("gone", RoleCoordinator)}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("old", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "old"}))
	w.must(w.do(operator, w.banOf("a", "e1", "gone", nil)))
	w.must(w.do(operator, w.banOf("x", "e2", "n0", nil)))
	w.setPolicy(func(p *Policy) { p.Overrides = map[string]RateLimit{"b": {Requests: 2, WindowMs: 600_000}} })
	w.mark()
	backup, h = backupOf(t, w)

	w.pass(10_000)
	w.must(w.do(operator, w.liftOf("x", "e3", "n0")))
	w.must(w.do(operator, w.banOf("b", "e4", "n0", nil)))
	w.must(w.do(operator, w.liftOf("b", "e5", "n0")))
	w.must(w.do(operator, w.banOf("y", "e6", "n0", nil)))
	w.enroll("late")
	w.must(w.do(admin, AgentSetState{AgentID: "a", State: AgentSuspended}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("new", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "gone"}))
	w.must(w.doAt(w.wallMs, admin, &Idempotency{Key: crypto.Hash{1}}, TokenCreate{ID: "made since", Role: RoleViewer, Uses: -1}))
	w.must(w.do(admin, TokenRevoke{ID: "mesh"}))
	w.admit(claimOf("b", "1", w.wallMs, "1"), claimOf("b", "2", w.wallMs, "2"))
	w.setPolicy(func(p *Policy) { p.MaxSkewMs, p.Overrides = 60_000, nil })
	w.s.meta.v.Level, w.s.meta.v.CACert = 7, []byte("rotated")
	w.must(w.do(Actor{}, Tick{Term: 9, Mark: true, Round: &Round{Mark: 1, Voters: 1, Reports: []Report{{NodeID: "n0", Votes: true, Digest: crypto.Hash{1}}, {NodeID: "new", Votes: true, Digest: crypto.Hash{2}}}}}))
	return w, backup, h
}

func TestRestoredKeepsAndTakes(t *testing.T) {
	w, backup, h := busyBackup(t)
	was, before := w.s.Meta(), backup.Meta()
	r := restoreWorld(t, w, backup, h, w.wallMs+7)
	got := r.s.Meta()
	want := Meta{Index: was.Index, ClockMs: w.wallMs + 7, NonceFloorMs: w.wallMs + 7 + DefaultSkewMs, TickTerm: 9, ClusterID: was.ClusterID,
		Epoch: 2, Level: 7, CACert: []byte("rotated"), ChainHead: before.ChainHead, ChainSize: before.ChainSize, AdminSize: before.AdminSize + 1}
	if !sameEncoding(got, want) {
		t.Errorf("meta is %+v, want %+v", got, want)
	}
	for name, same := range map[string]bool{
		"the members":      sameEncoding(r.s.coordinators.values(), w.s.coordinators.values()),
		"the rate windows": r.s.windows.digest() == w.s.windows.digest(),
		"the removed":      sameEncoding(r.s.removed.values(), w.s.removed.values()),
		"the agents":       sameEncoding(r.s.agents.values(), backup.agents.values()),
		"the bans":         sameEncoding(r.s.bans.values(), backup.bans.values()),
		"the policy":       sameEncoding(r.s.Policy(), backup.Policy()),
		"no marks":         len(r.s.Marks()) == 0,
		"nobody differing": len(r.s.Divergences()) == 0 && len(w.s.Divergences()) == 1,
		"no outcomes":      r.s.idempotent.size() == 0 && w.s.idempotent.size() == 1,
	} {
		if !same {
			t.Errorf("the result does not have %s as it should", name)
		}
	}
	for _, tok := range w.s.Tokens() {
		have, ok := r.s.Token(tok.ID)
		if single := tok.Role.SingleUse(); ok == single || (ok && have != tok) {
			t.Errorf("token %s of role %s is there: %t", tok.ID, tok.Role, ok)
		}
	}
	if !r.s.IsRemoved("gone") || !r.s.IsRemoved("old") {
		t.Error("a removed node is not known as removed")
	}
	keys := map[string]SigningKey{}
	for _, k := range r.s.SigningKeys() {
		keys[k.NodeID] = k
	}
	if keys["n0"].RetiredAt != 0 || keys["new"].RetiredAt != 0 || keys["gone"].RetiredAt == 0 || keys["old"].RetiredAt == 0 || len(keys) != 4 {
		t.Errorf("signing keys %+v", keys)
	}
	for _, n := range append(r.s.Coordinators(), nodeOf("gone", RoleCoordinator)) {
		ref := n.SigningKey.Fingerprint()
		if owner, _ := r.s.keyOwners.get(string(ref[:])); owner != ownerCoordinator+n.ID {
			t.Errorf("the key of %s belongs to %q", n.ID, owner)
		}
	}
	verifyChain(t, r.s, r.history, 2)
	if records := recordsOf(t, r.history, StreamAdmin); !strings.Contains(string(records[len(records)-1].Data), fmt.Sprintf("before: epoch=1 index=%d size=%d head=%s", was.Index, was.ChainSize, was.ChainHead)) {
		t.Errorf("the record is %q", records[len(records)-1].Data)
	}

	// P6: what was admitted just before counts under the limit that is back.
	r.jump(r.s.Recovering())
	r.wantVerdict(claimOf("b", "3", r.wallMs, ""), CodeRateLimited)
	r.wantVerdict(claimOf("a", "3", r.wallMs, ""), CodeBlacklisted)
	// The key of an agent that is no more may be enrolled again, a coordinator's may not.
	r.must(r.do(admin, TokenCreate{ID: "agent", Role: RoleAgent, Uses: -1}))
	r.must(r.do(enroller, AgentEnroll{AgentID: "late", PublicKey: publicKey("late")}))
	r.want(r.do(enroller, AgentEnroll{AgentID: "thief", PublicKey: publicKey("node new")}), CodeConflict)
	r.must(r.do(operator, r.banOf("z", "e9", "new", nil)))
	r.want(r.do(operator, r.banOf("z", "e10", "gone", nil)), CodeInvalid)
	verifyChain(t, r.s, r.history, 3)
}

// A backup may be of a past in which a present member was removed: no member
// is locked out by it.
func TestRestoredMembersAreNotRemoved(t *testing.T) {
	w := genesisWorld(t)
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	old, h := backupOf(t, w)
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	backup, newer := backupOf(t, w)
	records, err := old.Recover(recoveryAt(w.wallMs, "recover"), "n1")
	if err != nil {
		t.Fatal(err)
	}
	r := restoreWorld(t, onward(t, old, h, records), backup, newer, w.wallMs)
	if n := r.s.Coordinators(); len(n) != 1 || n[0].ID != "n1" || r.s.IsRemoved("n1") || !r.s.IsRemoved("n0") {
		t.Errorf("members %v, removed %v", n, r.s.Removed())
	}
	if keys := r.s.SigningKeys(); len(keys) != 2 {
		t.Errorf("%d keys", len(keys))
	}
	r.must(r.do(operator, r.banOf("z", "e", "n1", nil)))
}

func TestRestoredIsSound(t *testing.T) {
	w, backup, h := busyBackup(t)
	twin, _ := restored(t, snapshotOf(t, backup, h))
	for name, present := range map[string]*world{"its own cluster": w, "another cluster": otherWorld(t), "another cluster, rebased": otherWorld(t), "itself": onward(t, twin, copyOf(t, h), nil)} {
		t.Run(name, func(t *testing.T) {
			present.must(present.do(Actor{}, Tick{Term: 10}))
			backup, h := restored(t, snapshotOf(t, backup, h))
			kept := historyOf(t, h)
			if strings.Contains(name, "rebased") {
				at := present.s.Index()
				backup.Rebase(at)
				for i := range h {
					h[i] = RebaseRecord(h[i], at)
				}
				kept = historyOf(t, h)
			}
			frozen, digests := present.s.Digest(), backup.Digest()
			recovery := recoveryAt(w.wallMs, "restore")
			s, records, err := Restored(backup, present.s, recovery)
			if err != nil {
				t.Fatal(err)
			}
			if s.Digest() != s.FullDigest() {
				t.Error("the digest kept is not that of the contents")
			}
			r := onward(t, s, kept, records)
			if !kept.covers(s.Totals()) || s.Index() < present.s.Index() || s.Index() < backup.Index() {
				t.Errorf("index %d, history %v", s.Index(), s.Totals())
			}
			data := snapshotOf(t, s, kept)
			if back, _ := restored(t, data); back.FullDigest() != s.Digest() {
				t.Error("a snapshot of the result reads as another state")
			}
			again, records2, err := Restored(backup, present.s, recovery)
			if err != nil || !sameEncoding(records, records2) || !bytes.Equal(snapshotOf(t, again, kept), data) {
				t.Errorf("restored once more it is another: %v", err)
			}
			back, _ := restored(t, data)
			workOn(t, r)
			replay(t, back, r.log) // a replica that got the snapshot goes on as the one that made it
			verifyChain(t, r.s, r.history, 4)
			data = snapshotOf(t, r.s, r.history)
			if _, err := ScanSnapshot(bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
			if present.s.FullDigest() != frozen || present.s.Digest() != frozen || backup.FullDigest() != digests || backup.Digest() != digests {
				t.Error("what was done to the result changed what it was made of")
			}
		})
	}
}

func copyOf(t rapid.TB, h *MemoryHistory) *MemoryHistory {
	t.Helper()
	return historyOf(t, slices.Concat(recordsOf(t, h, StreamBlacklist), recordsOf(t, h, StreamAdmin)))
}

func (h *MemoryHistory) covers(totals Totals) bool {
	_, have := h.Totals()
	return have.Cover(totals) && totals.Cover(have)
}

// workOn touches every field.
func workOn(t testing.TB, r *world) {
	t.Helper()
	node := r.s.Coordinators()[0]
	r.jump(r.s.Recovering())
	r.must(r.do(admin, TokenCreate{ID: "ops", Role: RoleOperator, Uses: -1}))
	r.must(r.do(admin, TokenCreate{ID: "in", Role: RoleAgent, Uses: 1}))
	r.must(r.do(admin, TokenCreate{ID: "join", Role: RoleCoordinator, Uses: -1}))
	ops := Actor{TokenID: "ops"}
	r.must(r.do(ops, r.banOf("q", "q1", node.ID, nil)))
	r.must(r.do(ops, r.liftOf("q", "q2", node.ID)))
	r.must(r.doAt(r.wallMs, Actor{TokenID: "in"}, &Idempotency{Key: crypto.Hash{7}}, AgentEnroll{AgentID: "q", PublicKey: publicKey("q")}))
	r.must(r.do(ops, AgentSetState{AgentID: "b", State: AgentSuspended}))
	r.must(r.do(Actor{TokenID: "join"}, CoordinatorJoin{Coordinator: nodeOf("q", RoleCoordinator)}))
	r.must(r.do(Actor{NodeID: node.ID}, CoordinatorUpdate{ID: node.ID, API: "q:1", Raft: "q:2", Gossip: "q:3"}))
	r.must(r.do(admin, CoordinatorRemove{ID: "q"}))
	r.setPolicy(func(p *Policy) { p.Overrides = map[string]RateLimit{"q": {Requests: 1, WindowMs: 1000}} })
	r.wantVerdict(claimOf("q", "1", r.wallMs, "q"), CodeOK)
	r.mark()
	r.pass(1)
	r.mark()
	r.must(r.setBack(r.wallMs - 1))
}

// The usual disaster: all is lost but a backup, and a new cluster, whose log
// has just begun, takes it.
func TestRestoreIntoAnotherCluster(t *testing.T) {
	w, backup, h := busyBackup(t)
	other := otherWorld(t)
	was := other.s.Meta()
	r := restoreWorld(t, other, backup, copyOf(t, h), w.wallMs+1)
	m := r.s.Meta()
	if m.ClusterID != was.ClusterID || string(m.CACert) != "another ca" || m.Level != was.Level || m.TickTerm != was.TickTerm || m.Epoch != 2 {
		t.Errorf("meta %+v", m)
	}
	if m.ClockMs != w.wallMs+1 || m.Index != backup.Index() || m.Index <= was.Index {
		t.Errorf("clock %d, index %d", m.ClockMs, m.Index)
	}
	if n := r.s.Coordinators(); len(n) != 1 || n[0].ID != "m0" {
		t.Errorf("members %+v", n)
	}
	for _, k := range r.s.SigningKeys() {
		if (k.RetiredAt == 0) != (k.NodeID == "m0") || (k.RetiredAt != 0 && k.RetiredAt < k.Since) {
			t.Errorf("key %+v", k)
		}
	}
	if _, ok := r.s.Token("operator"); ok {
		t.Error("a token of the other cluster is in force here")
	}
	r.waitOut("b")
	verifyChain(t, r.s, r.history, 2)
	// A clock of the other cluster that ran ahead does not run here.
	ahead := backup.Meta().ClockMs + 86_400_000
	poisoned := onward(t, backup, historyOf(t, nil), nil)
	poisoned.jump(ahead)
	poisoned.admit(claimOf("b", "ahead", ahead, "ahead"))
	poisoned.jump(ahead + 600_000)
	r = restoreWorld(t, otherWorld(t), poisoned.s, h, worldStart)
	if r.s.ClockMs() != worldStart {
		t.Errorf("the clock is %+d ms", r.s.ClockMs()-worldStart)
	}
	for _, at := range []int64{0, 1_000, 200_000} {
		r.jump(ahead + at)
		r.replayAll([]Claim{claimOf("b", "ahead", ahead, "ahead")})
	}
}

func TestRestoredTwiceRaisesTheEpochTwice(t *testing.T) {
	w, backup, h := busyBackup(t)
	r := restoreWorld(t, w, backup, copyOf(t, h), w.wallMs)
	second := restoreWorld(t, r, backup, copyOf(t, h), w.wallMs)
	if r.s.Meta().Epoch != 2 || second.s.Meta().Epoch != 3 {
		t.Errorf("epochs %d and %d", r.s.Meta().Epoch, second.s.Meta().Epoch)
	}
	newer, hn := backupOf(t, second)
	if third := restoreWorld(t, r, newer, hn, w.wallMs); third.s.Meta().Epoch != 4 { // the backup saw more recoveries than we did
		t.Errorf("epoch %d", third.s.Meta().Epoch)
	}
}

func TestRestoredRefuses(t *testing.T) {
	w := genesisWorld(t)
	for name, c := range map[string][2]*State{"no backup": {NewState(), w.s}, "no cluster": {w.s, NewState()}} {
		if s, _, err := Restored(c[0], c[1], recoveryAt(1, "restore")); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	full, _ := backupOf(t, w)
	for i := range MaxRemoved {
		full.removed.m[fmt.Sprint(i)] = Removal{} // past the digest: a state of that size takes long
	}
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(admin, CoordinatorRemove{ID: "n1"}))
	if _, _, err := Restored(full, w.s, recoveryAt(1, "restore")); err == nil {
		t.Error("more removed nodes than there is room for")
	}
}

// Nonces and claim ids of two pasts meet: each nonce stays used, and what comes
// of it can be read back from a snapshot.
func TestRestoredOfTwoPasts(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs })
	fork, h := backupOf(t, w)
	other := onward(t, fork, h, nil)
	far := w.wallMs + MaxSkewMs
	w.admit(claimOf("a", "here", far, "c"), claimOf("a", "both", far, "d"))
	w.setPolicy(narrow)
	other.admit(claimOf("a", "there", far, "c"), claimOf("a", "both", far-1, "e"))
	other.setPolicy(narrow)
	r := restoreWorld(t, w, other.s, other.history, w.wallMs)
	if r.s.FullDigest() != r.s.Digest() || r.s.nonces.size() != 3 {
		t.Errorf("%d nonces", r.s.nonces.size())
	}
	r.s, _ = restored(t, snapshotOf(t, r.s, r.history))
	r.jump(far)
	r.replayAll(slices.Concat(admittedOf(w.log), admittedOf(other.log)))
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

// poisonedWorld has a clock a day ahead.
func poisonedWorld(t testing.TB) (w *world, right int64) {
	w = genesisWorld(t)
	w.enroll("a")
	w.setPolicy(narrow)
	right = w.wallMs
	w.jump(right + 86_400_000)
	return w, right
}

func TestClockRecoverRefused(t *testing.T) {
	_, right := poisonedWorld(t)
	ahead := right + 86_400_000
	good := ClockRecover{Voters: 3, Walls: walls(right, 0, 5_000)}
	for name, c := range map[string]struct {
		by   Actor
		at   int64
		body ClockRecover
		want Code
	}{
		"operator":         {operator, right, good, CodeForbidden},
		"nobody":           {Actor{NodeID: "n0"}, right, good, CodeUnauthorized},
		"not ahead":        {admin, ahead, ClockRecover{Voters: 1, Walls: walls(ahead, 0)}, CodeConflict},
		"ahead of us":      {admin, ahead + 1, ClockRecover{Voters: 1, Walls: walls(ahead, 0)}, CodeConflict},
		"one of three":     {admin, right, ClockRecover{Voters: 3, Walls: walls(right, 0)}, CodeInvalid},
		"one of two":       {admin, right, ClockRecover{Voters: 2, Walls: walls(right, 0)}, CodeInvalid},
		"too far apart":    {admin, right, ClockRecover{Voters: 3, Walls: walls(right, 0, 5_001, -5_001)}, CodeInvalid},
		"no voters":        {admin, right, ClockRecover{Walls: walls(right, 0, 0)}, CodeInvalid},
		"one voter twice":  {admin, right, ClockRecover{Voters: 3, Walls: append(walls(right, 0), walls(right, 1)...)}, CodeInvalid},
		"another time":     {admin, right, ClockRecover{Voters: 1, Walls: walls(ahead, 0)}, CodeInvalid},
		"no stamp":         {admin, 0, ClockRecover{Voters: 1, Walls: walls(0, 0)}, CodeInvalid},
		"before all time":  {admin, -4_000, ClockRecover{Voters: 1, Walls: walls(0, 0)}, CodeInvalid},
		"an endless cause": {admin, right, ClockRecover{Voters: 1, Walls: walls(right, 0), Reason: strings.Repeat("x", MaxReasonBytes+1)}, CodeTooLarge},
	} {
		w, _ := poisonedWorld(t)
		before := w.s.FieldDigests()
		delete(before, "meta") // whose clock may have moved on
		w.want(w.doAt(c.at, c.by, nil, c.body), c.want)
		after := w.s.FieldDigests()
		delete(after, "meta")
		if !maps.Equal(before, after) || w.s.Meta().Epoch != 1 || w.s.ClockMs() < ahead {
			t.Errorf("%s: it took effect", name)
		}
		w.must(w.doAt(right, admin, nil, good))
	}
}

func TestClockRecover(t *testing.T) {
	w, right := poisonedWorld(t)
	w.mark()
	w.must(w.do(admin, TokenCreate{ID: "stays", Role: RoleViewer, Uses: 1}))
	w.must(w.do(joiner, CoordinatorJoin{Coordinator: nodeOf("n1", RoleCoordinator)}))
	w.must(w.do(Actor{}, Tick{Round: &Round{Mark: 1, Voters: 1, Reports: []Report{{NodeID: "n0", Votes: true, Digest: crypto.Hash{1}}, {NodeID: "n1", Votes: true, Digest: crypto.Hash{2}}}}}))
	idem := &Idempotency{Key: crypto.Hash{1}}
	body := ClockRecover{Voters: 1, Walls: walls(right, 0), Reason: "ntp"}
	res := w.must(w.doAt(right, admin, idem, body))
	if again := w.must(w.doAt(right, admin, idem, body)); !again.Repeated || again.Index != res.Index || w.s.Meta().Epoch != 2 {
		t.Errorf("asked again: %+v, epoch %d", again, w.s.Meta().Epoch)
	}
	w.wallMs = right
	m := w.s.Meta()
	if m.ClockMs != right || m.NonceFloorMs != right+MinSkewMs || len(m.Closed) != 0 || len(w.s.Marks()) != 0 || res.ClockMs != right {
		t.Errorf("meta %+v, marks %v", m, w.s.Marks())
	}
	if _, ok := w.s.Token("stays"); !ok {
		t.Error("an API token is gone")
	}
	if _, ok := w.s.Token("coordinator"); ok {
		t.Error("a join token is left")
	}
	if _, still := w.s.Diverged("n1"); !still {
		t.Error("a replica that differs serves again")
	}
	last := w.log[len(w.log)-2].records
	var rec AdminRecord
	if err := Decode(last[len(last)-1].Data, &rec); err != nil || rec.Action != "recover_clock" || rec.AtMs != right || rec.Actor != admin || !strings.Contains(rec.Detail, "epoch=1 clock_ms=") || !strings.HasSuffix(rec.Detail, " ntp") {
		t.Errorf("record %+v, %v", rec, err)
	}
	w.waitOut("a")
	back, _ := restored(t, snapshotOf(t, w.s, w.history))
	if back.FullDigest() != w.s.Digest() {
		t.Error("a snapshot reads as another state")
	}
}

// Whatever was admitted before and while the clock was poisoned, dropped since
// or not, stays used however the clock moves on.
func TestP1OnceAcrossClockRecovery(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(narrow)
	right := w.wallMs
	w.admit(w.everyMillisecond("before")...)
	ahead := right + 30_000
	w.jump(ahead)
	for i := range 6 { // the earlier of these are dropped when the later come
		w.pass(1_500)
		w.admit(w.everyMillisecond(fmt.Sprint("ahead", i))...)
	}
	claims := admittedOf(w.log)
	end := w.wallMs
	if n := w.s.Sizes()["nonces"]; n >= len(claims)/2 || n == 0 {
		t.Fatalf("%d of %d nonces are kept: the test shows nothing", n, len(claims))
	}
	w.must(w.setBack(right + 10))
	if got := w.s.Meta().Closed; len(got) != 1 || got[0].ToMs >= end {
		t.Fatalf("closed %v", got)
	}
	w.replayAll(claims)
	w.waitOut("a")
	for now := w.wallMs; now < end+3*MinSkewMs; now += 307 {
		w.jump(now)
		for i := range claims {
			if w.s.open(&claims[i]) {
				t.Fatalf("at %+d ms the claim signed at %+d ms is open", now-end, claims[i].TimestampMs-end)
			}
		}
		if now%5_000 < 307 {
			w.replayAll(claims)
		}
	}
	w.setPolicy(func(p *Policy) { p.MaxSkewMs = MaxSkewMs })
	w.replayAll(claims)
	w.wantVerdict(claimOf("a", "fresh", w.wallMs, ""), CodeOK)
}

// P6: what was admitted ahead counts as admitted at the moment the clock was
// set back to, and what was admitted before counts when it was.
func TestP6LimitsAcrossClockRecovery(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.setPolicy(func(p *Policy) {
		p.MaxSkewMs, p.RateLimit = 20_000, RateLimit{Requests: 4, WindowMs: 60_000}
	})
	w.wantVerdict(claimOf("a", "1", w.wallMs, ""), CodeOK)
	right := w.wallMs + 10_000
	w.pass(20_000) // ahead of the world by ten seconds
	w.wantVerdict(claimOf("a", "2", w.wallMs, ""), CodeOK)
	w.pass(5_000)
	w.wantVerdict(claimOf("a", "3", w.wallMs, ""), CodeOK)
	w.wantVerdict(claimOf("a", "4", w.wallMs, ""), CodeOK)
	w.wantVerdict(claimOf("b", "1", w.wallMs, ""), CodeOK)
	w.must(w.setBack(right))
	if w.s.windows.runs != 3 || w.s.Digest() != w.s.FullDigest() {
		t.Errorf("%d runs", w.s.windows.runs)
	}
	twin, _ := restored(t, snapshotOf(t, w.s, w.history))
	if twin.windows.runs != 3 || twin.windows.digest() != w.s.windows.digest() {
		t.Error("the windows read back differ")
	}
	w.jump(w.s.Recovering())
	got := w.admit(claimOf("a", "5", w.wallMs, ""))[0]
	if want := right - 10_000 + 60_001 - w.wallMs; got.Code != CodeRateLimited || got.RetryAfterMs != want {
		t.Fatalf("%+v, want a slot after %d ms", got, want)
	}
	w.jump(w.wallMs + got.RetryAfterMs)
	w.wantVerdict(claimOf("a", "5", w.wallMs, ""), CodeOK)
	w.wantVerdict(claimOf("a", "6", w.wallMs, ""), CodeRateLimited)
	w.jump(right + 60_000)
	w.wantVerdict(claimOf("a", "6", w.wallMs, ""), CodeRateLimited)
	w.jump(right + 60_001)
	for i, want := range []Code{CodeOK, CodeOK, CodeOK, CodeRateLimited} {
		w.wantVerdict(claimOf("a", fmt.Sprint("last", i), w.wallMs, ""), want)
	}
}

func TestWindowsSetBack(t *testing.T) {
	limit := RateLimit{Requests: 100, WindowMs: MaxRateWindowMs}
	for name, c := range map[string]struct {
		at, want []int64
		runs     int
	}{
		"all before":     {[]int64{10, 20}, []int64{10, 20}, 2},
		"some after":     {[]int64{10, 60, 70}, []int64{10, 50, 50}, 2},
		"one at it":      {[]int64{10, 50, 70, 70}, []int64{10, 50, 50, 50}, 2},
		"all after":      {[]int64{60, 61, 62}, []int64{50, 50, 50}, 1},
		"at it and then": {[]int64{50, 51}, []int64{50, 50}, 1},
	} {
		rw := newRateWindows()
		want := newRateWindows()
		for _, at := range c.at {
			rw.take("a", at, limit)
		}
		for _, at := range c.want {
			want.take("a", at, limit)
		}
		rw.digest()
		rw.setBack(50)
		if rw.runs != c.runs || rw.digest() != want.digest() || rw.recompute() != rw.digest() || rw.agents["a"].total != int64(len(c.at)) {
			t.Errorf("%s: %+v, %d runs", name, rw.agents["a"], rw.runs)
		}
	}
}

// More recoveries than ranges are kept: nothing opens again.
func TestClosedRangesAreBounded(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(narrow)
	base := w.wallMs
	// Each poisoning is less far ahead than the one before, so that no floor
	// covers an earlier range.
	for i := range maxClosed + 8 {
		at := base + int64(maxClosed+8-i)*3_600_000
		w.jump(at)
		w.admit(claimOf("a", fmt.Sprint("dropped", i), at, ""), claimOf("a", fmt.Sprint("later", i), at+1_000, ""))
		w.jump(at + 5_000)
		w.admit(claimOf("a", fmt.Sprint("kept", i), at+5_000, ""))
		w.must(w.setBack(base + int64(i)))
		closed := w.s.Meta().Closed
		if len(closed) > maxClosed || !slices.IsSortedFunc(closed, func(a, b TimeRange) int { return int(a.ToMs - b.FromMs) }) {
			t.Fatalf("after %d recoveries the closed ranges are %v", i+1, closed)
		}
		if w.s.Meta().Epoch != uint64(i)+2 {
			t.Fatalf("epoch %d after %d recoveries", w.s.Meta().Epoch, i+1)
		}
	}
	claims := admittedOf(w.log)
	for i := range maxClosed + 9 {
		for _, d := range []int64{-500, 0, 700, 1_500, 3_000, 5_500} {
			if at := base + int64(i)*3_600_000 + d; at > w.s.ClockMs() {
				w.jump(at)
				w.replayAll(claims)
			}
		}
	}
}

// closeRange against every millisecond: what was closed stays closed, nothing
// else is as long as there is room, and the list is in order.
func TestCloseRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		s.meta.v.NonceFloorMs = rapid.Int64Range(0, 20).Draw(t, "floor")
		var shut [301]bool
		exact := true // until there were too many
		for range rapid.IntRange(1, 60).Draw(t, "ranges") {
			from := rapid.Int64Range(0, 290).Draw(t, "from")
			r := TimeRange{FromMs: from, ToMs: min(300, from+rapid.Int64Range(0, 3).Draw(t, "length"))}
			before := s.meta.v.Closed
			old := slices.Clone(before)
			s.closeRange(r)
			for ms := max(r.FromMs, 0); ms <= r.ToMs; ms++ {
				shut[ms] = true
			}
			closed := s.meta.v.Closed
			if !slices.Equal(before, old) {
				t.Fatal("the list before was written to")
			}
			for i := 1; i < len(closed); i++ {
				if closed[i].FromMs <= closed[i-1].ToMs+1 {
					t.Fatalf("out of order or touching: %v", closed)
				}
			}
			exact = exact && len(closed) < maxClosed
			for ms := s.meta.v.NonceFloorMs + 1; ms <= 300; ms++ {
				if got := s.closedAt(ms); (shut[ms] && !got) || (!shut[ms] && got && exact) {
					t.Fatalf("%d closed: %t, list %v", ms, got, closed)
				}
			}
			if len(closed) > maxClosed {
				t.Fatalf("%d ranges", len(closed))
			}
		}
	})
}

func TestCompare(t *testing.T) {
	w, backup, _ := busyBackup(t)
	ends := w.wallMs + 1_000
	w.must(w.do(operator, w.banOf("short", "e7", "n0", &ends)))
	ids := func(u Undone) (lost, back, gone, other []string) {
		for _, b := range u.BansLost {
			lost = append(lost, b.AgentID)
		}
		for _, b := range u.BansBack {
			back = append(back, b.AgentID)
		}
		for _, a := range u.AgentsLost {
			gone = append(gone, a.ID)
		}
		for _, a := range u.AgentsOther {
			other = append(other, a.ID)
		}
		return
	}
	check := func(when string, u Undone, lost, back, gone, other []string, events uint64, forked bool) {
		t.Helper()
		l, b, g, o := ids(u)
		if !slices.Equal(l, lost) || !slices.Equal(b, back) || !slices.Equal(g, gone) || !slices.Equal(o, other) || u.Events != events || u.Forked != forked {
			t.Errorf("%s: bans lost %v, back %v, agents lost %v, other %v, %d events, forked %t", when, l, b, g, o, u.Events, u.Forked)
		}
	}
	check("of its own past", Compare(backup, w.s), []string{"short", "y"}, []string{"x"}, []string{"late"}, []string{"a"}, 5, false)
	w.pass(1_001)
	check("once a ban is over", Compare(backup, w.s), []string{"y"}, []string{"x"}, []string{"late"}, []string{"a"}, 5, false)
	check("of itself", Compare(w.s, w.s), nil, nil, nil, nil, 0, false)
	check("of its future", Compare(w.s, backup), []string{"x"}, []string{"short", "y"}, nil, []string{"a"}, 0, true)

	// A ban of the backup that a shorter one took the place of comes back, though
	// the row of the shorter one is still there.
	past, _ := backupOf(t, w)
	ends = w.wallMs + 500
	w.must(w.do(operator, w.banOf("y", "e8", "n0", &ends)))
	check("banned anew", Compare(past, w.s), []string{"y"}, nil, nil, nil, 1, false)
	w.pass(501)
	check("and that is over", Compare(past, w.s), nil, []string{"y"}, nil, nil, 1, false)

	// As many events, but other ones.
	fork, _ := backupOf(t, w)
	w.must(w.do(operator, w.banOf("q", "e9", "n0", nil)))
	f := onward(t, fork, historyOf(t, nil), nil)
	f.history = NewMemoryHistory()
	cmd, err := New(operator, f.banOf("r", "e10", "n0", nil))
	if err != nil {
		t.Fatal(err)
	}
	cmd.AtMs = f.wallMs
	if res, _, err := f.s.Apply(f.index+1, cmd); err != nil || !res.OK() {
		t.Fatal(res, err)
	}
	check("of a fork", Compare(f.s, w.s), []string{"q"}, []string{"r"}, nil, nil, 0, true)
}
