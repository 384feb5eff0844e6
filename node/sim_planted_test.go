//go:build planted

package node

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSimPlanted judges the simulation: each bug must be found by the check that
// is meant to find it, in the worlds of a few seeds: what one world does is not the same
// in every run. A process has the bug that its
// environment names when it starts, so each is run in one of its own.
func TestSimPlanted(t *testing.T) {
	t.Parallel()
	for _, p := range []struct {
		bug, finding string
		seeds        string // of TestSim; empty: TestSimKeyYears finds it
	}{
		{"tag_ignored", "[P1] claims admitted once", "1"},
		{"receipt_time", "[P1] claims admitted once", "1"},
		{"stale_head", "[P3] chain verifies", "1"},
		{"key_stays", "[P5] keys verify in their time", "3,5"},
		{"window_open", "was accepted outside its window", ""},
		{"key_gap", "was refused inside its window", ""},
		// A node finds these by itself, once a power cut took what it had acknowledged, and does not start.
		{"no_sync", "did not come to agree again", "3"},
		{"no_dir_sync", "did not come to agree again", "3"},
		{"ledger_lost", "[P7] money moved once", "1"},
		{"ledger_twice", "[P7] ledger adds up", "1"},
		{"ledger_floor", "[P7] ledger adds up", "1"},
	} {
		t.Run(p.bug, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			test := "TestSim"
			if p.seeds == "" {
				test = "TestSimKeyYears"
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+test+"$", "-test.v")
			cmd.Env = append(os.Environ(), "PLANTED_BUG="+p.bug, simSeedsEnv+"="+p.seeds, simForEnv+"="+simShort.String())
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), p.finding) {
				t.Errorf("not found: %v\n%s", err, out)
			}
			t.Logf("found in %s", time.Since(start).Round(time.Second/10))
		})
	}
}
