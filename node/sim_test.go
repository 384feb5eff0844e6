package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/chaos"
)

// simScenario draws a run from its seed.
func simScenario(seed uint64, lasts time.Duration) chaos.Scenario {
	return chaos.Scenario{Name: fmt.Sprintf("simulation-%d", seed), Description: "faults of all kinds in virtual time", Seed: seed, Nodes: 5, Duration: chaos.Duration(lasts),
		Traffic: chaos.Traffic{Clients: 3, Agents: 8, Rate: 2, SkewMs: int64(seed%2) * 20_000, NarrowMs: 40_000, Poll: chaos.Duration(2 * time.Second),
			Weights: chaos.Weights{Claim: 40, Replay: 10, Retry: 6, Ban: 16, BanRead: 10, PolicySet: 1, PolicyRead: 8, ChainRead: 8}},
		Random: &chaos.Random{Every: chaos.Duration(20 * time.Second), Min: chaos.Duration(time.Second), Max: chaos.Duration(30 * time.Second), Pairs: 0.3,
			Faults: map[string]int{"kill": 6, "stop": 2, "transfer": 1, "partition": 4, "netem": 3, "clock": 2, "disk_stall": 1, "disk_full": 1, "wipe": 1, "replace": 1, "rolling": 1}}}
}

func TestSim(t *testing.T) {
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	lasts, err := time.ParseDuration(os.Getenv("LASTS"))
	if err != nil {
		lasts = 5 * time.Minute
	}
	dir := filepath.Join(t.TempDir(), "run")
	if d := os.Getenv("RUNDIR"); d != "" {
		dir = d
	}
	start := time.Now()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, seed, 5, t.TempDir())
		err := chaos.Play(t.Context(), simScenario(seed, lasts), chaos.Options{Dir: dir, Progress: t.Logf}, w.site())
		if err != nil {
			t.Errorf("play: %v", err)
		}
		w.end()
	})
	t.Logf("took %s", time.Since(start))
	res, err := chaos.Report(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("judged after %s", time.Since(start))
	if !res.Passed() {
		t.Errorf("%s", res.Summary)
	}
}
