package gossip

import (
	"net"
	"sync"
)

// StreamListener is a net.Listener fed by Config.OnStream, for whoever serves TLS on the gossip port with something that wants to
// accept, such as an http.Server.
type StreamListener struct {
	addr net.Addr
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

var _ net.Listener = (*StreamListener)(nil)

// NewStreamListener makes one; addr is only reported.
func NewStreamListener(addr net.Addr) *StreamListener {
	return &StreamListener{addr: addr, ch: make(chan net.Conn), done: make(chan struct{})}
}

// Deliver is a Config.OnStream. It waits until the stream is accepted; the transport bounds how many wait.
func (l *StreamListener) Deliver(c net.Conn) {
	select {
	case l.ch <- c:
	case <-l.done:
		c.Close()
	}
}

// Accept is part of net.Listener.
func (l *StreamListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close is part of net.Listener. Streams that wait are closed, accepted ones are not.
func (l *StreamListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is part of net.Listener.
func (l *StreamListener) Addr() net.Addr { return l.addr }
