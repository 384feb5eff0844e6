//go:build linux

package e2e

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// burnersPerCPU processes fight the servers and the clients for each processor.
const burnersPerCPU = 2

// TestSaturation holds that a cluster with default settings keeps its leader while
// every processor of the machine is busy: clients that ask for admissions as fast
// as they are answered, and processes that only burn. EDGECODER_SATURATION is for how
// long, such as 10m: `make saturation`.
func TestSaturation(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("EDGECODER_SATURATION"))
	if err != nil || length <= 0 {
		t.Skip("takes ten minutes of all processors, more than CI has: set EDGECODER_SATURATION=10m, or run `make saturation`")
	}
	m := up(t)
	h := m.honest()
	before, logs := m.settled(), m.markLogs("")
	stop := burn(t, burnersPerCPU*runtime.NumCPU())
	rate := h.run(length).admissions
	stop()
	after := m.settled()
	t.Logf("%s at %d processors and %d burners: %.0f admissions/s, term %d then %d, %d times a node stood for election", length, runtime.NumCPU(),
		burnersPerCPU*runtime.NumCPU(), rate, before, after, strings.Count(logs.lines(), "entering candidate state"))
	if after != before {
		t.Errorf("leadership moved: term %d, then %d\n%s", before, after, logs.lines())
	}
}

// burn keeps processors busy with n processes until it is stopped.
func burn(t *testing.T, n int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all []*exec.Cmd
	stop = func() {
		cancel() // kills them
		for _, c := range all {
			_ = c.Wait() // says that it was killed
		}
		all = nil
	}
	t.Cleanup(stop)
	for range n {
		c := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return stop
}
