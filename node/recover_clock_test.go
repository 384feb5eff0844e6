package node

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// TestP1ClockRecovery: all clocks were an hour ahead once; the cluster refuses
// honest requests until its clock is set back. What was admitted before stays
// used.
func TestP1ClockRecovery(t *testing.T) {
	heavy(t)
	t.Parallel()
	var world shiftedWorld
	c := &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.Now = world.now }}
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(c.stopAll)
	c.grow(3)
	a, verifier := c.enroll(0, "honest"), c.token("verifier", -1)
	admin := c.client(1, c.admin)
	if _, err := admin.RecoverClock(t.Context(), client.ClockRecovery{}); code(err) != client.CodeConflict {
		t.Fatalf("a clock that is right was recovered: %v", err)
	}
	world.poison(time.Hour)
	c.eventually("the cluster clock follows", func() bool { return c.nodes[1].Status().ClockMs > time.Now().Add(30*time.Minute).UnixMilli() })
	poisoned := a.requestAt(t, "poisoned", time.Now().Add(time.Hour).UnixMilli())
	c.eventually("a request of the poisoned time is admitted", func() bool {
		got, err := c.client(1, verifier).Admit(t.Context(), poisoned)
		return err == nil && got.Verdict == client.VerdictAdmitted
	})
	world.poison(0)
	c.eventually("an honest request is refused as too old", func() bool {
		got, err := c.client(1, verifier).Admit(t.Context(), a.request(t, "late"))
		return err == nil && got.Code == client.VerdictTimestampSkew
	})
	clocks, err := admin.Clocks(t.Context(), client.Strong())
	if err != nil || len(clocks.Voters) != 3 || clocks.Epoch != 1 {
		t.Fatalf("clocks: %+v %v", clocks, err)
	}
	var done client.ClockRecovered
	c.eventually("the clock is set back", func() bool {
		done, err = admin.RecoverClock(t.Context(), client.ClockRecovery{Reason: "the time server was wrong"}, client.IdempotencyKey("once"))
		if err != nil && client.RetryOf(code(err)) == client.RetryNo {
			t.Fatal(err)
		}
		return err == nil
	})
	again, err := admin.RecoverClock(t.Context(), client.ClockRecovery{Reason: "the time server was wrong"}, client.IdempotencyKey("once"))
	if err != nil || !again.Repeated || again.Index != done.Index {
		t.Errorf("the same recovery again: %+v %v", again, err)
	}
	if done.Epoch != 2 || done.ClockMs > time.Now().Add(time.Minute).UnixMilli() || done.AdmissionsFromMs == 0 {
		t.Errorf("recovered: %+v", done)
	}
	c.checkAfterClock(a, verifier, poisoned)
}

// checkAfterClock: every node reads the clock as it is now, admissions pause,
// and everything else goes on.
func (c *trio) checkAfterClock(a agent, verifier string, poisoned client.AdmissionRequest) {
	t := c.t
	t.Helper()
	for i, n := range c.nodes {
		c.eventually(fmt.Sprintf("node %d follows", i), func() bool { return n.epoch() == 2 && n.Ready() == nil })
		if ahead := n.clockMs() - time.Now().UnixMilli(); ahead > time.Minute.Milliseconds() {
			t.Errorf("node %d thinks that the cluster clock is %d ms ahead", i, ahead)
		}
		_, err := c.client(i, verifier).Admit(t.Context(), a.request(t, fmt.Sprint("paused", i)))
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Reason != "recovery" || e.RetryAfter <= 0 {
			t.Errorf("an admission at node %d during the pause: %v", i, err)
		}
		if got, err := c.client(i, verifier).Admit(t.Context(), poisoned); err == nil && got.Verdict == client.VerdictAdmitted && !got.Repeated {
			t.Errorf("node %d admitted a used nonce: %+v", i, got)
		}
	}
	ban := c.ban(1, "after-the-clock")
	event, err := crypto.ParseBlacklistEvent(ban.Event)
	if err != nil || event.TimestampMs > time.Now().Add(time.Minute).UnixMilli() {
		t.Errorf("a ban after it is stamped %d: %v", event.TimestampMs, err)
	}
	if _, err := c.client(2, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); err != nil {
		t.Errorf("a token after it: %v", err)
	}
}

// shiftedWorld is a wall clock that a test moves for all nodes at once.
type shiftedWorld struct{ offset atomic.Int64 }

func (w *shiftedWorld) now() time.Time         { return time.Now().Add(time.Duration(w.offset.Load())) }
func (w *shiftedWorld) poison(d time.Duration) { w.offset.Store(int64(d)) }
