package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// portsPerNode are API, raft and gossip.
const portsPerNode = 3

// Free ports are taken from below the range that kernels give to outgoing
// connections: a stopped node must find its ports free when it comes back.
const (
	firstFreePort = 20_000
	lastFreePort  = 31_999
	freePortTries = 2_000
)

// choosePorts returns the ports of n nodes. With a base, node i has base+10*i
// and the two after it; without, free ones are looked for.
func choosePorts(n, base int) ([][portsPerNode]int, error) {
	ports := make([][portsPerNode]int, n)
	taken := map[int]bool{}
	for i := range ports {
		for k := range ports[i] {
			port, err := choosePort(base, 10*i+k, taken)
			if err != nil {
				return nil, err
			}
			ports[i][k] = port
			taken[port] = true
		}
	}
	return ports, nil
}

func choosePort(base, offset int, taken map[int]bool) (int, error) {
	if base != 0 {
		if err := tryPort(base + offset); err != nil {
			return 0, fmt.Errorf("port %d of --base-port %d is not free: %w; choose another base", base+offset, base, err)
		}
		return base + offset, nil
	}
	for range freePortTries {
		port := firstFreePort + rand.IntN(lastFreePort-firstFreePort+1)
		if !taken[port] && tryPort(port) == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("found no free port from %d to %d: give --base-port", firstFreePort, lastFreePort)
}

// tryPort asks for both kinds, since gossip uses TCP and UDP.
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
