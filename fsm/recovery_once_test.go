package fsm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

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
		if until, closed := r.s.Recovering(), r.s.Meta().Closed; len(closed) == 0 || until != closed[0].ToMs+1 || closed[len(closed)-1].ToMs >= ahead+6_000 {
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
			w.apply(cmd)
			latest = max(latest, w.s.ClockMs())
		}
		claims := admittedOf(w.log)
		var r *world
		switch how {
		case "restore":
			r = restoreWorld(t, w, backup, h, w.s.ClockMs()-pick(t, "wall behind", []int64{0, 5_000, 3_600_000}))
		case "recover":
			forgetful := recoveryAt(latest, "recover")
			forgetful.Forgetful = true
			records, err := backup.Recover(forgetful, backup.Coordinators()[0].ID)
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
