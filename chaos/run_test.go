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

// TestRunKillLeader: whoever leads is killed under traffic, and no promise may break.
func TestRunKillLeader(t *testing.T) {
	res := runShort(t, scenario("test", "one leader kill under traffic", 16*seconds, step(5*seconds, 4*seconds, "kill", map[string]any{"target": "leader"})))
	if n := len(res.Verdict.Gaps.PerFault); n != 1 {
		t.Errorf("%d gaps were measured, want that of the one kill", n)
	}
	if longest := res.Verdict.Gaps.Longest.Length(); longest > 12*time.Second {
		t.Errorf("nothing succeeded for %s", longest)
	}
}

// TestRunPauseAndKillAll: a leader that was stopped wakes up believing that it
// leads, then every server dies at once and comes back with its old data.
func TestRunPauseAndKillAll(t *testing.T) {
	runShort(t, scenario("test", "a paused leader, then all die", 20*seconds, step(3*seconds, 3*seconds, "pause", map[string]any{"target": "leader"}),
		step(10*seconds, 1*seconds, "kill", map[string]any{"target": "all"})))
}
