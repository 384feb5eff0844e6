//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
	floodRate     = 50_000    // requests a second that the flood offers
	floodConns    = 128       // connections of the flood
	floodBurst    = 32        // requests it sends at once
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
	f := m.flood()
	loud := m.honest(a, length)
	f.stop()
	ratio, took := loud/quiet, length.Seconds()
	t.Logf("flood: %d requests/s offered, %.0f taken by the sockets, %.0f answered, %.0f with 429; honest: %.0f/s without, %.0f/s with: ratio %.2f",
		floodRate, float64(f.taken.Load())/took, float64(f.answered.Load())/took, float64(f.refused.Load())/took, quiet, loud, ratio)
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
	if f.refused.Load() == 0 {
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

// flood is requests with forged tokens from 127.0.0.2 to all servers. It is an
// open loop, pipelined: it waits for no answer, and what a server does not
// read at its time waits in the sockets.
type flood struct {
	taken    atomic.Int64 // requests that the sockets took
	answered atomic.Int64
	refused  atomic.Int64 // of those with 429
	end      context.CancelFunc
	all      sync.WaitGroup
}

func (m *mesh) flood() *flood {
	ctx, cancel := context.WithCancel(m.t.Context())
	f := &flood{end: cancel}
	transport := m.from("127.0.0.2", 1)
	nodes := m.cluster.Record().Nodes
	for w := range floodConns {
		node := nodes[w%len(nodes)]
		f.all.Go(func() {
			for ctx.Err() == nil {
				host := strings.TrimPrefix(node.API, "https://")
				raw, err := transport.DialContext(ctx, "tcp", host)
				if err != nil {
					continue // the dialer has a time limit, a full backlog answers late
				}
				config := transport.TLSClientConfig.Clone()
				config.ServerName, _, _ = net.SplitHostPort(host)
				f.pour(ctx, tls.Client(raw, config), host)
			}
		})
	}
	return f
}

// pour sends one connection's share of the flood until that ends or the server
// closes it.
func (f *flood) pour(ctx context.Context, c net.Conn, host string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = c.Close() }) // ends a write that is stuck
	f.all.Go(func() {
		defer cancel()
		f.drain(c)
	})
	request := []byte("POST /v1/admissions HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer forged\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	burst := time.NewTicker(time.Second * floodBurst * floodConns / floodRate)
	defer burst.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-burst.C: // drops what a stuck write was late for
		}
		if _, err := c.Write(bytes.Repeat(request, floodBurst)); err != nil {
			return
		}
		f.taken.Add(floodBurst)
	}
}

// drain counts the answers on a connection.
func (f *flood) drain(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return
		}
		if f.answered.Add(1); resp.StatusCode == http.StatusTooManyRequests {
			f.refused.Add(1)
		}
	}
}

func (f *flood) stop() {
	f.end()
	f.all.Wait()
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
