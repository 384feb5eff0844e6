package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are the ports of a cluster's nodes on 127.0.0.1: node i has Base+10*i and
// the two after it, for API, raft and gossip.
type Ports struct {
	Base   int
	guards []net.Listener
}

// portStep is between the ports of two nodes; the last of a node's ten is its guard.
const portStep = 10

// Free ports are taken from below the range that kernels give to outgoing
// connections: a stopped node must find its ports free when it comes back.
const (
	firstFreePort = 20_000
	lastFreePort  = 31_999
	freePortTries = 2_000
)

// FreePorts finds ports for so many nodes that nobody listens on. Nor does another
// caller get them until Release, or the end of this process: a port is free before
// its node starts and whenever the node is down, so each node's ten are guarded by a
// listener on the last of them, which answers nobody.
func FreePorts(nodes int) (*Ports, error) {
	for range freePortTries {
		slots := (lastFreePort+1-firstFreePort)/portStep - nodes + 1
		p := &Ports{Base: firstFreePort + portStep*rand.IntN(slots)}
		if p.guard(nodes) == nil && p.check(nodes) == nil {
			return p, nil
		}
		p.Release()
	}
	return nil, fmt.Errorf("found no free ports for %d nodes from %d to %d: give --base-port", nodes, firstFreePort, lastFreePort)
}

func (p *Ports) guard(nodes int) error {
	for i := range nodes {
		l, err := net.Listen("tcp", loopback(p.Base+portStep*i+portStep-1))
		if err != nil {
			return err
		}
		p.guards = append(p.guards, l)
	}
	return nil
}

// check asks for both kinds of each port, since gossip uses TCP and UDP.
func (p *Ports) check(nodes int) error {
	for i := range nodes {
		for k := range 3 {
			port := p.Base + portStep*i + k
			if err := tryPort(port); err != nil {
				return fmt.Errorf("port %d of --base-port %d is not free: %w; choose another base", port, p.Base, err)
			}
		}
	}
	return nil
}

// Release lets others have the ports.
func (p *Ports) Release() {
	for _, l := range p.guards {
		_ = l.Close()
	}
	p.guards = nil
}

// API, Raft and Gossip are the addresses of node i.
func (p *Ports) API(i int) string    { return loopback(p.Base + portStep*i) }
func (p *Ports) Raft(i int) string   { return loopback(p.Base + portStep*i + 1) }
func (p *Ports) Gossip(i int) string { return loopback(p.Base + portStep*i + 2) }

func tryPort(port int) error {
	addr := loopback(port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return p.Close()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
