package api

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
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

func TestSlowBodiesOfStrangersEndSoon(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		dial := serveInMemory(t, f.server.HTTPServer())
		slow := dial("192.0.2.1:1")
		_, _ = io.WriteString(slow.conn, "POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
		synctest.Wait()
		if len(f.server.slots[classOpen]) != 1 {
			t.Fatal("the request has not arrived")
		}
		time.Sleep(openBodyTimeout + time.Millisecond)
		synctest.Wait()
		if len(f.server.slots[classOpen]) != 0 || len(f.server.strangers.held) != 0 {
			t.Error("a slow body still holds its slot")
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

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newConnections(5, 2, nil)
		srv := httpServer(http.NotFoundHandler(), all, slog.New(slog.DiscardHandler))
		dial := serveInMemory(t, srv)
		first := dial("192.0.2.1:1")
		for _, c := range []struct {
			addr string
			open bool
		}{{"192.0.2.1:2", true}, {"192.0.2.1:3", false}, {"[2001:db8::1]:1", true}, {"[2001:db8::2]:1", true}, {"[2001:db8::3]:1", false},
			{"127.0.0.1:1", true}, {"127.0.0.1:2", false}} {
			if got := dial(c.addr).open(); got != c.open {
				t.Errorf("%s: open %v", c.addr, got)
			}
		}
		_ = first.conn.Close()
		synctest.Wait()
		if !dial("127.0.0.1:3").open() {
			t.Error("a place was not given back")
		}
		time.Sleep(readHeaderTimeout + time.Second)
		synctest.Wait()
		if all.mu.Lock(); len(all.byConn) != 0 || len(all.byAddr) != 0 {
			t.Errorf("%d connections are counted after all have ended", len(all.byConn))
		}
		all.mu.Unlock()
	})
}

func TestThisMachineMayHaveAllConnections(t *testing.T) {
	all := newConnections(5, 2, nil)
	for range 5 {
		here, there := net.Pipe()
		defer here.Close()
		all.open(context.Background(), fromAddr{there, "127.0.0.1:1"})
	}
	if len(all.byConn) != 5 {
		t.Errorf("%d", len(all.byConn))
	}
}
