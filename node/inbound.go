package node

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// inbound sorts raft's incoming connections by the node whose certificate each
// showed. A message of raft names its sender, where a liar writes any name, and
// raft's transport does not tell on which connection it came. So each node has a
// transport of its own, for as long as it has connections.
type inbound struct {
	listener net.Listener // of connections that spoke protoRaft
	config   raft.NetworkTransportConfig
	// hear is told of a new transport and the node behind it, until over is closed.
	hear func(from string, t *raft.NetworkTransport, over <-chan struct{})

	mu    sync.Mutex
	nodes map[string]*caller // guarded by mu; a mux bounds connections, and so these
}

func newInbound(l net.Listener, config raft.NetworkTransportConfig, hear func(string, *raft.NetworkTransport, <-chan struct{})) *inbound {
	return &inbound{listener: l, config: config, hear: hear, nodes: map[string]*caller{}}
}

// serve takes connections until the listener is closed. Whoever waits for an answer
// of a raft that ended waits no more then.
func (in *inbound) serve() {
	defer in.end()
	for {
		conn, err := in.listener.Accept()
		if err != nil {
			return
		}
		p, ok := conn.(*peerConn)
		if !ok { // nobody proved who that is
			_ = conn.Close()
			continue
		}
		in.enter(p.nodeID).deliver(&callerConn{Conn: p, leave: sync.OnceFunc(func() { in.leave(p.nodeID) })})
	}
}

// enter counts a connection of a node.
func (in *inbound) enter(id string) *caller {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := in.nodes[id]
	if c == nil {
		c = &caller{id: idAddr(id), conns: make(chan net.Conn), over: make(chan struct{})}
		in.nodes[id] = c
		config := in.config
		config.Stream = c
		c.transport = raft.NewNetworkTransportWithConfig(&config)
		in.hear(id, c.transport, c.over)
	}
	c.open++
	return c
}

func (in *inbound) leave(id string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := in.nodes[id]
	if c.open--; c.open == 0 {
		delete(in.nodes, id)
		_ = c.transport.Close() // never fails; again it does nothing
	}
}

func (in *inbound) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, c := range in.nodes {
		_ = c.transport.Close()
	}
}

// caller is what raft's transport of one node listens on; it implements
// raft.StreamLayer, and dials nobody.
type caller struct {
	id        idAddr
	transport *raft.NetworkTransport
	conns     chan net.Conn
	over      chan struct{}
	open      int // connections; guarded by inbound.mu
}

func (c *caller) deliver(conn net.Conn) {
	select {
	case c.conns <- conn:
	case <-c.over:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (c *caller) Accept() (net.Conn, error) {
	select {
	case conn := <-c.conns:
		return conn, nil
	case <-c.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The transport calls it, once.
func (c *caller) Close() error {
	close(c.over)
	return nil
}

// Addr implements net.Listener.
func (c *caller) Addr() net.Addr { return c.id }

// Dial implements raft.StreamLayer.
func (c *caller) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// callerConn tells when it is closed.
type callerConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *callerConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
