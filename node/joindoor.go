package node

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"

	"github.com/edgecoder/edgecoder/limit"
)

// maxJoinConns bounds the connections of joiners after their handshakes: each holds
// a request of up to maxJoinBytes, for as long as the server's timeouts. When it is
// full, the address that has most loses the oldest.
const maxJoinConns = 256

// joinDoor takes the TLS connections of the gossip port to the join service. Who
// comes there has no certificate, as the API's callers, so it comes through the same
// lanes: together they have no more of the processors than one of them alone.
type joinDoor struct {
	mux    *mux
	config *tls.Config
	room   *limit.Room[netip.Addr]
	to     func(net.Conn)
}

func newJoinDoor(m *mux, config *tls.Config, to func(net.Conn)) *joinDoor {
	return &joinDoor{mux: m, config: m.greeter.hearing(config), room: limit.NewRoom[netip.Addr](maxJoinConns), to: to}
}

// open is a gossip.Config.OnStream.
func (d *joinDoor) open(raw net.Conn) {
	conn, err := d.mux.greet(raw, d.config)
	if err != nil {
		return
	}
	place := d.room.Enter(limit.HolderOf(raw.RemoteAddr().String()), 1, func() { _ = raw.Close() })
	var public []byte
	if shown := conn.ConnectionState().PeerCertificates; len(shown) > 0 {
		public = shown[0].RawSubjectPublicKeyInfo
	}
	d.to(&joinConn{Conn: conn, public: public, leave: sync.OnceFunc(func() { place.Leave() })})
}

// joinConn gives its place back when it is closed.
type joinConn struct {
	net.Conn
	public []byte // PKIX of the TLS key that the joiner proved; empty if it showed none
	leave  func()
}

// Close implements net.Conn.
func (c *joinConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
