//go:build planted

package node

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSimPlanted judges the simulation: each bug must be found by the check that
// is meant to find it, in the world of one seed. A process has the bug that its
// environment names when it starts, so each is run in one of its own.
func TestSimPlanted(t *testing.T) {
	for _, p := range []struct{ bug, finding string }{
		{"tag_ignored", "[P1] claims admitted once"},
		{"receipt_time", "[P1] claims admitted once"},
		{"stale_head", "[P3] chain verifies"},
		{"ledger_lost", "[P7] money moved once"},
		{"ledger_twice", "[P7] ledger adds up"},
		{"ledger_floor", "[P7] ledger adds up"},
	} {
		t.Run(p.bug, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestSim$", "-test.v")
			cmd.Env = append(os.Environ(), "PLANTED_BUG="+p.bug, simSeedsEnv+"=1", fmt.Sprintf("%s=%s", simForEnv, simShort))
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), p.finding) {
				t.Errorf("not found: %v\n%s", err, out)
			}
			t.Logf("found in %s", time.Since(start).Round(time.Second/10))
		})
	}
}
