package edge_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
)

// offClock is that of a machine whose wall clock is off.
type offClock struct {
	edge.Clock
	by time.Duration
}

func (c offClock) Wall() time.Time { return c.Clock.Wall().Add(c.by) }

// The wall clock runs two days ahead when the edge starts: a ban of an hour is not lost for that, in this run or in a later one.
func TestClockAheadSweepsNoBans(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("hour", 1, time.Now().Add(time.Hour).UnixMilli())
		c.Ban("ever", 1, 0)
		c.Cosign(3)
		dir := t.TempDir()
		startRigBy(t, offClock{edge.NewClock(), 48 * time.Hour}, dir, c).stop()
		r := startRig(t, dir, c)
		if !r.banned("hour-0") || !r.banned("ever-0") {
			t.Errorf("a ban in force was swept: %s", brief(r.Status()))
		}
	})
}

// besides returns a name of whom a ban stands in the same shard, which is swept when it changes.
func besides(agent string) string {
	of := func(a string) uint16 { key := edge.KeyOf(a); return binary.BigEndian.Uint16(key[:]) >> 3 }
	for i := 0; ; i++ {
		if name := fmt.Sprintf("n%d", i); of(name+"-0") == of(agent) {
			return name
		}
	}
}

// The coordinators' clocks ran three days ahead; `recover clock` sets them right, in a new epoch: leases run again, and what was swept by the wrong
// time is back.
func TestLeaseAfterClockRecovery(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var ahead time.Duration
		c := edgetest.New(3, func() int64 { return time.Now().Add(ahead).Unix() })
		r := startRig(t, t.TempDir(), c)
		c.Ban("hour", 1, time.Now().Add(time.Hour).UnixMilli())
		c.Cosign(3)
		pass(10 * time.Second)
		ahead = 72 * time.Hour
		for range 5 { // longer than a lease: it is believed
			c.Cosign(3)
			pass(10 * time.Second)
		}
		c.Ban(besides("hour-0"), 1, 0)
		c.Cosign(3)
		pass(10 * time.Second)
		if _, ok := r.set.View().Ban("hour-0"); ok {
			t.Fatalf("it was not swept: this test shows nothing: %s, %s", brief(r.Status()), time.UnixMilli(r.lease.NowMs()))
		}
		ahead = 0
		c.Recover(2)
		for range 3 {
			r.Hint(edge.Hint{Epoch: c.Epoch(), Size: c.Size(), Note: c.Cosign(3)})
			pass(10 * time.Second)
		}
		if left := r.lease.Left(); left <= 0 || !r.banned("hour-0") {
			t.Errorf("half a minute into the new epoch: lease of %s, %s", left, brief(r.Status()))
		}
	})
}

// A machine whose clock is never set, beside a member that shows it what was vouched for long ago, at each start anew.
func TestRestartsGiveNoLeaseWithoutAWallClock(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, dir := newCluster(3), t.TempDir()
		clock := offClock{edge.NewClock(), -24 * time.Hour}
		r := startRigBy(t, clock, dir, c)
		pass(10 * time.Second)
		c.Cosign(3)
		if pass(10 * time.Second); r.lease.Left() <= 0 {
			t.Fatalf("two words of the majority, ten seconds apart: lease of %s", r.lease.Left())
		}
		for range 2 {
			r.stop()
			pass(time.Hour)
			r = startRigBy(t, clock, dir, c)
			if pass(10 * time.Second); r.lease.Left() > 0 || r.Status().Failed > 0 {
				t.Errorf("an hour later the same word gives a lease of %s: %s", r.lease.Left(), brief(r.Status()))
			}
		}
		c.Cosign(3)
		if pass(10 * time.Second); r.lease.Left() <= 0 {
			t.Errorf("a newer word gives no lease: %s", brief(r.Status()))
		}
	})
}

// TestEdgesThatMissedTheSame: another edge, which is asked first, has nothing newer either. Before the lease is over a coordinator is asked.
func TestEdgesThatMissedTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 1, 0)
		c.Cosign(2)
		r := startRig(t, t.TempDir(), c, &edgetest.Member{ID: "e2", Edge: true, Cluster: c, Stuck: c.Note()}, &edgetest.Member{ID: "c1", Cluster: c})
		for range 12 {
			if pass(10 * time.Second); r.lease.Left() <= 0 {
				t.Fatalf("the lease is over: %s", brief(r.Status()))
			}
			c.Cosign(2)
		}
	})
}
