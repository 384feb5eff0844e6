package edge_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/edge"
)

// Bodies that never end cost no more than a few large ones, and leave room for what is asked every moment.
func TestBodiesThatNeverEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Cosign(3)
		f := faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict)
		ends := func() []io.Closer {
			var open []io.Closer
			for range 100 {
				body, end := io.Pipe()
				open = append(open, end)
				r := httptest.NewRequest("POST", "/v1/allowed", body) // of unknown length
				r.Host = "localhost"
				go f.handler.ServeHTTP(httptest.NewRecorder(), r)
			}
			return open
		}()
		synctest.Wait()
		if status, text := f.do("POST", "/v1/allowed", `{"agent_ids":["`+strings.Repeat("a", 100<<10)+`"]}`); status != http.StatusServiceUnavailable || !strings.Contains(text, client.CodeOverloaded) {
			t.Errorf("one large body more: %d %s", status, text)
		}
		if status, text := f.do("POST", "/v1/allowed", `{"agent_ids":["a","b"]}`); status != http.StatusOK {
			t.Errorf("a small question beside: %d %s", status, text)
		}
		for _, e := range ends {
			_ = e.Close()
		}
		synctest.Wait()
		ids, err := json.Marshal(client.AllowedBatch{AgentIDs: strings.Fields(strings.Repeat(strings.Repeat("a", 128)+" ", client.MaxBatch))})
		if err != nil {
			t.Fatal(err)
		}
		if status, text := f.do("POST", "/v1/allowed", string(ids)); status != http.StatusOK {
			t.Errorf("the largest question, once they ended: %d %s", status, text)
		}
		for path, most := range map[string]int{"/v1/allowed": 1 << 20, "/v1/admissions": 64 << 10, "/v1/admissions/batch": 5 << 20} {
			if status, text := f.do("POST", path, strings.Repeat(" ", most)); status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s with %d bytes: %d %s", path, most, status, text)
			}
		}
	})
}

// The whole list goes over a unix socket alone, and to few at a time, which keep nobody from being admitted.
func TestDeltasOfAnEdgeAreForFew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Cosign(3)
		f := faceOf(startRig(t, t.TempDir(), c), client.EdgeStrict)
		if status, text := f.do("GET", "/v1/blacklist/delta", "", func(r *http.Request) {
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))
		}); status != http.StatusForbidden || !strings.Contains(text, "unix:PATH") || len(f.coordinators.deltas) > 0 {
			t.Errorf("over loopback: %d %s", status, text)
		}
		f.coordinators.hold = make(chan struct{})
		for range 300 {
			go f.do("GET", "/v1/blacklist/delta", "")
		}
		synctest.Wait()
		if status, text := f.do("GET", "/v1/blacklist/delta", ""); status != http.StatusServiceUnavailable || !strings.Contains(text, client.CodeOverloaded) {
			t.Errorf("one mirror more: %d %s", status, text)
		}
		if status, text := f.do("POST", "/v1/admissions", `{"claim_id":"c1"}`); status != http.StatusOK {
			t.Errorf("an admission beside: %d %s", status, text)
		}
		close(f.coordinators.hold)
		synctest.Wait()
		if status, text := f.do("GET", "/v1/blacklist/delta", ""); status != http.StatusOK {
			t.Errorf("once they are answered: %d %s", status, text)
		}
	})
}

// pipes is a listener whose callers are all there at once.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func TestConnectionsAreBounded(t *testing.T) {
	callers := make(pipes, 1)
	l := edge.Bounded(callers)
	call := func() net.Conn {
		ours, theirs := net.Pipe()
		callers <- theirs
		return ours
	}
	var open []net.Conn
	for range 512 {
		call()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	taken := make(chan net.Conn)
	go func() {
		defer close(taken)
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			taken <- conn
		}
	}()
	refused := func() {
		t.Helper()
		if _, err := call().Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("whom there is no room for hears %v", err)
		}
	}
	refused()
	_ = open[0].Close()
	_ = open[0].Close() // which makes room for one, not for two
	call()
	if <-taken == nil {
		t.Error("no room was made")
	}
	refused()
	close(callers)
	<-taken
}
