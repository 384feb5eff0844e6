package chaos

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// runShort is the whole harness on three real processes.
func runShort(t *testing.T, s Scenario) Result {
	t.Helper()
	if testing.Short() {
		t.Skip("starts three real servers, a minute each: run without -short, as make test and CI do")
	}
	binary := filepath.Join(t.TempDir(), "edgecoder")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/edgecoder").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	res, err := Run(t.Context(), s, Options{Dir: filepath.Join(t.TempDir(), "run"), Binary: binary, Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Passed() {
		t.Errorf("judged %s:\n%s", res.Verdict.Result, res.Summary)
	}
	return res
}

// TestRunMembership: a node alone becomes three, one of them is replaced, whoever
// leads is killed; no promise may break, and clients notice less of the changes
// than of the leader's death.
func TestRunMembership(t *testing.T) {
	s := scenario("test", "one node becomes three, a follower is replaced, the leader is killed", 28*seconds,
		step(1*seconds, 0, "grow", map[string]any{"to": 3}), step(13*seconds, 1*seconds, "replace", map[string]any{"target": "follower"}),
		step(22*seconds, 3*seconds, "kill", map[string]any{"target": "leader"}))
	s.Members = 1
	res := runShort(t, s)
	gaps := map[string]time.Duration{}
	for _, g := range res.Verdict.Gaps.PerFault {
		gaps[g.Fault] = g.Length()
	}
	t.Logf("gaps: %v", gaps)
	for _, change := range []string{"grow", "replace"} {
		// A busy machine makes gaps of its own, so the bound is that of a failover
		// at the slowest that the timeouts allow.
		if gap, bit := gaps[change]; !bit || gap > max(gaps["kill"], 4*time.Second) {
			t.Errorf("nothing succeeded for %s at the step %s, and for %s when the leader died", gap, change, gaps["kill"])
		}
	}
	if gap, bit := gaps["kill"]; !bit || gap > 12*time.Second {
		t.Errorf("nothing succeeded for %s when the leader died (it bit: %t)", gap, bit)
	}
}

// TestRunPauseAndKillAll: a leader that was stopped wakes up believing that it
// leads, then every server dies at once and comes back with its old data.
func TestRunPauseAndKillAll(t *testing.T) {
	runShort(t, scenario("test", "a paused leader, then all die", 20*seconds, step(3*seconds, 3*seconds, "pause", map[string]any{"target": "leader"}),
		step(10*seconds, 1*seconds, "kill", map[string]any{"target": "all"})))
}
