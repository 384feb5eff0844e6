package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on open connections of one server. A connection costs some 30 KiB
// with TLS, so all of them are 256 MiB. This machine itself may have them all:
// proxies and tools live there, and who is on it has other means; so may proxies
// that an operator named, which speak for many.
const (
	maxConnections  = 8192
	connectionShare = 1024 // of one address, or /64
)

// connections keeps count of a server's connections through its hooks, and
// closes what is too many or idle for too long.
type connections struct {
	most, share int
	proxies     []netip.Prefix
	refused     atomic.Uint64 // that were one too many

	mu     sync.Mutex
	byConn map[net.Conn]*connection
	byAddr map[netip.Addr]int // by guardKey
}

// connection is one of them. idle is guarded by connections.mu.
type connection struct {
	addr    netip.Addr
	vouched atomic.Bool // a valid credential came over it
	idle    *time.Timer // closes it; nil while a request is under way
}

func newConnections(most, share int, proxies []netip.Prefix) *connections {
	return &connections{most: most, share: share, proxies: proxies, byConn: map[net.Conn]*connection{}, byAddr: map[netip.Addr]int{}}
}

type connectionKey struct{}

// open is an http.Server.ConnContext. One too many is closed at once; the
// server then finds it closed.
func (s *connections) open(ctx context.Context, c net.Conn) context.Context {
	one := &connection{addr: addressOf(c)}
	if !s.add(c, one) {
		s.refused.Add(1)
		closeQuietly(c)
	}
	return context.WithValue(ctx, connectionKey{}, one)
}

func (s *connections) add(c net.Conn, one *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byConn) >= s.most || (s.byAddr[one.addr] >= s.share && !one.addr.IsLoopback() && !within(s.proxies, one.addr)) {
		return false
	}
	s.byConn[c] = one
	s.byAddr[one.addr]++
	return true
}

// moved is an http.Server.ConnState.
func (s *connections) moved(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.byConn[c]
	if one == nil {
		return // it was one too many
	}
	if one.idle != nil {
		one.idle.Stop()
		one.idle = nil
	}
	switch state {
	case http.StateIdle:
		if !one.vouched.Load() {
			s.expire(c, one)
		}
	case http.StateClosed, http.StateHijacked:
		delete(s.byConn, c)
		if s.byAddr[one.addr]--; s.byAddr[one.addr] <= 0 {
			delete(s.byAddr, one.addr)
		}
	}
}

// expire closes an idle connection of a stranger unless it moves before. The
// server's own idle timeout is for those who have shown who they are. The
// caller holds mu.
func (s *connections) expire(c net.Conn, one *connection) {
	var timer *time.Timer
	timer = time.AfterFunc(strangerIdle, func() {
		s.mu.Lock()
		due := one.idle == timer
		s.mu.Unlock()
		if due {
			closeQuietly(c)
		}
	})
	one.idle = timer
}

// closeQuietly closes without the farewell of TLS, which could block.
func closeQuietly(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	_ = c.Close() // it is gone either way
}

// count returns how many there are.
func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byConn)
}

func addressOf(c net.Conn) netip.Addr {
	if c.RemoteAddr() == nil {
		return netip.Addr{}
	}
	return guardKey(parseAddress(c.RemoteAddr().String()))
}

// vouch notes that a valid credential came over the call's connection.
func (c *call) vouch() {
	one, ok := c.r.Context().Value(connectionKey{}).(*connection)
	if ok && !one.vouched.Load() {
		one.vouched.Store(true)
	}
}
