package fsm

import (
	"fmt"
	"testing"
)

// P6: the sliding-window limit of an agent holds for the whole cluster, exactly.

func TestP6LimitsReferenceVectors(t *testing.T) {
	var v struct {
		MaxRequests int64 `json:"maxRequests"`
		WindowMs    int64 `json:"windowMs"`
		Sequence    []struct {
			AtMs    int64 `json:"atMs"`
			Allowed bool  `json:"allowed"`
		} `json:"sequence"`
	}
	referenceVectors(t, "rateLimiter", &v)
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: v.MaxRequests, WindowMs: v.WindowMs} })
	start := w.wallMs
	for i, step := range v.Sequence {
		w.wallMs = start + step.AtMs
		want := CodeOK
		if !step.Allowed {
			want = CodeRateLimited
		}
		w.wantVerdict(claimOf("a", fmt.Sprint("n", i), w.wallMs, ""), want)
	}
}

func TestP6LimitsDefaultIsThirty(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	for i := range DefaultRateRequests {
		w.wantVerdict(claimOf("a", fmt.Sprint("n", i), w.wallMs, ""), CodeOK)
	}
	w.wantVerdict(claimOf("a", "n31", w.wallMs, ""), CodeRateLimited)
	w.wantVerdict(claimOf("b", "n31", w.wallMs, ""), CodeOK) // another agent has its own
}

func TestP6LimitsReplayCostsNoQuota(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: 2, WindowMs: 1000} })
	c := claimOf("a", "n", w.wallMs, "c")
	w.wantVerdict(c, CodeOK)
	for i := range 10 {
		w.wantVerdict(claimOf("a", "n", w.wallMs, fmt.Sprint("other", i)), CodeReplay)
		w.wantVerdict(c, CodeOK) // a retry costs none either
		w.wantVerdict(claimOf("a", "m", w.wallMs, "c"), CodeConflict)
		w.wantVerdict(claimOf("a", fmt.Sprint("old", i), w.wallMs-DefaultSkewMs-1, ""), CodeTimestampSkew)
	}
	w.wantVerdict(claimOf("a", "n2", w.wallMs, ""), CodeOK)
	w.wantVerdict(claimOf("a", "n3", w.wallMs, ""), CodeRateLimited)
}

func TestP6LimitsRefusedNonceStaysUnused(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: 1, WindowMs: 1000} })
	w.wantVerdict(claimOf("a", "n1", w.wallMs, ""), CodeOK)
	w.wallMs += 400
	c := claimOf("a", "n2", w.wallMs, "c")
	got := w.admit(c)[0]
	if got.Code != CodeRateLimited || got.RetryAfterMs != 601 {
		t.Fatalf("got %+v, want rate_limited for 601 ms more", got)
	}
	w.wallMs += got.RetryAfterMs - 1
	w.wantVerdict(c, CodeRateLimited)
	w.wallMs++
	w.wantVerdict(c, CodeOK)
}

func TestP6LimitsOverride(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.setPolicy(func(p *Policy) {
		p.RateLimit = RateLimit{Requests: 1, WindowMs: 1000}
		p.Overrides = map[string]RateLimit{"a": {Requests: 3, WindowMs: 1000}}
	})
	for i, want := range []Code{CodeOK, CodeOK, CodeOK, CodeRateLimited} {
		w.wantVerdict(claimOf("a", fmt.Sprint(i), w.wallMs, ""), want)
	}
	w.wantVerdict(claimOf("b", "0", w.wallMs, ""), CodeOK)
	w.wantVerdict(claimOf("b", "1", w.wallMs, ""), CodeRateLimited)

	// A lowered limit counts what was admitted before it and names when a slot frees.
	w.wallMs += 10
	w.setPolicy(func(p *Policy) { p.Overrides = nil })
	if got := w.admit(claimOf("a", "9", w.wallMs, ""))[0]; got.Code != CodeRateLimited || got.RetryAfterMs != 991 {
		t.Errorf("got %+v, want rate_limited for 991 ms", got)
	}
}

func TestP6LimitsRestoreKeepsQuota(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a")
	w.setPolicy(func(p *Policy) { p.RateLimit = RateLimit{Requests: 2, WindowMs: 10_000} })
	w.wantVerdict(claimOf("a", "1", w.wallMs, ""), CodeOK)
	w.wantVerdict(claimOf("a", "2", w.wallMs, ""), CodeOK)
	w.pass(5_000)
	w.mark()
	w.s, _ = restored(t, snapshotOf(t, w.s, w.history))
	w.wantVerdict(claimOf("a", "3", w.wallMs, ""), CodeRateLimited)
	w.pass(5_001)
	w.wantVerdict(claimOf("a", "3", w.wallMs, ""), CodeOK)
}

func TestIdleWindowsAreForgotten(t *testing.T) {
	w := genesisWorld(t)
	w.enroll("a", "b")
	w.verdict(claimOf("a", "1", w.wallMs, ""))
	w.pass(DefaultRateWindowMs)
	w.verdict(claimOf("b", "1", w.wallMs, ""))
	w.mark()
	if n := w.s.Sizes()["rate_windows"]; n != 2 {
		t.Errorf("%d windows, want 2: an entry exactly one window old still counts", n)
	}
	w.pass(1)
	w.mark()
	if n := w.s.Sizes()["rate_windows"]; n != 1 {
		t.Errorf("%d windows, want only that of b", n)
	}
	if w.s.windows.runs != 1 {
		t.Errorf("%d runs are counted, want 1", w.s.windows.runs)
	}
}

// The largest window that the policy allows must survive a snapshot: a row
// that can be written and not read would keep every node from starting.
func TestLargestWindowSurvivesASnapshot(t *testing.T) {
	rw := newRateWindows()
	limit := RateLimit{Requests: MaxRateRequests, WindowMs: MaxRateWindowMs}
	for i := range int64(200_000) { // beyond any default bound of a decoder, short of a slow test
		rw.take("a", worldStart+i, limit)
	}
	back := newRateWindows()
	for row, err := range rw.freeze().rows() {
		if err != nil || len(row) > maxWindowBytes {
			t.Fatalf("row of %d bytes: %v", len(row), err)
		}
		if err := back.load(row); err != nil {
			t.Fatal(err)
		}
	}
	if back.digest() != rw.digest() || back.runs != rw.runs || back.agents["a"].total != rw.agents["a"].total {
		t.Error("the window read back differs")
	}
	// Sliding costs no copy of the whole window for each request.
	if n := testing.AllocsPerRun(1000, func() { rw.check("a", worldStart, limit) }); n != 0 {
		t.Errorf("a check allocates %v times", n)
	}
}

func TestWindowRowsAreStrict(t *testing.T) {
	rw := newRateWindows()
	limit := RateLimit{Requests: 10, WindowMs: 1000}
	rw.take("agent", 5000, limit)
	rw.take("agent", 5001, limit)
	row := rw.encode("agent", rw.agents["agent"])
	bad := map[string][]byte{
		"empty": {}, "trailing": append(append([]byte{}, row...), 0), "no agent": {9, 'a'},
		"count beyond the runs":  {1, 'a', 3, 1, 1},
		"zero count":             {1, 'a', 1, 1, 0},
		"two runs of one moment": {1, 'a', 2, 1, 1, 0, 1},
		"overlong number":        {0x81, 0x00, 'a', 1, 1, 1},
	}
	for i := range row {
		bad[fmt.Sprint("cut at ", i)] = row[:i]
	}
	for name, data := range bad {
		if err := newRateWindows().load(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	back := newRateWindows()
	if err := back.load(row); err != nil {
		t.Fatal(err)
	}
	if err := back.load(row); err == nil {
		t.Error("the same window twice is accepted")
	}
}
