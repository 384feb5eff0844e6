package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// mux accepts TLS connections on one listener and hands each to the service
// that its ALPN protocol names.
type mux struct {
	inner  net.Listener
	config *tls.Config
	// welcome is asked again of each coordinator's connection.
	welcome func(peerName) error
	routes  map[string]*muxListener // fixed before serve
	log     *slog.Logger
	greeter *greeter
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	peers map[*peerConn]struct{} // open connections of coordinators; guarded by mu
}

func newMux(inner net.Listener, config *tls.Config, exempt []netip.Prefix, welcome func(peerName) error, log *slog.Logger) *mux {
	m := &mux{inner: inner, welcome: welcome, routes: map[string]*muxListener{}, peers: map[*peerConn]struct{}{}, log: log,
		greeter: newGreeter(exempt), closed: make(chan struct{})}
	m.config = m.greeter.hearing(config)
	return m
}

// listen returns a listener of the connections that speak one of the
// protocols; "" stands for a client without ALPN.
func (m *mux) listen(protocols ...string) net.Listener {
	l := &muxListener{mux: m, conns: make(chan net.Conn), closed: make(chan struct{})}
	for _, p := range protocols {
		m.routes[p] = l
	}
	return l
}

// serve accepts until the listener is closed.
func (m *mux) serve() {
	defer m.close()
	for {
		conn, err := m.inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of file descriptors, most likely: breathe, then go on
			case <-m.closed:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		go m.handshake(conn)
	}
}

// greet does a handshake, and tells of it when it failed.
func (m *mux) greet(raw net.Conn, config *tls.Config) (*tls.Conn, error) {
	conn, err := m.greeter.greet(raw, config)
	if err == nil {
		return conn, nil
	}
	m.log.Debug("TLS handshake failed", "remote", raw.RemoteAddr(), "error", err)
	if room, rate := m.greeter.refused(); room+rate > 0 && (errors.Is(err, errTooOften) || errors.Is(err, context.Canceled)) && m.greeter.mayWarn(time.Now()) {
		m.log.Warn("too many connections that do not finish their TLS handshake, or too many of one address: see edgecoder_handshakes_refused_total",
			"listener", raw.LocalAddr(), "made_room", room, "too_often", rate, "latest", raw.RemoteAddr())
	}
	return nil, err
}

func (m *mux) handshake(raw net.Conn) {
	conn, err := m.greet(raw, m.config)
	if err != nil {
		return
	}
	state := conn.ConnectionState()
	l := m.routes[state.NegotiatedProtocol]
	switch {
	case l == nil:
		_ = conn.Close()
	case len(state.PeerCertificates) > 0:
		m.admit(l, conn, state)
	default:
		l.hand(conn)
	}
}

const (
	// maxPeerConns bounds the open connections of one node: its calls use
	// maxRPCConns, raft a few more, and those of a machine that crashed stay until
	// they are noticed to be dead.
	maxPeerConns = 4 * maxRPCConns
	// maxFarewells and maxFarewellsOfOne bound the connections of removed nodes,
	// which hear one word within farewellTime. One node's ping may meet a call or two.
	maxFarewells      = 32
	maxFarewellsOfOne = 4
	farewellTime      = 2 * time.Second
)

// admit hands over a coordinator's connection. It is registered before it is
// asked once more whether the node is welcome, so that a removal in between is
// seen here or by drop.
func (m *mux) admit(l *muxListener, conn net.Conn, state tls.ConnectionState) {
	peer, err := nameOf(state.PeerCertificates[0])
	p := &peerConn{Conn: conn, nodeID: peer.id, peer: peer, mux: m}
	if err != nil || !m.register(p) {
		_ = conn.Close()
		return
	}
	err = m.welcome(peer)
	if orFarewell(err, state.NegotiatedProtocol) != nil || err != nil && !m.farewell(p) {
		_ = p.Close()
		return
	}
	l.hand(p)
}

// register notes an open connection, unless its node has too many.
func (m *mux) register(p *peerConn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := 0
	for other := range m.peers {
		if other.nodeID == p.nodeID {
			of++
		}
	}
	if of >= maxPeerConns {
		if m.greeter.mayWarn(time.Now()) {
			m.log.Warn("a node has too many connections, no more are taken until it closes some", "node", p.nodeID, "open", of)
		}
		return false
	}
	m.peers[p] = struct{}{}
	return true
}

// farewell lets a removed node keep a connection for long enough to hear that it
// was removed, unless it or all of them have too many.
func (m *mux) farewell(p *peerConn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, of := 0, 0
	for other := range m.peers {
		if other.leaving {
			all++
			if other.nodeID == p.nodeID {
				of++
			}
		}
	}
	if all >= maxFarewells || of >= maxFarewellsOfOne {
		return false
	}
	p.leaving = true
	time.AfterFunc(farewellTime, func() { _ = p.Close() }) // whatever it sends meanwhile
	return true
}

// peerConn is a connection of a coordinator. It hides that it is TLS from
// net/http, which would close a connection whose ALPN protocol it does not know.
type peerConn struct {
	net.Conn
	nodeID  string
	peer    peerName // as its certificate says
	mux     *mux
	leaving bool // its node was removed; guarded by mux.mu
}

func (p *peerConn) Close() error {
	p.mux.mu.Lock()
	delete(p.mux.peers, p)
	p.mux.mu.Unlock()
	return p.Conn.Close()
}

// drop closes the connections of coordinators that may not talk to us any
// more: a handshake from before the removal, or with a key that is over, must not
// outlive it.
func (m *mux) drop(unwelcome func(peerName) bool) {
	var gone []*peerConn
	m.mu.Lock()
	for p := range m.peers {
		if unwelcome(p.peer) {
			gone = append(gone, p)
		}
	}
	m.mu.Unlock()
	for _, p := range gone {
		_ = p.Close()
	}
}

type peerKey struct{}

// withPeer is an http.Server.ConnContext that notes who calls.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if p, ok := c.(*peerConn); ok {
		return context.WithValue(ctx, peerKey{}, p.peer)
	}
	return ctx
}

// peerOf returns the caller, as its certificate says; zero without one.
func peerOf(ctx context.Context) peerName {
	peer, _ := ctx.Value(peerKey{}).(peerName)
	return peer
}

func (m *mux) close() {
	m.once.Do(func() {
		close(m.closed)
		_ = m.inner.Close()
	})
}

// muxListener is one service's share of a mux.
type muxListener struct {
	mux    *mux
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *muxListener) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close()
	case <-l.mux.closed:
		_ = c.Close()
	}
}

func (l *muxListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
	case <-l.mux.closed:
	}
	return nil, net.ErrClosed
}

func (l *muxListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *muxListener) Addr() net.Addr { return l.mux.inner.Addr() }
