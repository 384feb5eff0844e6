package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/limit"
)

// Bounds on open connections of one server. A connection costs some 30 KiB
// with TLS, so all of them are 256 MiB. Those over which nobody has shown a valid
// credential make room for new ones when there are too many, the oldest of the
// address that has most; the others nobody is turned out of.
const (
	maxStrangers = 6144
	maxKnown     = 2048
)

// connections keeps count of a server's connections through its hooks, and
// closes what is too many or idle for too long.
type connections struct {
	strangers *limit.Room[netip.Addr]  // by guardKey of the peer
	known     *limit.Slots[netip.Addr] // the same

	mu     sync.Mutex
	byConn map[net.Conn]*connection
}

// connection is one of them. place and idle are guarded by connections.mu.
type connection struct {
	addr    netip.Addr
	vouched atomic.Bool              // the last credential that came over it was valid
	place   *limit.Place[netip.Addr] // among strangers; nil: among the known
	idle    *time.Timer              // closes it; nil while a request is under way
}

func newConnections(strangers, known int) *connections {
	return &connections{strangers: limit.NewRoom[netip.Addr](strangers), known: limit.NewSlots[netip.Addr](known), byConn: map[net.Conn]*connection{}}
}

type connectionKey struct{}

// open is an http.Server.ConnContext.
func (s *connections) open(ctx context.Context, c net.Conn) context.Context {
	one := &connection{addr: addressOf(c)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byConn[c] = one
	one.place = s.strangers.Enter(one.addr, 1, func() { closeQuietly(c) })
	return context.WithValue(ctx, connectionKey{}, one)
}

// moved is an http.Server.ConnState.
func (s *connections) moved(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.byConn[c]
	if one == nil {
		return
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
		if one.place == nil {
			s.known.Leave(one.addr)
		} else {
			one.place.Leave()
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

// know takes a connection from among the strangers.
func (s *connections) know(one *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.place == nil || !s.known.Take(one.addr) {
		return
	}
	if one.place.Leave() {
		one.place = nil
	} else {
		s.known.Leave(one.addr) // it is being closed
	}
}

// closeQuietly closes without the farewell of TLS, which could block.
func closeQuietly(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	_ = c.Close() // it is gone either way
}

// count returns how many there are.
func (s *connections) count() int { return s.strangers.Used() + s.known.Used() }

func addressOf(c net.Conn) netip.Addr {
	if c.RemoteAddr() == nil {
		return netip.Addr{}
	}
	return limit.HolderOf(c.RemoteAddr().String())
}

func (c *call) connection() *connection {
	one, _ := c.r.Context().Value(connectionKey{}).(*connection)
	return one
}

// vouch notes that a valid credential came over the call's connection.
func (c *call) vouch() {
	if one := c.connection(); one != nil && one.vouched.CompareAndSwap(false, true) {
		c.s.conns.know(one)
	}
}

// unvouch notes that something else did: what a connection may do beyond its
// address's budget, it may do for as long as nothing of a flood comes over it.
func (c *call) unvouch() {
	if one := c.connection(); one != nil {
		one.vouched.Store(false)
	}
}

// vouched tells whether the last credential over the call's own connection was
// valid. A connection of a proxy is of many.
func (c *call) vouched() bool {
	one := c.connection()
	return one != nil && one.addr == guardKey(c.address()) && one.vouched.Load()
}
