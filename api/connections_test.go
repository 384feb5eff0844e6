package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/limit"
)

// pipes is a listener of connections in memory, so that time can be faked.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// fromAddr is a connection of a given address.
type fromAddr struct {
	net.Conn
	addr string
}

func (c fromAddr) RemoteAddr() net.Addr { return must(net.ResolveTCPAddr("tcp", c.addr)) }

// wire is the caller's end of a connection to a server under test.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// serveInMemory serves in the running synctest bubble and returns how to dial.
func serveInMemory(t *testing.T, srv *http.Server) (dial func(addr string) *wire) {
	l := pipes{make(chan net.Conn), make(chan struct{})}
	ended := make(chan struct{})
	go func() { _ = srv.Serve(l); close(ended) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	return func(addr string) *wire {
		here, there := net.Pipe()
		l.conns <- fromAddr{there, addr}
		synctest.Wait()
		return &wire{t, here, bufio.NewReader(here)}
	}
}

func (w *wire) get(path, token string) int {
	w.t.Helper()
	go func() {
		_, _ = io.WriteString(w.conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	}()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// open tells whether the server holds the connection.
func (w *wire) open() bool {
	synctest.Wait()
	_ = w.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := w.in.Peek(1)
	_ = w.conn.SetReadDeadline(time.Time{})
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestIdleConnectionsOfStrangersEndSoon(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		dial := serveInMemory(t, f.server.HTTPServer())
		stranger, busy, known := dial("192.0.2.1:1"), dial("192.0.2.1:2"), dial("192.0.2.1:3")
		if stranger.get("/healthz", "x") != 200 || stranger.get("/v1/status", "x") != 401 || busy.get("/healthz", "") != 200 ||
			known.get("/v1/status", f.tokens[fsm.RoleViewer]) != 200 {
			t.Fatal("the server does not answer")
		}
		time.Sleep(strangerIdle - time.Second)
		if busy.get("/healthz", "") != 200 {
			t.Error("a stranger that goes on asking was cut off")
		}
		time.Sleep(2 * time.Second)
		if stranger.open() || !busy.open() || !known.open() {
			t.Errorf("after %s: stranger %v, busy stranger %v, known %v", strangerIdle, stranger.open(), busy.open(), known.open())
		}
		time.Sleep(idleTimeout - strangerIdle - 5*time.Second)
		if !known.open() || busy.open() {
			t.Errorf("later: known %v, busy stranger %v", known.open(), busy.open())
		}
		time.Sleep(10 * time.Second)
		if known.open() {
			t.Error("an idle connection stays for ever")
		}
	})
}

// slowBody announces a body and sends one byte of it.
func (w *wire) slowBody(path, headers string) {
	_, _ = io.WriteString(w.conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\n"+headers+"Content-Length: 100\r\n\r\n{")
	synctest.Wait()
}

func TestSlowBodiesOfStrangersEndSoon(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		dial := serveInMemory(t, f.server.HTTPServer())
		slow := dial("192.0.2.1:1")
		slow.slowBody("/v1/agents", "")
		if f.server.strangerBodies.Used() != leastBody || f.server.slots.open.Used() != 0 {
			t.Fatal("a body on its way waits in its room, and holds no slot")
		}
		time.Sleep(openBodyTimeout + time.Millisecond)
		synctest.Wait()
		if f.server.strangerBodies.Used() != 0 {
			t.Error("a slow body still holds its place")
		}
		resp, err := http.ReadResponse(slow.in, nil)
		if err != nil || resp.StatusCode != 422 || !resp.Close {
			t.Fatalf("%+v, %v", resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		time.Sleep(time.Second)
		if slow.open() {
			t.Error("the connection waits for the rest of the body")
		}
	})
}

// TestSlowBodiesShutNobodyOut: of slow bodies beyond the room the oldest go, those of
// strangers and those of tokens apart; who sends at once is served, at the address
// of the flood too and under its token.
func TestSlowBodiesShutNobodyOut(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.server.strangerBodies = limit.NewRoom[netip.Addr](8 * leastBody)
		f.server.tokenBodies = limit.NewRoom[string](8 * leastBody)
		dial := serveInMemory(t, f.server.HTTPServer())
		mesh := "X-Mesh-Token: " + f.tokens[fsm.RoleMesh] + "\r\n"
		var slow []*wire
		for i := range 12 {
			slow = append(slow, dial("192.0.2.1:1"), dial(fmt.Sprintf("192.0.3.%d:1", i%2)))
			slow[2*i].slowBody("/heartbeat", "")
			slow[2*i+1].slowBody("/mesh/ingest", mesh)
		}
		if n := f.server.strangerBodies.Used() / leastBody; n != 8 {
			t.Errorf("%d bodies of strangers wait", n)
		}
		resp, err := http.ReadResponse(slow[0].in, nil)
		if err != nil || resp.StatusCode != 503 || !resp.Close {
			t.Errorf("the oldest: %+v, %v", resp, err)
		}
		for _, c := range []struct {
			from, path, headers string
			status              int
		}{
			{"192.0.2.1:2", "/heartbeat", "", 400}, {"192.0.2.9:2", "/v1/agents", "", 401}, {"192.0.2.1:3", "/mesh/ingest", mesh, 400},
			{"192.0.2.1:4", "/v1/blacklist", "Authorization: Bearer " + f.tokens[fsm.RoleAdmin] + "\r\n", 422},
		} {
			honest := dial(c.from)
			go func() {
				_, _ = io.WriteString(honest.conn, "POST "+c.path+" HTTP/1.1\r\nHost: x\r\n"+c.headers+"Content-Length: 2\r\n\r\n{}")
			}()
			resp, err := http.ReadResponse(honest.in, nil)
			if err != nil || resp.StatusCode != c.status {
				t.Errorf("%s from %s: %+v, %v", c.path, c.from, resp, err)
			}
		}
	})
}

// lastByte is a body that calls back once it was read whole.
type lastByte struct {
	io.ReadCloser
	left int
	then func()
}

func (b *lastByte) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left == 0 && n > 0 {
		b.then()
	}
	return n, err
}

// TestEvictionMeetsAWholeBody: who has to make room with the last byte is refused
// before anything is done, not cancelled in the middle of it.
func TestEvictionMeetsAWholeBody(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.server.tokenBodies = limit.NewRoom[string](leastBody)
		f.server.strangerBodies = limit.NewRoom[netip.Addr](leastBody)
		srv := f.server.HTTPServer()
		inner, crowd, canceled := srv.Handler, true, false
		srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = &lastByte{r.Body, int(r.ContentLength), func() {
				if crowd {
					f.server.tokenBodies.Enter("another", leastBody, func() {})
					f.server.strangerBodies.Enter(netip.Addr{}, leastBody, func() {})
					synctest.Wait()
					canceled = r.Context().Err() != nil
				}
			}}
			inner.ServeHTTP(w, r)
		})
		dial := serveInMemory(t, srv)
		before := f.node.index
		post := func(path, token, body string) *http.Response {
			w := dial("192.0.2.1:1")
			go func() {
				_, _ = fmt.Fprintf(w.conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", path, token, len(body), body)
			}()
			return must(http.ReadResponse(w.in, nil))
		}
		const body = `{"role":"viewer","label":"x"}`
		for path, token := range map[string]string{"/v1/tokens": f.tokens[fsm.RoleAdmin], "/heartbeat": ""} {
			resp := post(path, token, body)
			if resp.StatusCode != 503 || !resp.Close || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %+v", path, resp)
			}
			if !canceled {
				t.Errorf("%s: the request is not canceled: its body may as well be taken", path)
			}
		}
		if f.node.index != before {
			t.Error("what was refused was done")
		}
		crowd = false
		if resp := post("/v1/tokens", f.tokens[fsm.RoleAdmin], body); resp.StatusCode != 201 || f.node.index == before {
			t.Errorf("afterwards: %+v", resp)
		}
	})
}

// TestRefusalsDoNotWaitForTheBody: net/http reads what nobody read before it sends
// an answer; who sends slowly waits for less than it would have to.
func TestRefusalsDoNotWaitForTheBody(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		dial := serveInMemory(t, f.server.HTTPServer())
		start := time.Now()
		slow := dial("192.0.2.1:1")
		slow.slowBody("/v1/admissions", "Authorization: Bearer x\r\n")
		resp, err := http.ReadResponse(slow.in, nil)
		if err != nil || resp.StatusCode != 401 || !resp.Close {
			t.Fatalf("%+v, %v", resp, err)
		}
		if took := time.Since(start); took > unreadTimeout {
			t.Errorf("the answer took %s", took)
		}
		quick := dial("192.0.2.1:2")
		for range 2 { // who sends all of it keeps the connection
			go func() {
				_, _ = io.WriteString(quick.conn, "POST /v1/admissions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
			}()
			if resp, err := http.ReadResponse(quick.in, nil); err != nil || resp.StatusCode != 401 || resp.Close {
				t.Fatalf("%+v, %v", resp, err)
			} else if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * unreadTimeout)
		}
	})
}

// TestConnectionsMakeRoom: of strangers' connections the oldest of the address that
// has most goes; one that showed a valid credential stays.
func TestConnectionsMakeRoom(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		f.server.conns = newConnections(4, 2)
		all := f.server.conns
		dial := serveInMemory(t, f.server.HTTPServer())
		known := dial("192.0.2.1:1")
		if known.get("/v1/status", f.tokens[fsm.RoleViewer]) != 200 || all.known.Used() != 1 || all.strangers.Used() != 0 {
			t.Fatal("a valid credential is not noted")
		}
		honest := dial("192.0.2.2:1")
		var flood []*wire
		for range 5 {
			flood = append(flood, dial("192.0.2.1:2"))
		}
		for i, want := range []bool{false, false, true, true, true} {
			if got := flood[i].open(); got != want {
				t.Errorf("connection %d of the flood: open %v", i, got)
			}
		}
		if !known.open() || !honest.open() || all.count() != 5 || all.strangers.Evicted() != 2 {
			t.Errorf("known %v, honest %v, %d connections", known.open(), honest.open(), all.count())
		}
		_ = known.conn.Close()
		time.Sleep(readHeaderTimeout + time.Second)
		synctest.Wait()
		if all.mu.Lock(); len(all.byConn) != 0 || all.count() != 0 {
			t.Errorf("%d connections are counted after all have ended", all.count())
		}
		all.mu.Unlock()
	})
}
