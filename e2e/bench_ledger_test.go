package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// BenchmarkLedger has transfers among a hundred accounts go through all three nodes
// of a real cluster; client and servers share the machine. The figures are transfers
// a second and the latency of a call. Each load is measured for itself: -benchtime 3x
// would repeat the bringing up, too.
func BenchmarkLedger(b *testing.B) {
	m := up(b)
	m.openMoney()
	m.enrich()
	for _, load := range []struct{ clients, batch int }{{1, 1}, {64, 1}, {256, 1}, {1, 1024}, {4, 1024}, {16, 1024}, {64, 1024}, {256, 1024}} {
		b.Run(fmt.Sprintf("clients=%d/batch=%d", load.clients, load.batch), func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			var mu sync.Mutex // guards calls
			var calls []time.Duration
			var all sync.WaitGroup
			start := time.Now()
			servers, clients := m.processors()
			for w := range load.clients {
				all.Go(func() {
					cl := m.client(m.admin, 20, m.names()[w%3])
					rng := rand.New(rand.NewPCG(1, uint64(w)))
					var own []time.Duration
					for left.Add(-int64(load.batch)) > -int64(load.batch) {
						own = append(own, transferMany(b, cl, rng, load.batch))
					}
					mu.Lock()
					defer mu.Unlock()
					calls = append(calls, own...)
				})
			}
			all.Wait()
			took := time.Since(start)
			slices.Sort(calls)
			b.ReportMetric(float64(len(calls)*load.batch)/took.Seconds(), "transfers/s")
			b.ReportMetric(float64(calls[len(calls)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(calls[len(calls)*99/100].Microseconds())/1000, "p99-ms")
			// Processor time is what other work on the machine changes least.
			serversNow, clientsNow := m.processors()
			each := 1e6 / float64(len(calls)*load.batch)
			b.ReportMetric((serversNow-servers)*each, "servers-µs/transfer")
			b.ReportMetric((clientsNow-clients)*each, "clients-µs/transfer")
			b.Logf("%d calls in %s, load average %s", len(calls), took.Round(time.Millisecond), loadAverage())
		})
	}
}

// loadAverage tells how busy the machine is with other things, where that is known.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// processors returns the processor time that servers and clients have used, in
// seconds; nothing where the system does not tell.
func (m *mesh) processors() (servers, clients float64) {
	if runtime.GOOS != "linux" {
		return 0, 0
	}
	for _, n := range m.cluster.Record().Nodes {
		servers += processorSeconds(m.t, n.PID)
	}
	return servers, processorSeconds(m.t, os.Getpid())
}

// enrich gives every account what no benchmark spends, and narrows the window of
// ids to a minute: what is remembered of one that is as wide as by default fills up,
// and in a narrower one ids grow too old in the queue of a busy machine.
func (m *mesh) enrich() {
	m.t.Helper()
	cl := m.any(m.admin)
	window := int64(60_000)
	p, err := cl.LedgerPolicy(m.t.Context(), client.Strong())
	if err == nil {
		_, err = cl.SetLedgerPolicy(m.t.Context(), p.Version, client.LedgerPolicyUpdate{IDWindowMs: &window})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range moneyAccounts {
		if r, err := cl.Transfer(m.t.Context(), client.TransferRequest{Debit: "@issuance", Credit: accountName(i), Amount: 1_000_000_000_000}); err != nil || !r.OK() {
			m.t.Fatalf("%+v, %v", r, err)
		}
	}
}

// transferMany moves n times something and returns how long that took. An overloaded
// node is asked again, beyond what the client does by itself: that is its brake, and
// the wait counts.
func transferMany(b *testing.B, cl *client.Client, rng *rand.Rand, n int) time.Duration {
	entries := make([]client.LedgerEntry, n)
	for i := range entries {
		entries[i] = drawEntry(rng)
	}
	start := time.Now()
	results, err := transferOnce(b, cl, entries)
	for codeOf(err) == client.CodeOverloaded {
		results, err = transferOnce(b, cl, entries)
	}
	took := time.Since(start)
	if err != nil {
		b.Errorf("transfer: %v", err)
	}
	for _, r := range results {
		if !r.OK() {
			b.Errorf("not done: %+v", r)
			break
		}
	}
	return took
}

func transferOnce(b *testing.B, cl *client.Client, entries []client.LedgerEntry) ([]client.LedgerResult, error) {
	if e := entries[0]; len(entries) == 1 {
		r, err := cl.Transfer(b.Context(), client.TransferRequest{ID: e.ID, Debit: e.Debit, Credit: e.Credit, Amount: e.Amount})
		return []client.LedgerResult{r}, err
	}
	out, err := cl.MoveLedger(b.Context(), client.LedgerBatch{Entries: entries})
	return out.Results, err
}
