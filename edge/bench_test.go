package edge

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// benchBans is the size that docs/benchmarks.md speaks of.
const benchBans = 1_000_000

// judgeOf answers from a view, fresh or not.
func judgeOf(v *View) *Judge {
	set := NewSet()
	v.Head.Epoch = 1
	set.replace(v)
	return &Judge{Mode: client.EdgeBestEffort, Set: set, Lease: NewLease(NewClock(), DefaultLease), Allow: &AllowList{}, Sync: NewSyncer(Config{}, Position{})}
}

// BenchmarkJudge is a whole check in process: bans, allow-list, lease and counters.
func BenchmarkJudge(b *testing.B) {
	j := judgeOf(mustWith(b, emptyView(), manyChanges(benchBans)))
	ids := make([]string, 1<<16)
	for i := range ids {
		ids[i] = fmt.Sprintf("agent-%d", i*31)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		j.Check(ids[i&(1<<16-1)])
	}
}

// BenchmarkUnixSocket is a check as a service makes it, one at a time, with this room's Go client: median and the slowest in a hundred.
func BenchmarkUnixSocket(b *testing.B) {
	j := judgeOf(mustWith(b, emptyView(), manyChanges(benchBans)))
	path := filepath.Join(b.TempDir(), "e.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	srv := (&Server{Judge: j, Log: slog.New(slog.DiscardHandler)}).HTTP()
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	c, err := client.NewEdge(client.EdgeConfig{Addr: "unix:" + path})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := c.Allowed(b.Context(), fmt.Sprintf("agent-%d", i%(2*benchBans))); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkLoad reads a list of a million bans from disk, checksum and all.
func BenchmarkLoad(b *testing.B) {
	w := newWalk(b)
	w.step(b, benchBans)
	path := filepath.Join(b.TempDir(), "list")
	if _, err := writeFile(path, listWriter(w)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if l, err := readList(f, testSeal); err != nil || l.view.Len() != benchBans {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
