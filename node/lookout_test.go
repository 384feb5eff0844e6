package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestTurns: who has most looks for another leader last, and all find the same order.
func TestTurns(t *testing.T) {
	for _, c := range []struct {
		reach map[string]uint64
		full  string   // whose disk is
		want  []string // in the order of their turns
	}{
		{map[string]uint64{"a": 7, "b": 7, "c": 7}, "", []string{"a", "b", "c"}},
		{map[string]uint64{"a": 9, "b": 7, "c": 8}, "", []string{"b", "c", "a"}},
		{map[string]uint64{"a": 8, "b": 7, "c": 7}, "", []string{"b", "c", "a"}},
		{map[string]uint64{"a": 7, "b": 7, "c": 7}, "c", []string{"c", "a", "b"}},
		{map[string]uint64{"a": 8, "b": 7, "c": 7}, "a", []string{"b", "c", "a"}},
	} {
		for i, own := range c.want {
			l := lookout{reaches: map[string]uint64{}}
			for id, last := range c.reach {
				if id != own {
					l.reaches[id] = last
				}
			}
			left := []string{"c", "a", "b"}
			if got := l.turn(left, own, c.reach[own], func(id string) bool { return id == c.full }); got != i {
				t.Errorf("%v: %s has turn %d, want %d", c.reach, own, got, i)
			}
		}
	}
	silent, room := lookout{}, func(string) bool { return false }
	if got := silent.turn([]string{"b", "a"}, "b", 5, room); got != 1 {
		t.Errorf("with a silent voter: turn %d, want the last", got)
	}
	if got := silent.turn([]string{"a", "b"}, "observer", 5, room); got != 0 {
		t.Errorf("a node without a vote: turn %d", got)
	}
}

// TestPlaceHoldsForASilence: a turn does not move when raft forgets who led.
func TestPlaceHoldsForASilence(t *testing.T) {
	l, room := lookout{reaches: map[string]uint64{"a": 7}}, func(string) bool { return false }
	left := []string{"a", "b"}
	find := func() int { return l.turn(left, "b", 7, room) }
	if got := l.place.in(1, find); got != 1 {
		t.Fatalf("turn %d, want the second", got)
	}
	left = []string{"a", "b", "dead"}
	if got := l.place.in(1, find); got != 1 {
		t.Errorf("in the same silence: turn %d", got)
	}
	if got := l.place.in(2, find); got != 2 {
		t.Errorf("in the next: turn %d", got)
	}
}

// TestLookoutFindsASilentLeader: the others elect one of them, each by the timeouts
// for it, and go back to the ordinary ones.
func TestLookoutFindsASilentLeader(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	lead := c.leader()
	began := make([]uint64, len(c.nodes))
	for i, n := range c.nodes {
		began[i] = n.raft.CurrentTerm()
	}
	c.nodes[lead].cutOff()
	others := []int{(lead + 1) % 3, (lead + 2) % 3}
	c.eventually("a voter looks for another leader", func() bool {
		return slices.ContainsFunc(others, func(i int) bool { return testutil.ToFloat64(c.nodes[i].meter.silences) > 0 })
	})
	c.eventually("another leader", func() bool { return c.otherLeader(lead) >= 0 })
	for _, i := range others {
		c.eventually("the ordinary timeouts", func() bool {
			conf := c.nodes[i].raft.ReloadableConfig()
			return conf.HeartbeatTimeout == LocalTiming().Heartbeat && conf.ElectionTimeout == LocalTiming().Election
		})
		if c.nodes[i].raft.CurrentTerm() == began[i] {
			t.Errorf("node %d: still in term %d", i, began[i])
		}
	}
}

// TestProfiles: raft takes every profile, and a wrong name is refused by the name
// of its setting.
func TestProfiles(t *testing.T) {
	for _, name := range []string{TimingLocal, TimingWAN} {
		timing, err := TimingOf(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := testConfig(t, "n1")
		cfg.Timing = timing
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		n := &Node{cfg: cfg, id: &identity{NodeID: "n1"}}
		if err := raft.ValidateConfig(n.raftConfig(nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		conf := n.raftConfig(nil)
		conf.HeartbeatTimeout, conf.ElectionTimeout = timing.Silence, timing.Silence
		if err := raft.ValidateConfig(conf); err != nil {
			t.Errorf("%s, while the leader is silent: %v", name, err)
		}
		if timing.Silence < 3*timing.Heartbeat/5 || timing.Turn < timing.Heartbeat/20 || timing.Request <= timing.NoLeader {
			t.Errorf("%s: three heartbeats must fit into the silence: %+v", name, timing)
		}
	}
	cfg := testConfig(t, "n1")
	cfg.Timing.LeaderLease = cfg.Timing.Silence + time.Millisecond
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "leader lease") {
		t.Errorf("a lease longer than the silence: %v", err)
	}
	if _, err := TimingOf("moon"); err == nil || !strings.Contains(err.Error(), "EDGECODER_TIMING") {
		t.Errorf("a profile that there is not: %v", err)
	}
}
