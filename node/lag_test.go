package node

import (
	"testing"
	"time"
)

// TestPace: a replica catches up while its clock goes faster than time. Neither how far
// the wall clock is off nor ticks that come late or together make it one.
func TestPace(t *testing.T) {
	const start = int64(1_800_000_000_000)
	at := time.Unix(1_700_000_000, 0) // another time altogether
	for name, tc := range map[string]struct {
		everyMs, tickMs int64
		ticks           int
		want            bool
	}{
		"in step":                          {1_000, 1_000, 1_000, false},
		"slower than time":                 {1_100, 1_000, 1_000, false},
		"a few at once after a pause":      {0, 1_000, 4, false},
		"a log that is replayed":           {1, 1_000, 30, true},
		"an hour in steps of half an hour": {1_000, 1_800_000, 2, true},
	} {
		var p pace
		p.tick(at, start)
		now, clock := at.Add(2*lagTime), start+2*lagTime.Milliseconds() // the first tick says nothing
		p.tick(now, clock)
		for range tc.ticks {
			now, clock = now.Add(time.Duration(tc.everyMs)*time.Millisecond), clock+tc.tickMs
			p.tick(now, clock)
		}
		if p.runs(now) != tc.want {
			t.Errorf("%s: %t", name, !tc.want)
		}
		if p.runs(now.Add(lagTime)) {
			t.Errorf("%s: for ever", name)
		}
	}
}
