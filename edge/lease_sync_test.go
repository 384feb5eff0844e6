package edge_test

import (
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/edge"
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
