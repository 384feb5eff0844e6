//go:build linux

package e2e

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// burnersPerCPU idle loops a processor fight the servers for it, beside the
// clients: the servers get a fraction of what they would use.
const burnersPerCPU = 2

// TestSaturation holds that a cluster with default settings keeps its leader while
// every processor of the machine is busy: clients that ask for admissions as fast
// as they are answered, and loops that only burn. EDGECODER_SATURATION is for how
// long, such as 10m: `make saturation`.
func TestSaturation(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("EDGECODER_SATURATION"))
	if err != nil || length <= 0 {
		t.Skip("ten minutes of busy processors: set EDGECODER_SATURATION=10m, or run `make saturation`")
	}
	m := up(t)
	a := m.agent("busy")
	_ = m.leader()
	before, logs := m.term(), m.markLogs("")
	ctx, cancel := context.WithCancel(t.Context())
	var burners sync.WaitGroup
	for range burnersPerCPU * runtime.NumCPU() {
		burners.Go(func() {
			for ctx.Err() == nil {
				for range 1_000_000 {
				}
			}
		})
	}
	rate := m.honest(a, length)
	cancel()
	burners.Wait()
	after := m.term()
	t.Logf("%s at %d processors and %d burners: %.0f admissions/s, term %d then %d, %d times a node stood for election", length, runtime.NumCPU(),
		burnersPerCPU*runtime.NumCPU(), rate, before, after, strings.Count(logs.lines(), "entering candidate state"))
	if after != before {
		t.Errorf("leadership moved: term %d, then %d\n%s", before, after, logs.lines())
	}
}
