package chaos

import (
	"fmt"
	"time"
)

const seconds = Duration(time.Second)

// Scenarios returns the scenarios by name, regression first.
func Scenarios() []Scenario {
	return []Scenario{
		calmScenario(), killLeader(), killMajority(), killAll(), pauseLeader(), rolling(), wiped(), replaced(), membership(), transfers(), windowEdge(), moneyUnderKills(), killLoop(),
		partitions(), longPartition(), badNetwork(), wan(), diskScenario(), clocks(), wrongLeaders(), flipped(), explore(), exploreAll(),
	}
}

// Lookup returns a scenario by name.
func Lookup(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("there is no scenario %q; there are %v", name, names)
}

func scenario(name, description string, duration Duration, steps ...Step) Scenario {
	return Scenario{Name: name, Description: description, Seed: 1, Nodes: 3, Duration: duration, Traffic: DefaultTraffic(), Steps: steps}
}

func step(at, long Duration, name string, params map[string]any) Step {
	if params == nil {
		return Step{At: at, For: long, Fault: Spec{Name: name}}
	}
	return Step{At: at, For: long, Fault: spec(name, params)}
}

func calmScenario() Scenario {
	return scenario("calm", "no fault at all: what the judge sees of a cluster at peace", 10*seconds)
}

func killLeader() Scenario {
	leader := map[string]any{"target": "leader"}
	return scenario("kill-leader", "SIGKILL to whoever leads, three times, each back after a few seconds", 40*seconds,
		step(6*seconds, 5*seconds, "kill", leader), step(17*seconds, 5*seconds, "kill", leader), step(28*seconds, 5*seconds, "kill", leader))
}

// killLoop is the run behind the distribution of gaps in docs/benchmarks.md.
func killLoop() Scenario {
	s := scenario("kill-leader-100", "a hundred leader kills under load: how long nothing succeeds", 0)
	const every = 9 * seconds
	for i := range Duration(100) {
		s.Steps = append(s.Steps, step(5*seconds+i*every, 3*seconds, "kill", map[string]any{"target": "leader"}))
	}
	s.Duration = 10*seconds + 100*every
	return s
}

func killMajority() Scenario {
	return scenario("kill-majority", "a majority dies at once: the rest must refuse, and all agree when they are back", 35*seconds,
		step(6*seconds, 8*seconds, "kill", map[string]any{"target": "majority"}))
}

func killAll() Scenario {
	return scenario("kill-all", "every server dies at once and comes back with its old data", 40*seconds,
		step(6*seconds, 3*seconds, "kill", map[string]any{"target": "all"}), step(24*seconds, 2*seconds, "kill", map[string]any{"target": "all"}))
}

func pauseLeader() Scenario {
	leader := map[string]any{"target": "leader"}
	return scenario("pause-leader", "SIGSTOP to whoever leads, from a blink to 30 s: it wakes up believing that it still leads", 80*seconds,
		step(5*seconds, 300*Duration(time.Millisecond), "pause", leader), step(12*seconds, 3*seconds, "pause", leader),
		step(24*seconds, 30*seconds, "pause", leader))
}

func rolling() Scenario {
	return scenario("rolling-restart", "all servers restarted gracefully, one after the other, twice", 50*seconds,
		step(5*seconds, 0, "rolling", nil), step(28*seconds, 0, "rolling", nil))
}

func wiped() Scenario {
	return scenario("wiped-node", "a follower loses its whole data directory and joins anew", 50*seconds,
		step(6*seconds, 4*seconds, "wipe", map[string]any{"target": "follower"}))
}

func replaced() Scenario {
	return scenario("replaced-nodes", "a follower, then the leader, is removed from the cluster and joins again as a new node", 80*seconds,
		step(6*seconds, 6*seconds, "replace", map[string]any{"target": "follower"}),
		step(42*seconds, 6*seconds, "replace", map[string]any{"target": "leader"}))
}

// membership is what an operator does to a cluster in its life, and then a few
// leader kills to hold the gaps against: letting a node in or taking one out must
// cost clients no more than a failover does.
func membership() Scenario {
	leader := map[string]any{"target": "leader"}
	s := scenario("membership", "grown from one node to five, every node replaced, shrunk to three; then leader kills to compare", 150*seconds,
		step(5*seconds, 0, "grow", map[string]any{"to": 5}), step(40*seconds, 0, "turnover", nil),
		step(95*seconds, 0, "shrink", map[string]any{"to": 3}),
		step(105*seconds, 5*seconds, "kill", leader), step(120*seconds, 5*seconds, "kill", leader), step(135*seconds, 5*seconds, "kill", leader))
	s.Nodes, s.Members = 5, 1
	return s
}

// transfers has leadership move while nothing else is wrong, and then while the
// node that would get it sleeps.
func transfers() Scenario {
	s := scenario("transfers", "leadership is handed over every three seconds, at last while a follower is paused", 50*seconds,
		step(36*seconds, 8*seconds, "pause", map[string]any{"target": "follower"}))
	for i := range Duration(12) {
		s.Steps = append(s.Steps, step(5*seconds+i*3*seconds, 0, "transfer", nil))
	}
	return s
}

// windowEdge has requests grow older than the window many times over, with
// failures that last longer than it.
func windowEdge() Scenario {
	s := scenario("window-edge", "a skew window of 10 s: replays from both sides of its edge, across kills, restores and a long pause", 70*seconds,
		step(8*seconds, 4*seconds, "kill", map[string]any{"target": "leader"}),
		step(24*seconds, 2*seconds, "kill", map[string]any{"target": "all"}),
		step(44*seconds, 13*seconds, "pause", map[string]any{"target": "leader"}))
	s.Traffic.SkewMs = 10_000
	s.Traffic.Weights.Replay, s.Traffic.Weights.Retry = 40, 20
	return s
}

// moneyUnderKills is P7 at length: hardly anything but money moves, through all
// nodes, while whoever leads is killed again and again, and once all at once.
func moneyUnderKills() Scenario {
	s := scenario("money", "transfers, holds and linked batches among 100 accounts while leaders are killed, then a majority, then all", 90*seconds,
		step(58*seconds, 5*seconds, "kill", map[string]any{"target": "majority"}), step(74*seconds, 3*seconds, "kill", map[string]any{"target": "all"}))
	for i := range Duration(5) {
		s.Steps = append(s.Steps, step(5*seconds+i*10*seconds, 4*seconds, "kill", map[string]any{"target": "leader"}))
	}
	s.Traffic.Clients = 8
	s.Traffic.Weights = Weights{Claim: 10, Ban: 2, BanRead: 2, PolicyRead: 1, ChainRead: 1, Move: 60, AccountRead: 16}
	return s
}

func flipped() Scenario {
	return scenario("flipped-bits", "a stopped follower's log gets flipped bits: it must notice, and be wiped and rejoined", 60*seconds,
		step(6*seconds, 4*seconds, "flip", map[string]any{"target": "follower"}))
}

func partitions() Scenario {
	s := scenario("partitions", "symmetric, one-way, deaf and bridge partitions, one after the other", 100*seconds,
		step(6*seconds, 10*seconds, "partition", map[string]any{"shape": "isolate", "target": "leader"}),
		step(24*seconds, 10*seconds, "partition", map[string]any{"shape": "oneway", "target": "leader"}),
		step(42*seconds, 10*seconds, "partition", map[string]any{"shape": "deaf", "target": "leader"}),
		step(60*seconds, 10*seconds, "partition", map[string]any{"shape": "bridge", "target": "leader"}),
		step(78*seconds, 10*seconds, "partition", map[string]any{"shape": "halves", "target": "leader"}))
	s.Needs = []Need{NeedNetwork}
	return s
}

// longPartition lasts until either side has given the other up for dead and
// forgotten it: gossip's own libraries would never call again.
func longPartition() Scenario {
	s := scenario("long-partition", "halves that do not hear of each other for two minutes, and then find each other again", 140*seconds,
		step(6*seconds, 120*seconds, "partition", map[string]any{"shape": "halves", "target": "leader"}))
	s.Nodes, s.Gossip = 5, true
	s.Needs = []Need{NeedNetwork}
	return s
}

func badNetwork() Scenario {
	s := scenario("bad-network", "delay, loss, duplicates and reordering between the nodes, then half of gossip's packets lost", 70*seconds,
		step(6*seconds, 15*seconds, "netem", map[string]any{"target": "all", "delay_ms": 40, "jitter_ms": 30, "loss": 0.05, "duplicate": 0.05, "reorder": 0.1}),
		step(30*seconds, 10*seconds, "netem", map[string]any{"target": "leader", "loss": 0.3}),
		step(48*seconds, 15*seconds, "gossip_loss", nil))
	s.Needs = []Need{NeedNetwork}
	return s
}

// wan is the profile for sites far apart on the links that it is made for.
func wan() Scenario {
	s := scenario("wan", "servers with --timing wan on links of 200 to 300 ms each way; the leader is killed, then paused", 120*seconds,
		step(2*seconds, 112*seconds, "netem", map[string]any{"target": "all", "delay_ms": 200, "jitter_ms": 100}),
		step(30*seconds, 12*seconds, "kill", map[string]any{"target": "leader"}),
		step(70*seconds, 15*seconds, "pause", map[string]any{"target": "leader"}))
	s.Needs, s.Timing = []Need{NeedNetwork}, "wan"
	return s
}

func diskScenario() Scenario {
	s := scenario("bad-disk", "the leader's disk fills up, then hangs", 70*seconds,
		step(6*seconds, 12*seconds, "disk_full", map[string]any{"target": "leader"}),
		step(35*seconds, 12*seconds, "disk_stall", map[string]any{"target": "leader"}))
	s.Needs = []Need{NeedDisk}
	return s
}

func clocks() Scenario {
	s := scenario("clock-jumps", "clocks jump ahead and back, on the leader and on a minority", 80*seconds,
		step(6*seconds, 12*seconds, "clock", map[string]any{"target": "leader", "offset_ms": 30_000}),
		step(28*seconds, 12*seconds, "clock", map[string]any{"target": "leader", "offset_ms": -30_000}),
		step(50*seconds, 12*seconds, "clock", map[string]any{"target": "minority", "offset_ms": 600_000}))
	s.Needs = []Need{NeedClock}
	return s
}

// wrongLeaders has leaders whose clocks are wrong in ways that no bound covers:
// leadership must leave them, and the cluster clock must stay true.
func wrongLeaders() Scenario {
	const year = 365 * 24 * time.Hour
	s := scenario("clock-leaders", "a leader a year ahead, one an hour behind, and one that gains 10 %", 140*seconds,
		step(6*seconds, 12*seconds, "clock", map[string]any{"target": "leader", "offset_ms": year.Milliseconds()}),
		step(28*seconds, 12*seconds, "clock", map[string]any{"target": "leader", "offset_ms": -time.Hour.Milliseconds()}),
		step(50*seconds, 75*seconds, "clock_drift", map[string]any{"target": "leader", "percent": 10}))
	s.Needs = []Need{NeedClock}
	return s
}

// explore draws faults that every machine can do.
func explore() Scenario {
	s := scenario("explore", "faults of processes drawn from the seed", 120*seconds)
	s.Random = &Random{Every: 6 * seconds, Min: 300 * Duration(time.Millisecond), Max: 12 * seconds, Pairs: 0.3,
		Faults: map[string]int{"kill": 5, "pause": 4, "stop": 2, "rolling": 1, "wipe": 1, "replace": 1, "transfer": 2, "grow": 2, "shrink": 2}}
	s.Nodes, s.Members = 5, 3
	return s
}

// exploreAll draws from everything; it needs root.
func exploreAll() Scenario {
	s := scenario("explore-all", "all faults drawn from the seed, in network namespaces (root)", 600*seconds)
	s.Random = &Random{Every: 8 * seconds, Min: 500 * Duration(time.Millisecond), Max: 15 * seconds, Pairs: 0.4,
		Faults: map[string]int{"kill": 4, "pause": 4, "stop": 1, "rolling": 1, "wipe": 1, "replace": 1, "flip": 1, "partition": 6, "netem": 3,
			"gossip_loss": 1, "transfer": 2, "disk_full": 1, "disk_stall": 1, "clock": 2, "grow": 1, "shrink": 1}}
	s.Nodes, s.Members, s.Gossip = 5, 3, true
	s.Needs = []Need{NeedNetwork, NeedDisk, NeedClock}
	return s
}
