package node

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/chaos/judge"
)

// What make sim sets; TestSim alone takes simSeeds for simShort each.
const (
	simSeedsEnv = "EDGECODER_SIM_SEEDS" // seeds and ranges of them: 7 or 1-20,33
	simForEnv   = "EDGECODER_SIM_FOR"   // virtual time of traffic for each, such as 1h
)

// simSeeds are run by every make test, simShort each; 4 is the first with sites far
// apart. A seed that found something is added here, or to SIMSEEDS of the Makefile
// if it takes longer, with what it found:
//
//	1     dials into a partition had no end (TestCallsIntoAPartition)
//	1008  after 15 minutes: a leader whose clock had jumped called bans expired (TestSimBanByAClockThatJumped)
//	1026  no fault of the nodes: with one of four members gone, two wrong clocks were a majority
const simSeeds = "1-4"

const simShort = 100 * time.Second

// simScenario draws a run from its seed. Two of three are a series of accidents
// with time to recover in between; every third is a storm without.
func simScenario(seed uint64, lasts time.Duration) chaos.Scenario {
	every, longest := 15*time.Second, 30*time.Second
	if seed%3 == 0 {
		every, longest = 3*time.Second, 10*time.Second
	}
	s := chaos.Scenario{Name: fmt.Sprintf("simulation-%d", seed), Description: "five nodes in virtual time, faults of all kinds",
		Seed: seed, Nodes: 5, Duration: chaos.Duration(lasts), Gossip: true,
		// Slow traffic, so that hours pass; the limited agent is put to the test all the same. Every other seed has a window
		// that passes many times, and agents whose clocks are off by most of it.
		Traffic: chaos.Traffic{Clients: 3, Agents: 8, Rate: 1, SkewMs: int64(seed%2) * 20_000, NarrowMs: 100_000, Accounts: 12, Islands: 4, Poll: chaos.Duration(5 * time.Second),
			Weights: chaos.Weights{Claim: 40, Replay: 10, Retry: 6, Ban: 20, BanRead: 10, PolicySet: 1, PolicyRead: 8, ChainRead: 10, Rekey: 3, Move: 30, AccountRead: 10}},
		Random: &chaos.Random{Every: chaos.Duration(every), Min: chaos.Duration(time.Second), Max: chaos.Duration(longest), Pairs: 0.4,
			Faults: map[string]int{"kill": 8, "stop": 2, "rolling": 1, "transfer": 2, "partition": 6, "netem": 3, "gossip_loss": 1, "clock": 3,
				"disk_stall": 1, "disk_full": 1, "wipe": 1, "replace": 1, "pause": 3, "grow": 1, "shrink": 1}}}
	if seed%4 == 1 {
		s.Members = 3
	}
	if seed%5 == 4 {
		s.Timing = TimingWAN
	}
	return s
}

// TestSim runs the real nodes in virtual time under faults drawn from a seed, and
// judges what the clients saw as chaos does. A seed fixes the schedule, the
// targets, clocks, disks, wires and traffic; it does not fix in which order
// goroutines run that could run at the same moment, nor keys, ids and raft's
// timeouts. So a seed that failed may have to be run a few times to fail again.
func TestSim(t *testing.T) {
	heavy(t)
	lasts := simShort
	if text := os.Getenv(simForEnv); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", simForEnv, err)
		}
	}
	seeds, err := parseSeeds(cmp.Or(os.Getenv(simSeedsEnv), simSeeds))
	if err != nil {
		t.Fatalf("%s: %v", simSeedsEnv, err)
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel() // each world has a bubble of its own
			simulate(t, simScenario(seed, lasts), (*simWorld).spoil)
		})
	}
}

// TestSimClocks: the clock of who leads is a year ahead, then that of the next
// one an hour behind, while a third one gains 10 %. Somebody whose clock is good
// leads soon, and no honest request is refused for it, which is the judge's to
// say, and so is that the cluster clock stays with the clients'.
func TestSimClocks(t *testing.T) {
	heavy(t)
	t.Parallel()
	s := simScenario(1, simShort)
	s.Name, s.Random = "simulation-clocks", nil
	for i, offset := range []time.Duration{365 * 24 * time.Hour, -time.Hour} {
		s.Steps = append(s.Steps, chaos.Step{At: chaos.Duration(10+40*i) * chaos.Duration(time.Second), For: chaos.Duration(30 * time.Second),
			Fault: chaos.Spec{Name: "clock", Params: fmt.Appendf(nil, `{"target":"leader","offset_ms":%d}`, offset.Milliseconds())}})
	}
	v := simulate(t, s, func(w *simWorld) { w.servers["node5"].clock.spoil(0.1) })
	for _, gap := range v.Gaps.PerFault {
		if gap.Length() > simPatience {
			t.Errorf("nobody succeeded for %s under a wrong clock", gap.Length())
		}
	}
	if len(v.Gaps.PerFault) != len(s.Steps) {
		t.Errorf("%d of %d clocks were moved", len(v.Gaps.PerFault), len(s.Steps))
	}
}

// maxSimSeeds bounds a range that somebody mistyped.
const maxSimSeeds = 10_000

// parseSeeds reads 1-3,7.
func parseSeeds(text string) (seeds []uint64, err error) {
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranges := strings.Cut(strings.TrimSpace(part), "-")
		if !ranges {
			high = low
		}
		from, errFrom := strconv.ParseUint(low, 10, 64)
		to, errTo := strconv.ParseUint(high, 10, 64)
		if errFrom != nil || errTo != nil || from > to || to-from >= maxSimSeeds {
			return nil, fmt.Errorf("%q: want a seed or a range of at most %d, such as 7 or 1-20", part, maxSimSeeds)
		}
		for seed := from; seed <= to; seed++ {
			seeds = append(seeds, seed)
		}
	}
	return seeds, nil
}

// simulate plays a scenario in a world of its seed, which prepare may spoil, and
// judges it.
func simulate(t *testing.T, s chaos.Scenario, prepare func(*simWorld)) judge.Verdict {
	t.Helper()
	dir := filepath.Join(t.ArtifactDir(), "run")
	started, virtual := time.Now(), time.Duration(0)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := makeSimWorld(t, s.Seed, s.Nodes, simDir(t))
		w.furnish(s)
		w.bringUp(cmp.Or(s.Members, s.Nodes))
		prepare(w)
		if err := chaos.Play(t.Context(), s, chaos.Options{Dir: dir, Progress: t.Logf}, w.site()); err != nil {
			t.Error(err)
		}
		virtual = time.Since(began)
		w.end()
	})
	took := time.Since(started)
	t.Logf("%s of virtual time in %s: %.2f h a minute", virtual.Round(time.Second), took.Round(time.Second/10), virtual.Hours()/took.Minutes())
	res, err := chaos.Report(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range slices.Concat(broken(res.Verdict, time.Duration(s.Duration)), silences(t, dir)) {
		t.Error(f)
	}
	if t.Failed() {
		t.Logf("%s\nagain, several times if need be, and with all of it kept:\n  %s", res.Summary, replay(t.Name(), s))
	}
	return res.Verdict
}

// replay is the command line that runs a test again: TestSim/7, of this seed and
// for this long, or another one, which has a scenario of its own.
func replay(test string, s chaos.Scenario) string {
	root, _, drawn := strings.Cut(test, "/")
	env := ""
	if drawn {
		env = fmt.Sprintf("%s=%d %s=%s ", simSeedsEnv, s.Seed, simForEnv, time.Duration(s.Duration))
	}
	return fmt.Sprintf("%sgo test -count=1 -v -artifacts -run '^%s$' ./node", env, root)
}

// TestSimReplay holds the line that is printed for a failure to the test that failed.
func TestSimReplay(t *testing.T) {
	s := simScenario(7, simShort)
	for test, want := range map[string]string{
		"TestSim/7":     "EDGECODER_SIM_SEEDS=7 EDGECODER_SIM_FOR=1m40s go test -count=1 -v -artifacts -run '^TestSim$' ./node",
		"TestSimClocks": "go test -count=1 -v -artifacts -run '^TestSimClocks$' ./node",
	} {
		if got := replay(test, s); got != want {
			t.Errorf("%s: %s, want %s", test, got, want)
		}
	}
}

// furnish makes the world that the seed draws: two of three have an observer, in
// one of three the first server's binary is of the feature level before, until it
// is upgraded; and sites far apart if that is what the servers are told.
func (w *simWorld) furnish(s chaos.Scenario) {
	rng := rand.New(rand.NewPCG(w.seed, 0xf0c4))
	if rng.IntN(3) > 0 {
		w.addWatcher()
	}
	if rng.IntN(3) == 0 {
		lasts := time.Duration(rng.Int64N(int64(s.Duration)))
		w.t.Logf("node1 starts with an older binary until %s", lasts.Round(time.Second))
		w.servers["node1"].neglect(lasts)
	}
	if s.Timing == TimingWAN {
		w.timing, w.links.hop = WANTiming(), simFar
	}
}

// simFar is how far apart sites are, at least, and at most twice that: what WANTiming is made for is 300 ms.
const simFar = 40 * time.Millisecond

// spoil has one server's clock run wild in one of three worlds, up to 10 % fast
// or slow, and makes one server's disk slow in one of four, up to 0.6 s a write:
// from before the first fault to after the last.
func (w *simWorld) spoil() {
	rng := rand.New(rand.NewPCG(w.seed, 0x5b01))
	one := func() *simServer { return w.sorted()[rng.IntN(len(w.servers))] }
	if rng.IntN(3) == 0 {
		s, drift := one(), (2*rng.Float64()-1)/10
		w.t.Logf("the clock of %s drifts by %.2f %%", s.name, 100*drift)
		s.clock.spoil(drift)
		w.weak = append(w.weak, s.name)
	}
	if rng.IntN(4) == 0 {
		s, half := one(), time.Duration(rng.Int64N(int64(300*time.Millisecond)))
		w.t.Logf("each write of %s takes %s", s.name, (2 * half).Round(time.Millisecond))
		s.disk.spoil(half)
	}
}

// What the judge finds too little of in a schedule that was drawn blindly is no
// finding here: a partition while all are dead, or little success while a
// majority was down most of the time. silences looks for what matters of that.
const (
	noBite  = "a planned fault did not bite"
	tooFew  = "only "
	simBusy = 5 * time.Second // in which there must be a success, over a whole run
)

// broken are the findings of a verdict.
func broken(v judge.Verdict, lasts time.Duration) (out []string) {
	for _, c := range v.Checks {
		for _, f := range c.Findings {
			if f.Result == judge.Fail || !strings.HasPrefix(f.What, noBite) && !strings.HasPrefix(f.What, tooFew) {
				out = append(out, fmt.Sprintf("%s [%s] %s: %s", f.Result, f.Promise, c.Name, f.What))
			}
		}
	}
	if want := int(lasts / simBusy); v.Gaps.Latency.N < want {
		out = append(out, fmt.Sprintf("%d writes and admissions succeeded in %s, want at least %d", v.Gaps.Latency.N, lasts, want))
	}
	return out
}

// simPatience is how long, once nothing is broken any more, it may take until
// some client succeeds: an election, the clocks of a majority, a first tick. The
// longest seen in six hours of virtual time was 5 s.
const simPatience = 15 * time.Second

// silences are the times in which nothing was broken, and nobody succeeded.
func silences(t *testing.T, dir string) (out []string) {
	run, err := judge.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var success []int64
	for i := range run.Ops {
		if run.Ops[i].Succeeded() {
			success = append(success, run.Ops[i].EndNS)
		}
	}
	slices.Sort(success)
	worst := time.Duration(0)
	for _, quiet := range quietTimes(run) {
		from := quiet.FromNS
		for {
			at, _ := slices.BinarySearch(success, from+1)
			to := quiet.ToNS
			if at < len(success) {
				to = min(to, success[at])
			}
			gap := time.Duration(to - from)
			worst = max(worst, gap)
			if gap > simPatience {
				out = append(out, fmt.Sprintf("nothing was broken from %s on, and nobody succeeded for %s", time.Duration(from).Round(time.Millisecond), gap.Round(time.Millisecond)))
			}
			if from = to; from >= quiet.ToNS {
				break
			}
		}
	}
	t.Logf("longest time without a success while nothing was broken: %s", worst.Round(time.Millisecond))
	return out
}

// quietTimes are the stretches of the traffic in which no fault was in force.
func quietTimes(run *judge.Run) (out []judge.Gap) {
	faults := slices.DeleteFunc(slices.Clone(run.Timeline), func(e judge.Event) bool { return !e.Fault })
	slices.SortFunc(faults, func(a, b judge.Event) int { return cmp.Compare(a.AtNS, b.AtNS) })
	from := int64(0)
	for _, f := range faults {
		if f.AtNS > from {
			out = append(out, judge.Gap{FromNS: from, ToNS: f.AtNS})
		}
		from = max(from, f.AtNS, f.EndNS)
	}
	if end := run.About.TrafficNS; end > from {
		out = append(out, judge.Gap{FromNS: from, ToNS: end})
	}
	return out
}

// simDir is a directory for the servers' data, in memory if the machine has room
// there: a synced write costs nothing then.
func simDir(t *testing.T) string {
	const memory, need = "/dev/shm", 1 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err == nil && fs.Bavail*uint64(fs.Bsize) >= need {
		if dir, err := os.MkdirTemp(memory, "edgecoder-sim-"); err == nil {
			t.Cleanup(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			return dir
		}
	}
	return t.TempDir()
}
