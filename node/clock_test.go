package node

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// shifted gives a node a wall clock that a test can move.
func shifted(offset *atomic.Int64) func() time.Time {
	return func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
}

// runaway is a wall clock that once it is let go is ahead, and gains a tenth.
type runaway struct {
	ahead time.Duration // from the start
	since atomic.Int64  // when it was let go, Unix nanoseconds; 0: it is true still
}

func (r *runaway) now() time.Time {
	now := time.Now()
	if since := r.since.Load(); since != 0 {
		return now.Add(r.ahead + now.Sub(time.Unix(0, since))/10)
	}
	return now
}

// newTrioOfClocks starts three nodes whose clocks a test can move.
func newTrioOfClocks(t *testing.T, now func(i int) func() time.Time) *trio {
	t.Helper()
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	c := &trio{t: t}
	t.Cleanup(c.stopAll)
	c.adjust = func(i int, cfg *Config) { cfg.Now = now(i) }
	c.grow(3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	return c
}

// TestLeaderClockJump: a leader whose clock jumps stamps nothing; another one
// takes over, the cluster clock stays true, and honest requests are not refused.
func TestLeaderClockJump(t *testing.T) {
	for _, jump := range []time.Duration{50 * time.Second, -time.Hour, 365 * 24 * time.Hour} {
		t.Run(fmt.Sprint(jump), func(t *testing.T) {
			offsets := make([]atomic.Int64, 3)
			c := newTrioOfClocks(t, func(i int) func() time.Time { return shifted(&offsets[i]) })
			lead := c.leader()
			c.honestUntilItMoves(lead, func() { offsets[lead].Store(int64(jump)) })
			c.eventually("every node names the clock that is off", func() bool { return c.allTellSkew(lead, jump) })
		})
	}
}

// TestLeaderClockDrifts: a clock that gains a tenth is left behind where the
// voters' may not differ any more; it starts shortly before that.
func TestLeaderClockDrifts(t *testing.T) {
	t.Parallel()
	clocks := make([]runaway, 3)
	c := newTrioOfClocks(t, func(i int) func() time.Time { return clocks[i].now })
	lead := c.leader()
	clocks[lead].ahead = fsm.MaxClockSpreadMs*time.Millisecond - 200*time.Millisecond
	c.honestUntilItMoves(lead, func() { clocks[lead].since.Store(time.Now().UnixNano()) })
}

// honestUntilItMoves spoils the leader's clock and has honest requests asked at
// another node until that clock no longer leads.
func (c *trio) honestUntilItMoves(lead int, spoil func()) {
	t := c.t
	t.Helper()
	a, verifier := c.enroll(0, "honest"), c.token("verifier", -1)
	spoil()
	for i := 0; i < 25 || c.leader() == lead || c.leader() < 0; i++ {
		got, err := c.client((lead+1)%3, verifier).Admit(t.Context(), a.request(t, fmt.Sprint("n", i)))
		if err != nil && client.RetryOf(code(err)) == client.RetryNo {
			t.Fatalf("request %d: %v", i, err)
		}
		if err == nil && got.Code != client.VerdictOK && got.Code != client.VerdictRateLimited {
			t.Fatalf("an honest request was refused: %+v", got)
		}
		pause(t.Context(), 20*time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal("leadership does not leave the clock that is off")
		}
	}
	for i, n := range c.nodes {
		if d := n.Status().ClockMs - time.Now().UnixMilli(); d > fsm.MaxClockSpreadMs+maxDrift.Milliseconds() {
			t.Errorf("node %d: the cluster clock is %d ms ahead", i, d)
		}
	}
}

// allTellSkew tells whether the status and the metrics of every node name the
// skew of one, itself included.
func (c *trio) allTellSkew(off int, want time.Duration) bool {
	near := func(ms int64) bool { return (time.Duration(ms)*time.Millisecond - want).Abs() < time.Second }
	for i, n := range c.nodes {
		st := n.Status()
		if i == off && !near(st.ClockSkewMs) {
			return false
		}
		for _, v := range st.Voters {
			if v.ClockSkewMs == nil || (v.Name == c.cfgs[off].Name) != near(*v.ClockSkewMs) {
				return false
			}
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(n.Collectors()...)
		if text := gathered(c.t, registry); i != off && !strings.Contains(text, `edgecoder_peer_clock_offset_seconds{peer="`+c.cfgs[off].Name+`"} `) {
			return false
		}
	}
	return true
}

// TestNoMajorityOfClocks: with three clocks apart nobody may stamp. Admissions are
// unavailable for the reason clock, which names all three; nothing is poisoned, and
// it passes with the fault.
func TestNoMajorityOfClocks(t *testing.T) {
	t.Parallel()
	heavy(t)
	offsets := make([]atomic.Int64, 3)
	c := newTrioOfClocks(t, func(i int) func() time.Time { return shifted(&offsets[i]) })
	a, verifier := c.enroll(0, "honest"), c.token("verifier", -1)
	lead := c.leader()
	offsets[(lead+1)%3].Store(int64(time.Hour))
	offsets[(lead+2)%3].Store(int64(-time.Hour))
	k := 0
	ask := func() (client.Admission, error) {
		k++
		return c.client((lead+1)%3, verifier).Admit(t.Context(), a.request(t, fmt.Sprint("n", k)))
	}
	c.eventually("admissions stop over the clocks", func() bool {
		_, err := ask()
		e := (*client.Error)(nil)
		if !errors.As(err, &e) || e.Reason != reasonClock {
			return false
		}
		if e.Code != client.CodeUnavailable {
			t.Errorf("%+v", e)
		}
		for _, cfg := range c.cfgs {
			if !strings.Contains(e.Detail, cfg.Name+" ") {
				t.Errorf("%s is not named: %s", cfg.Name, e.Detail)
			}
		}
		return true
	})
	for i := range offsets {
		offsets[i].Store(0)
	}
	c.eventually("admissions go on", func() bool { got, err := ask(); return err == nil && got.Verdict == client.VerdictAdmitted })
	if d := c.nodes[lead].Status().ClockMs - time.Now().UnixMilli(); d > fsm.MaxClockSpreadMs {
		t.Errorf("the cluster clock is %d ms ahead", d)
	}
}
