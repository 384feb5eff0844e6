package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/gossip"
)

// streamLayer carries raft over mutually authenticated TLS. A server's raft
// address is its node id: where it listens is looked up at each dial, and the
// certificate must name that very node. So a node may move, and two nodes that
// swap addresses can never be mistaken for each other in a quorum.
type streamLayer struct {
	net.Listener // none comes here: see inbound
	self         string
	dialer       *peerDialer
}

func newStreamLayer(self string, dialer *peerDialer) *streamLayer {
	return &streamLayer{Listener: gossip.NewStreamListener(idAddr(self)), self: self, dialer: dialer}
}

func (l *streamLayer) Addr() net.Addr { return idAddr(l.self) }

// Dial implements raft.StreamLayer.
func (l *streamLayer) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.dialer.dial(ctx, protoRaft, string(id))
}

// idAddr is a node id in the place of a network address.
type idAddr string

func (a idAddr) Network() string { return "edgecoder" }
func (a idAddr) String() string  { return string(a) }

// peerDialer reaches other coordinators by node id.
type peerDialer struct {
	book  *addressBook
	creds *credentials
	net   network
	shut  atomic.Bool // no more dials: the node is ending
	// unwelcome tells of a peer that it is not whom its certificate names any more; nil: nobody asks.
	unwelcome func(peerName) bool

	mu   sync.Mutex
	open map[*dialedConn]struct{} // guarded by mu; as many as raft and rpc hold
}

// dialedConn is a connection that this node opened, as long as it is open.
type dialedConn struct {
	net.Conn
	peer   peerName          // as its certificate says
	own    *x509.Certificate // that this node showed, or one before it
	calls  bool              // for rpc; else for raft, or the door
	dialer *peerDialer
}

// Close implements net.Conn.
func (c *dialedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.open, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

// keep notes an open connection. Who is at the other end was asked when the certificate
// came, and the handshake may have taken its time since: it is asked again once the
// connection is among those that a revocation closes.
func (d *peerDialer) keep(conn *tls.Conn, own *tls.Certificate) (net.Conn, error) {
	state := conn.ConnectionState()
	peer, err := nameOf(state.PeerCertificates[0])
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &dialedConn{Conn: conn, peer: peer, own: own.Leaf, calls: state.NegotiatedProtocol == protoRPC, dialer: d}
	d.note(c)
	switch {
	case d.shut.Load():
		err = errors.New("this node is ending")
	case d.unwelcome != nil && d.unwelcome(peer):
		err = fmt.Errorf("the key of node %s ended, or its membership, while the connection was opened", peer.id)
	default:
		return c, nil
	}
	_ = c.Close()
	return nil, err
}

func (d *peerDialer) note(c *dialedConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = map[*dialedConn]struct{}{}
	}
	d.open[c] = struct{}{}
}

// anyCalls tells whether a connection for calls is as the predicate says.
func (d *peerDialer) anyCalls(is func(peer peerName, own *x509.Certificate) bool) bool {
	d.mu.Lock()
	open := slices.Collect(maps.Keys(d.open))
	d.mu.Unlock()
	return slices.ContainsFunc(open, func(c *dialedConn) bool { return c.calls && is(c.peer, c.own) })
}

// drop closes the connections to nodes that are not whom their certificates name any
// more, as mux.drop does those from them.
func (d *peerDialer) drop(unwelcome func(peerName) bool) {
	d.mu.Lock()
	open := slices.Collect(maps.Keys(d.open))
	d.mu.Unlock()
	for _, c := range open {
		if unwelcome(c.peer) {
			_ = c.Close()
		}
	}
}

// dialError marks a failure before anything was sent: certainly not done.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (d *peerDialer) dial(ctx context.Context, proto, nodeID string) (net.Conn, error) {
	if d.shut.Load() {
		return nil, &dialError{errors.New("this node is ending")}
	}
	addresses := d.book.raftAddresses(nodeID)
	if len(addresses) == 0 {
		return nil, &dialError{fmt.Errorf("no address of node %s is known yet", nodeID)}
	}
	var failed error
	for i, addr := range addresses {
		// A share of the time each: an old address may swallow packets.
		share := ctx
		if end, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			share, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(len(addresses)-i))
			defer cancel()
		}
		conn, err := d.dialAt(share, proto, nodeID, addr)
		if err == nil {
			return conn, nil
		}
		failed = fmt.Errorf("node %s at %s: %w", nodeID, addr, err)
	}
	return nil, &dialError{failed}
}

func (d *peerDialer) dialAt(ctx context.Context, proto, nodeID, addr string) (net.Conn, error) {
	own := d.creds.cert.Load() // before the handshake: one that is newer is left no later than need be
	conn, err := d.secure(ctx, addr, d.creds.dial(proto, nodeID))
	if err != nil {
		return nil, err
	}
	return d.keep(conn, own)
}

// secure connects to an address and does the handshake.
func (d *peerDialer) secure(ctx context.Context, addr string, config *tls.Config) (*tls.Conn, error) {
	conn, err := d.net.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}
