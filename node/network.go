package node

import (
	"context"
	"net"

	"github.com/edgecoder/edgecoder/gossip"
)

// network is what a node listens on and reaches others by. Simulations put one
// in memory in the machine's place.
type network interface {
	listen(addr string) (net.Listener, error)
	dial(ctx context.Context, addr string) (net.Conn, error)
	// gossip returns the sockets of the gossip address; nil: package gossip opens the machine's.
	gossip(addr string) (*gossip.Sockets, error)
}

// machineNetwork is that of the operating system.
type machineNetwork struct{}

func (machineNetwork) listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

func (machineNetwork) dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

func (machineNetwork) gossip(string) (*gossip.Sockets, error) { return nil, nil }

// net returns the network of this node.
func (c Config) net() network {
	if c.network == nil {
		return machineNetwork{}
	}
	return c.network
}
