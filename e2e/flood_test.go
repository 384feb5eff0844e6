//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
)

const (
	floodRate  = 50_000 // requests a second that the flood offers
	floodConns = 128    // connections that pour them
	floodBurst = 32     // requests that one sends at once
	slowConns  = 256    // connections that send a body slowly, or nothing at all
)

// floodAddresses are where it comes from.
var floodAddresses = []string{"127.0.0.2", "127.0.0.4", "127.0.0.5", "127.0.0.6"}

// floodOrder is what the process of the flood is told.
type floodOrder struct {
	Hosts []string // of all servers
	Known string   // id of an agent that is enrolled
}

// floodCounts are what it came to.
type floodCounts struct {
	Taken    atomic.Int64 // requests that the sockets took
	Answered atomic.Int64
	Refused  atomic.Int64 // of those with 429
	Slow     atomic.Int64 // connections that were slow or silent until the server closed them
}

// MarshalJSON implements json.Marshaler.
func (c *floodCounts) MarshalJSON() ([]byte, error) {
	return json.Marshal([]int64{c.Taken.Load(), c.Answered.Load(), c.Refused.Load(), c.Slow.Load()})
}

// startFlood begins a flood in a process of its own: what it does is the machine's
// to bear, not the honest callers' runtime's. stop ends it and tells what it came to.
func (m *mesh) startFlood(known string) (stop func() [4]int64) {
	order := floodOrder{Known: known}
	for _, n := range m.cluster.Record().Nodes {
		order.Hosts = append(order.Hosts, strings.TrimPrefix(n.API, "https://"))
	}
	text, err := json.Marshal(order)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(m.t.Context(), os.Args[0], "-test.run=^TestFlood$", "-test.v")
	cmd.Env = append(os.Environ(), floodEnv+"="+string(text))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return func() (counts [4]int64) {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			m.t.Fatalf("the flood: %v\n%s", err, said.String())
		}
		_, rest, _ := strings.Cut(said.String(), floodEnv+"=")
		line, _, _ := strings.Cut(rest, "\n")
		if err := json.Unmarshal([]byte(line), &counts); err != nil {
			m.t.Fatalf("the flood says %q: %v", said.String(), err)
		}
		m.t.Logf("the flood itself took %.1f s of processor time", (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		return counts
	}
}

// TestFlood is that process. It ends with its input.
func TestFlood(t *testing.T) {
	var order floodOrder
	text := os.Getenv(floodEnv)
	if text == "" {
		t.Skip("no test of its own: the process of a flood, which TestOverload begins")
	}
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		t.Fatal(err)
	}
	f := newFlood(t, order)
	_, _ = io.Copy(io.Discard, os.Stdin)
	f.end()
	f.all.Wait()
	out, err := json.Marshal(&f.counts)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s=%s\n", floodEnv, out)
}

// flood is requests without a valid credential to all servers. It is an open loop,
// pipelined: it waits for no answer, and what a server does not read at its time
// waits in the sockets. Besides it has slow bodies and silent connections.
type flood struct {
	t        *testing.T
	order    floodOrder
	stranger agent // one that is not enrolled
	counts   floodCounts
	end      context.CancelFunc
	all      sync.WaitGroup
}

func newFlood(t *testing.T, order floodOrder) *flood {
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := &flood{t: t, order: order, stranger: agent{"nobody", key}, end: cancel}
	kinds := f.kinds()
	for w := range floodConns {
		request := kinds[w/len(floodAddresses)%len(kinds)]
		f.keep(ctx, w, func(ctx context.Context, c net.Conn, host string) { f.pour(ctx, c, request(host)) })
	}
	for w := range slowConns {
		f.keep(ctx, w, func(_ context.Context, c net.Conn, host string) { f.dawdle(c, host, w/len(floodAddresses)%2 == 0) })
	}
	return f
}

// kinds are what it asks: admissions with a forged token, and what agents ask,
// signed by nobody, and by nobody in the name of an agent that there is.
func (f *flood) kinds() []func(host string) []byte {
	asAgent := func(path, id string) func(string) []byte {
		return func(host string) []byte {
			body := fmt.Appendf(nil, `{"agentId":%q,"os":"linux","version":"1","mode":"swarm-only"}`, id)
			var headers strings.Builder
			for name, value := range signedHeaders(f.t, agent{id, f.stranger.key}, path, body) {
				fmt.Fprintf(&headers, "%s: %s\r\n", name, value)
			}
			return post(host, path, headers.String(), body)
		}
	}
	return []func(string) []byte{
		func(host string) []byte {
			return post(host, "/v1/admissions", "Authorization: Bearer forged\r\n", []byte("{}"))
		},
		asAgent("/register", f.stranger.id), asAgent("/heartbeat", f.stranger.id), asAgent("/heartbeat", f.order.Known),
	}
}

func post(host, path, headers string, body []byte) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, host, headers, len(body), body)
}

// keep has one connection after the other do the same until the flood ends.
func (f *flood) keep(ctx context.Context, w int, do func(ctx context.Context, raw net.Conn, host string)) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(floodAddresses[w%len(floodAddresses)])}, Timeout: 10 * time.Second}
	host := f.order.Hosts[w%len(f.order.Hosts)]
	f.all.Go(func() {
		for ctx.Err() == nil {
			raw, err := dialer.DialContext(ctx, "tcp", host)
			if err != nil {
				continue // the dialer has a time limit, a full backlog answers late
			}
			one, cancel := context.WithCancel(ctx)
			context.AfterFunc(one, func() { _ = raw.Close() }) // ends a write that is stuck
			do(one, raw, host)
			cancel()
		}
	})
}

func (f *flood) secure(raw net.Conn, host string) *tls.Conn {
	name, _, _ := net.SplitHostPort(host)
	return tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: name, MinVersion: tls.VersionTLS13})
}

// pour sends one connection's share of the requests until the server closes it.
func (f *flood) pour(ctx context.Context, raw net.Conn, request []byte) {
	c := f.secure(raw, raw.RemoteAddr().String())
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() {
		defer raw.Close()
		f.drain(c)
	})
	burst := time.NewTicker(time.Second * floodBurst * floodConns / floodRate)
	defer burst.Stop()
	text := bytes.Repeat(request, floodBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case <-burst.C: // drops what a stuck write was late for
		}
		if _, err := c.Write(text); err != nil {
			_ = raw.Close()
			return
		}
		f.counts.Taken.Add(floodBurst)
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
		if f.counts.Answered.Add(1); resp.StatusCode == http.StatusTooManyRequests {
			f.counts.Refused.Add(1)
		}
	}
}

// dawdle begins a body and never ends it, or says nothing at all.
func (f *flood) dawdle(raw net.Conn, host string, silent bool) {
	c := raw
	if !silent {
		secure := f.secure(raw, host)
		if _, err := secure.Write([]byte("POST /heartbeat HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 60000\r\n\r\n{")); err != nil {
			return
		}
		c = secure
	}
	_, _ = io.Copy(io.Discard, c) // until the server has enough of it
	f.counts.Slow.Add(1)
}

// reportFlood logs what a flood came to.
func reportFlood(t *testing.T, counts [4]int64, length time.Duration) {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Error(err)
	}
	took := length.Seconds()
	t.Logf("flood: %d requests/s offered, %.0f taken by the sockets, %.0f answered, %.0f with 429; %.0f slow or silent connections/s ended by the servers; load average %s",
		floodRate, float64(counts[0])/took, float64(counts[1])/took, float64(counts[2])/took, float64(counts[3])/took, bytes.TrimSpace(load))
	if counts[2] == 0 || counts[3] == 0 {
		t.Error("nothing of the flood was refused: it was none")
	}
}
