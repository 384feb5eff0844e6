package edge_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
)

// News keep coming, each with a checkpoint that the known cosigners would do for: who was removed counts no longer than a minute all the same.
func TestFollowsWhileNewsKeepComing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		pass(10 * time.Second)
		c.Replace(3, 0, 1) // 2 is removed, and nothing on the notes shows it
		for i := range 20 {
			c.Ban(fmt.Sprintf("bad-%d", i), 1, 0)
			r.Hint(edge.Hint{Epoch: 1, Size: c.Size(), Note: c.Cosign(2)})
			pass(3 * time.Second)
		}
		if st := r.Status(); st.Position.Trusted.Version != 2 || st.Position.Head.Size != 20 {
			t.Errorf("a minute after the cosigners changed: %s", brief(st))
		}
	})
}

// An edge that joined when there was one coordinator moves by the word of that one no more once notes show that there are others.
func TestFollowsWhoElseCosigns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(1)
		r := startRig(t, t.TempDir(), c)
		pass(10 * time.Second)
		c.Replace(1, 0, 1, 2)
		c.Ban("bad", 1, 0)
		r.Hint(edge.Hint{Epoch: 1, Size: 1, Note: c.Cosign(3)})
		pass(time.Second)
		good := c.Note()
		c.Ban("victim", 1, 0)
		alone := c.Cosign(1)
		c.Serve(good)
		r.Hint(edge.Hint{Epoch: 1, Size: 2, Note: alone})
		pass(time.Second)
		if st := r.Status(); st.Position.Trusted.Version != 2 || !r.banned("bad-0") || r.banned("victim-0") {
			t.Errorf("one of three was enough: %s", brief(st))
		}
	})
}

// One member that says there are no newer cosigners hides them from nobody who can ask another; where nobody can be asked, nothing counts.
func TestFollowsByTwoMembers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, old := newCluster(3), newCluster(3)
		members := []*edgetest.Member{{ID: "c1", Cluster: old}, {ID: "c2", Cluster: c}}
		r := startRig(t, t.TempDir(), c, members...)
		c.Replace(3, 0, 1)
		pass(time.Minute)
		if v := r.Status().Position.Trusted.Version; v != 2 {
			t.Fatalf("cosigners of version %d", v)
		}
		for _, m := range members {
			m.Change(func(m *edgetest.Member) { m.Before = func(context.Context, string) error { return edgetest.ErrDown } })
		}
		for range 20 {
			r.Hint(edge.Hint{Epoch: 1, Note: c.Cosign(2)})
			pass(10 * time.Second)
		}
		if left := r.lease.Left(); left > 0 {
			t.Errorf("nobody was asked who cosigns by now for three minutes: lease of %s", left)
		}
	})
}

// A recovery from an older copy: the sets that it has do not lead on from the one that is trusted, with or without another in its place. The operator is told
// what to do, and nobody is trusted for it.
func TestFollowsNoOtherLine(t *testing.T) {
	for _, goesOn := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newCluster(3)
			c.Replace(3, 3, 4, 5)
			c.Cosign(3)
			r := startRig(t, t.TempDir(), c)
			c.Rewind(1, 0, 1, 2)
			c.Recover(0)
			if goesOn {
				c.Replace(3, 0, 1, 6)
				c.Replace(3, 0, 1, 7)
			}
			c.Ban("bad", 1, 0)
			c.Cosign(3)
			pass(time.Minute)
			if st := r.Status(); r.alarms[edge.AlarmNewRoot] == 0 || st.Position.Trusted.Version != 2 || st.Position.Head.Epoch != 1 {
				t.Errorf("sets go on %t: alarms %v, %s", goesOn, r.alarms, brief(st))
			}
		})
	}
}
