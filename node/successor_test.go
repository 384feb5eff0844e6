package node

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestFitness: a clock that a majority supports weighs more than room on the disk.
func TestFitness(t *testing.T) {
	const hour = 3_600_000
	for _, c := range []struct {
		full    bool
		offsets map[string]int64
		want    fitness
	}{
		{false, map[string]int64{"a": 0, "b": -hour, "c": 9}, hasClock + hasRoom},
		{true, map[string]int64{"a": 0, "b": -hour, "c": 9}, hasClock},
		{false, map[string]int64{"a": 0, "b": -hour}, hasRoom},
		{true, map[string]int64{"b": 0, "c": 0}, 0}, // its own clock was not heard
	} {
		if got := fitnessOf("a", c.full, 3, c.offsets); got != c.want {
			t.Errorf("%+v: %d, want %d", c, got, c.want)
		}
	}
	if hasClock <= hasRoom {
		t.Error("leadership would go from a true clock to an empty disk")
	}
}

// TestRestingTargets: who was tried lately is not chosen again at once, and a
// transfer that failed gives others their turn.
func TestRestingTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r resting
		want := func(when, id string, rests, failed bool) {
			if gotRests, gotFailed := r.is(id); gotRests != rests || gotFailed != failed {
				t.Errorf("%s: %s rests %t, failed %t", when, id, gotRests, gotFailed)
			}
		}
		r.set("a", cameBack, false)
		r.set("b", cameBack, false)
		r.set("b", failedLately, true)
		want("at once", "a", true, false)
		want("at once", "b", true, true)
		want("at once", "c", false, false)
		time.Sleep(failedLately)
		want("after a failure", "a", true, false)
		want("after a failure", "b", false, false)
		time.Sleep(cameBack - failedLately)
		r.set("c", cameBack, false)
		want("after a hand-over", "a", false, false)
		if len(r.until) != 1 {
			t.Errorf("remembered: %+v", r.until)
		}
	})
}
