package node

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
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

// TestEnforcementCountsWhoIsOnRecord: an edge that went counts until it is removed, whatever the pool says of it; and what a member says counts
// only if this node's chain had that head.
func TestEnforcementCountsWhoIsOnRecord(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	c.eventually("a cosigner set", func() (some bool) {
		n.machine.Read(func(s *fsm.State) { _, some = s.CosignerSet() })
		return some
	})
	c.cfgs = append(c.cfgs, c.cfgs[0]) // edgeTestConfig names two seeds
	cfg := edgeTestConfig(t, c, "e-1", c.token("edge", 1))
	e := startEdge(t, cfg)
	c.eventually("it enforces", func() bool { out, _ := n.Enforcement(0); return out.Edges == 1 && out.Meets(client.EnforcedAll) })
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.ban(0, "a")
	c.ban(0, "b")
	c.eventually("it lags", func() bool {
		out, _ := n.Enforcement(0)
		return out.Size == 2 && out.Edges == 1 && out.EnforcedBy.Edges == 0 && !out.Meets(client.EnforcedAll) && out.Members[0].State != gossip.StateAlive
	})
	c.eventually("the chain is on disk", func() bool { _, known := n.chainHeadAt(2); return known })

	head := func(size uint64) string { h, _ := n.chainHeadAt(size); return h }
	here := chainHead{Epoch: 1, Size: 2, Head: head(2)}
	for name, tt := range map[string]struct {
		h     chainHead
		asked uint64
		want  bool
	}{
		"this chain":             {here, 2, true},
		"its past":               {chainHead{Epoch: 1, Size: 1, Head: head(1)}, 1, true},
		"another past":           {chainHead{Epoch: 1, Size: 1, Head: head(2)}, 1, false},
		"another chain":          {chainHead{Epoch: 1, Size: 2, Head: head(1)}, 2, false},
		"beyond":                 {chainHead{Epoch: 1, Size: 3, Head: head(2)}, 2, false},
		"beyond, asked about it": {chainHead{Epoch: 1, Size: 1 << 53, Head: head(2)}, 1 << 40, false},
		"another epoch":          {chainHead{Epoch: 2, Size: 2, Head: head(2)}, 2, false},
		"the beginning":          {chainHead{Epoch: 1, Head: crypto.BlacklistGenesis}, 1, true}, // and does not reach to 1
	} {
		for range 2 { // the second time from memory
			if got := n.isOurs(tt.h, here, tt.asked); got != tt.want {
				t.Errorf("%s: %t", name, got)
			}
		}
	}
	if _, err := c.client(0, c.admin).RemovePeer(t.Context(), cfg.Name, false); err != nil {
		t.Fatal(err)
	}
	if out, _ := n.Enforcement(0); out.Edges != 0 || !out.Meets(client.EnforcedAll) {
		t.Errorf("after it was removed: %+v", out)
	}
}
