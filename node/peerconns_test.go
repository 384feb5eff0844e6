package node

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
)

// TestPeerConnsAreBounded: one node has so many connections and no more, and a
// removed one few, for as long as it needs to hear one word.
func TestPeerConnsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &mux{peers: map[*peerConn]struct{}{}, greeter: newGreeter(nil), log: testLog(t)}
		open := func(id string) *peerConn {
			conn, other := net.Pipe()
			t.Cleanup(func() { _ = other.Close() })
			return &peerConn{Conn: conn, nodeID: id, peer: peerName{id: id}, mux: m}
		}
		first := open("member")
		for i, p := 0, first; i < maxPeerConns; i, p = i+1, open("member") {
			if !m.register(p) {
				t.Fatalf("connection %d of a member is refused", i)
			}
		}
		if m.register(open("member")) || !m.register(open("other")) {
			t.Error("a member has one too many, or takes another's")
		}
		if _ = first.Close(); !m.register(open("member")) {
			t.Error("a closed connection counts")
		}
		count := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.peers)
		}
		members := count()
		for i := range 2 * maxFarewells {
			for range 2 * maxFarewellsOfOne {
				if p := open("removed" + strconv.Itoa(i)); m.register(p) && !m.farewell(p) {
					_ = p.Close()
				}
			}
			if got, want := count()-members, min(maxFarewells, (i+1)*maxFarewellsOfOne); got != want {
				t.Fatalf("%d removed nodes have %d connections, want %d", i+1, got, want)
			}
		}
		time.Sleep(farewellTime)
		synctest.Wait()
		if left := count() - members; left != 0 {
			t.Errorf("%d connections of removed nodes are left", left)
		}
	})
}

// TestCallBodyMustArrive: a stalled body ends its call; a long call whose body
// arrived is left alone.
func TestCallBodyMustArrive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		read := make(chan error, 1)
		l := gossip.NewStreamListener(idAddr("calls"))
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := readBody(w, r, maxRPCBytes)
			select {
			case <-r.Context().Done():
			case <-time.After(2 * bodyTime):
			}
			read <- errors.Join(err, r.Context().Err())
		})}
		go func() { _ = server.Serve(l) }()
		defer func() { _ = server.Close() }()
		for body, want := range map[string]error{"whole": nil, "st": os.ErrDeadlineExceeded} {
			here, there := net.Pipe()
			go l.Deliver(there)
			go func() { _, _ = io.Copy(io.Discard, here) }()
			_, _ = io.WriteString(here, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"+body)
			if err := <-read; !errors.Is(err, want) {
				t.Errorf("a body %q of 5 bytes: %v, want %v", body, err, want)
			}
			_ = here.Close()
		}
	})
}
