package fsm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
)

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
