package node

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestDelaysOfEnforcement: each member counts once for each step that it passed, and only where somebody asks for it.
func TestDelaysOfEnforcement(t *testing.T) {
	e := newEnforcement()
	registry := prometheus.NewRegistry()
	registry.MustRegister(e.delay)
	count := func() uint64 { return histogramCount(t, registry, "edgecoder_ban_enforced_duration_seconds") }
	now := time.Now()
	moved := e.next()
	e.grew(1, 5, now)
	select {
	case <-moved:
	default:
		t.Error("nobody was woken")
	}
	e.grew(1, 5, now) // nothing new
	e.grew(1, 8, now)
	for _, step := range []struct {
		epoch, from, to uint64
		measured        bool
		want            uint64
	}{{1, 4, 5, true, 1}, {1, 5, 8, true, 2}, {1, 4, 8, true, 4}, {1, 8, 9, true, 4}, {1, 4, 8, false, 4}, {2, 4, 8, true, 4}} {
		e.reached(step.epoch, step.from, step.to, now.Add(100*time.Millisecond), step.measured)
		if got := count(); got != step.want {
			t.Errorf("%+v: %d", step, got)
		}
	}
	e.grew(2, 3, now) // a recovery: what was before it is not waited for any more
	e.reached(2, 2, 8, now, true)
	if got := count(); got != 5 {
		t.Errorf("%d after a recovery", got)
	}
	for i := range uint64(5 * maxSteps) {
		e.grew(2, 10+i, now)
	}
	if len(e.steps) > maxSteps || e.steps[len(e.steps)-1].size != 10+5*maxSteps-1 {
		t.Errorf("%d steps", len(e.steps))
	}
}
