package e2e

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// BenchmarkAdmission sends signed requests through all three nodes of a real
// cluster; client and servers share the machine. The figures are operations a
// second and the latency of a call.
func BenchmarkAdmission(b *testing.B) {
	m := up(b)
	a := m.agent("bench")
	for _, load := range []struct{ clients, batch int }{{1, 1}, {64, 1}, {256, 1}, {16, 64}, {16, 1024}} {
		b.Run(fmt.Sprintf("clients=%d/batch=%d", load.clients, load.batch), func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			var mu sync.Mutex
			var calls []time.Duration
			var all sync.WaitGroup
			start := time.Now()
			for w := range load.clients {
				all.Go(func() {
					cl := m.client(m.verifier, 20, m.names()[w%3])
					var own []time.Duration
					for left.Add(-int64(load.batch)) > -int64(load.batch) {
						own = append(own, admitMany(b, cl, a, load.batch))
					}
					mu.Lock()
					calls = append(calls, own...)
					mu.Unlock()
				})
			}
			all.Wait()
			slices.Sort(calls)
			b.ReportMetric(float64(len(calls)*load.batch)/time.Since(start).Seconds(), "ops/s")
			b.ReportMetric(float64(calls[len(calls)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(calls[len(calls)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

var nonces atomic.Int64

// admitMany signs and asks for n fresh requests and returns how long the call took.
func admitMany(b *testing.B, cl *client.Client, a agent, n int) time.Duration {
	requests := make([]client.AdmissionRequest, n)
	for i := range requests {
		requests[i] = a.request(b, fmt.Sprintf("bench-%d", nonces.Add(1)))
	}
	start := time.Now()
	results := []client.Admission{{}}
	var err error
	if n == 1 {
		results[0], err = cl.Admit(b.Context(), requests[0])
	} else {
		var got client.AdmissionResults
		got, err = cl.AdmitBatch(b.Context(), requests)
		results = got.Results
	}
	took := time.Since(start)
	if err != nil {
		b.Errorf("admit: %v", err)
	}
	for _, r := range results {
		if r.Verdict != client.VerdictAdmitted {
			b.Errorf("not admitted: %+v", r)
		}
	}
	return took
}
