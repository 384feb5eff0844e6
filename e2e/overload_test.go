//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// Bounds of TestOverload.
const (
	overloadRSS   = 512 << 20 // of one server, bytes
	overloadRatio = 0.5       // honest throughput with the flood over that without
	floodConns    = 128       // connections of the flood
	honestCallers = 32
)

// TestOverload floods a real cluster from one address of loopback, which has no
// valid credential, while agents behind another are admitted. EDGECODER_OVERLOAD
// is for how long, such as 1m: `make overload`. Flood and cluster share the
// machine, so the ratio counts what the flood itself takes of it as well.
func TestOverload(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("EDGECODER_OVERLOAD"))
	if err != nil || length <= 0 {
		t.Skip("a minute of flood: set EDGECODER_OVERLOAD=1m, or run `make overload`")
	}
	m := up(t)
	a := m.agent("honest")
	_ = m.leader()
	before := m.term()
	quiet := m.honest(a, length/4)
	stop, sent, refused := m.flood()
	loud := m.honest(a, length)
	took := length.Seconds()
	stop()
	ratio := loud / quiet
	t.Logf("flood: %.0f requests/s, %.0f of them refused with 429; honest: %.0f/s without, %.0f/s with: ratio %.2f",
		float64(sent.Load())/took, float64(refused.Load())/took, quiet, loud, ratio)
	for _, n := range m.cluster.Record().Nodes {
		rss := peakRSS(t, n.PID)
		t.Logf("%s: peak resident memory %d MiB", n.Name, rss>>20)
		if rss > overloadRSS {
			t.Errorf("%s took %d MiB, at most %d", n.Name, rss>>20, overloadRSS>>20)
		}
	}
	if after := m.term(); after != before {
		t.Errorf("leadership moved: term %d, then %d", before, after)
	}
	if refused.Load() == 0 {
		t.Error("nothing of the flood was refused: it was none")
	}
	if ratio < overloadRatio {
		t.Errorf("honest callers kept %.2f of their throughput, at least %.2f", ratio, overloadRatio)
	}
}

func (m *mesh) term() uint64 {
	st, err := m.any(m.admin).Status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return st.Term
}

// from returns a transport whose connections come from one address of loopback.
func (m *mesh) from(ip string, conns int) *http.Transport {
	m.t.Helper()
	pem, err := os.ReadFile(m.cluster.Record().CAFile)
	if err != nil {
		m.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
	return &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: conns,
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
}

// honest returns the admissions a second of callers behind 127.0.0.3.
func (m *mesh) honest(a agent, length time.Duration) float64 {
	transport := m.from("127.0.0.3", honestCallers)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(m.t.Context(), length)
	defer cancel()
	var admitted atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for w := range honestCallers {
		node := m.cluster.Record().Nodes[w%len(m.cluster.Record().Nodes)]
		all.Go(func() {
			c, err := client.New(client.Config{Addrs: []string{node.API}, Token: m.verifier, Transport: transport})
			if err != nil {
				m.t.Error(err)
				return
			}
			for ctx.Err() == nil {
				got, err := c.Admit(ctx, a.request(m.t, fmt.Sprintf("overload-%d", nonces.Add(1))))
				if err == nil && got.Verdict == client.VerdictAdmitted {
					admitted.Add(1)
				}
			}
		})
	}
	all.Wait()
	return float64(admitted.Load()) / time.Since(start).Seconds()
}

// flood asks all servers from 127.0.0.2 with a forged token until it is stopped.
func (m *mesh) flood() (stop func(), sent, refused *atomic.Int64) {
	sent, refused = &atomic.Int64{}, &atomic.Int64{}
	transport := m.from("127.0.0.2", floodConns)
	ctx, cancel := context.WithCancel(m.t.Context())
	var all sync.WaitGroup
	for w := range floodConns {
		node := m.cluster.Record().Nodes[w%len(m.cluster.Record().Nodes)]
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, node.API+"/v1/admissions", strings.NewReader("{}"))
				if err != nil {
					m.t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer forged-"+strconv.Itoa(i))
				resp, err := transport.RoundTrip(req)
				if err != nil {
					continue // refused before HTTP
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if sent.Add(1); resp.StatusCode == http.StatusTooManyRequests {
					refused.Add(1)
				}
			}
		})
	}
	return func() { cancel(); all.Wait(); transport.CloseIdleConnections() }, sent, refused
}

// peakRSS returns the largest resident memory that a process had, in bytes.
func peakRSS(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no VmHWM of process %d", pid)
	return 0
}
