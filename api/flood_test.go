//go:build unix

package api

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/limit"
)

// heapNow returns the live heap in bytes, garbage gone.
func heapNow() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// grew checks how much the heap grew since before.
func grew(t *testing.T, what string, before, most uint64) {
	t.Helper()
	if after := heapNow(); after > before && after-before > most {
		t.Errorf("%s: the heap grew by %d KiB, at most %d", what, (after-before)>>10, most>>10)
	}
}

// TestFloodOfStrangersLeavesNothing: addresses, agents and tokens without
// number are forgotten but for what the guard may remember.
func TestFloodOfStrangersLeavesNothing(t *testing.T) {
	f := newFixture(t)
	h := f.server.Handler()
	before := heapNow()
	for i := range 2 * guardEntries {
		addr := fmt.Sprintf("[2001:db8:%x:%x::1]:9", i>>16, i&0xffff)
		req := httptest.NewRequest("GET", fmt.Sprintf("/v1/agents/unknown-%d", i), nil)
		req.RemoteAddr, req.Header["Authorization"] = addr, []string{"Bearer forged-" + addr}
		h.ServeHTTP(discard{http.Header{}}, req)
	}
	if n := f.server.guard.all.Size(); n > guardEntries {
		t.Errorf("the guard remembers %d addresses, at most %d", n, guardEntries)
	}
	grew(t, "twice as many addresses as are remembered", before, 32<<20) // 65,536 limiters of some 250 bytes with their places in maps
}

// discard is a writer of answers that nobody reads.
type discard struct{ h http.Header }

func (w discard) Header() http.Header         { return w.h }
func (w discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)               {}

// TestRefusalsWait: a caller over its budget hears of it late, and one that finds
// no place to wait at once.
func TestRefusalsWait(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.letStreamsLast()
		f.server.pause = refusalPause
		refuse := func() time.Duration {
			start := time.Now()
			wantProblem(t, f.do(ask{method: "GET", path: "/v1/status", token: "x", from: "192.0.2.1:9"}), client.CodeRateLimited, "")
			return time.Since(start)
		}
		for range guardBurst {
			_ = f.server.guard.charge(parseAddress("192.0.2.1:9"))
		}
		if took := refuse(); took != refusalPause {
			t.Errorf("refused after %s", took)
		}
		for f.server.guard.held.Take(parseAddress("192.0.2.1:9")) { // what one address may have
		}
		if took := refuse(); took != 0 {
			t.Errorf("without a place it waited %s", took)
		}
		if rec := f.do(ask{method: "GET", path: "/v1/status", token: "x", from: "192.0.2.1:9"}); rec.Header().Get("Connection") != "close" {
			t.Error("without a place it keeps the connection")
		}
		if !f.server.guard.held.Take(parseAddress("192.0.2.2:9")) {
			t.Error("one address has all the places")
		}
	})
}

// TestFloodOfUnknownAgentsLeavesNothing: a verifier passes on what claims to be
// of agents that nobody enrolled.
func TestFloodOfUnknownAgentsLeavesNothing(t *testing.T) {
	f := newFixture(t)
	key := must(crypto.GenerateKey(rand.Reader))
	ask := func(i int) *http.Request {
		a := agent{id: fmt.Sprintf("unknown-%d", i), key: key}
		text := must(json.Marshal(a.request(testClock, "body")))
		req := httptest.NewRequest("POST", "/v1/admissions", bytes.NewReader(text))
		req.Header["Authorization"] = []string{"Bearer " + f.tokens[fsm.RoleVerifier]}
		return req
	}
	before := heapNow()
	for i := range 10_000 {
		f.server.Handler().ServeHTTP(discard{http.Header{}}, ask(i))
	}
	grew(t, "10,000 unknown agents", before, 4<<20)
}

// fill takes all that one holder may have of a class, of every rank.
func (f *fixture) fill(class class) {
	for _, role := range allRoles {
		if text := f.tokens[role]; text != "" {
			for f.server.slots.tokens[class][rankOf(role)].Take(must(crypto.ParseTokenText(text)).ID) {
			}
		}
	}
}

// TestATokenLeavesRoomForOthers: no token has all the slots of a class, and no
// number of tokens those of another rank.
func TestATokenLeavesRoomForOthers(t *testing.T) {
	f := newFixture(t)
	id := must(crypto.ParseTokenText(f.tokens[fsm.RoleVerifier])).ID
	work := func(class class) *limit.Slots[string] { return f.server.slots.tokens[class][rankWork] }
	for _, class := range []class{classPlain, classBatch, classStream, classEvents} {
		for work(class).Take(id) {
		}
		if n := work(class).Used(); n > classSizes[class][rankWork]/2 {
			t.Errorf("%s: a token has %d of %d", classNames[class], n, classSizes[class][rankWork])
		}
	}
	body := client.AdmissionBatch{Requests: []client.AdmissionRequest{}}
	rec := f.do(ask{method: "POST", path: "/v1/admissions/batch", token: f.tokens[fsm.RoleVerifier], body: body})
	wantProblem(t, rec, client.CodeOverloaded, "")
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/agents", token: f.tokens[fsm.RoleVerifier]}), client.CodeOverloaded, "")
	if rec := f.do(ask{method: "GET", path: "/v1/agents", token: f.tokens[fsm.RoleViewer]}); rec.Code != 200 {
		t.Errorf("another token: %d %s", rec.Code, rec.Body)
	}
	for i := range 100_000 { // tokens without number, of the lower ranks
		for class := range f.server.slots.tokens {
			f.server.slots.tokens[class][rankLeast].Take(fmt.Sprint(i % 5000))
			f.server.slots.tokens[class][rankWork].Take(fmt.Sprint(i % 5000))
		}
	}
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/agents", token: f.tokens[fsm.RoleViewer]}), client.CodeOverloaded, "")
	for _, path := range []string{"/v1/agents", "/v1/agents?level=strong", "/v1/audit/heads"} {
		if rec := f.admin("GET", path, nil); rec.Code != 200 {
			t.Errorf("an admin's %s: %d", path, rec.Code)
		}
	}
}

// serveOn serves the fixture's API on loopback, without TLS.
func (f *fixture) serveOn(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := f.server.HTTPServer()
	ended := make(chan struct{})
	go func() { _ = srv.Serve(l); close(ended) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	return l.Addr().String()
}

func TestHugeHeadersAreRefused(t *testing.T) {
	f := newFixture(t)
	addr := f.serveOn(t)
	for what, header := range map[string]string{
		"one header": "X-A: " + strings.Repeat("a", 64<<10) + "\r\n",
		"many":       strings.Repeat("X-A: a\r\n", 16<<10),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		go func() { _, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n"+header+"\r\n") }()
		answer, _ := io.ReadAll(conn) // the server closes it, perhaps with what it has not read
		if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
			t.Errorf("%s: %.80q", what, answer)
		}
		_ = conn.Close()
	}
}

// idleConnections is how many connections that say nothing a server must bear.
const idleConnections = 5000

func TestIdleConnectionsCostLittleAndHonestCallersAreServed(t *testing.T) {
	raiseFiles(t, 2*idleConnections+512)
	f := newFixture(t)
	addr := f.serveOn(t)
	before := heapNow()
	conns := make([]net.Conn, idleConnections)
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			for i := w; i < len(conns); i += 16 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Errorf("dial %d: %v", i, err)
					return
				}
				conns[i] = c
				// Some have asked before, some are in the middle of a header.
				_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("\r\n", i%2))
			}
		})
	}
	all.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	if n := f.server.conns.count(); n > maxStrangers {
		t.Errorf("%d connections, at most %d", n, maxStrangers)
	}
	grew(t, fmt.Sprintf("%d connections", idleConnections), before, 128<<20) // both ends live here
	req := must(http.NewRequest("GET", "http://"+addr+"/v1/agents", nil))
	req.Header.Set("Authorization", "Bearer "+f.tokens[fsm.RoleViewer])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal("an honest caller among idle ones:", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("an honest caller among idle ones: %d", resp.StatusCode)
	}
}

// raiseFiles asks for so many file descriptors, and skips where there are none.
func raiseFiles(t *testing.T, want uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= want {
		return
	}
	was := limit
	limit.Cur, limit.Max = want, max(limit.Max, want)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Skipf("this user may not open %d files, which both ends of 5,000 connections take (CI runs this as root, who may): %v", want, err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) })
}
