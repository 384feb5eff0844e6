package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/cluster"
)

// netns gives each node a network namespace. Between them nodes reach each
// other only through the wire. The API stays on each namespace's own loopback
// address, which clients enter directly: they reach every node all the time,
// and a closed port still says that nothing was sent.
type netns struct {
	prefix string         // of the namespaces' names
	subnet string         // first three bytes of the nodes' addresses
	ports  *cluster.Ports // on each node's loopback address, and on this machine's
	nodes  []string
	tuns   []*os.File
	wire   *wire
	made   *made

	mu        sync.Mutex
	listeners []net.Listener // doors for package cluster, which knows no namespaces
	closed    bool
}

// newNetns draws a number for the names; another run on this machine may have it.
func newNetns(nodes []string, m *made) (*netns, error) {
	ports, err := cluster.FreePorts(len(nodes))
	if err != nil {
		return nil, err
	}
	n, err := drawNetns(nodes, ports, m)
	if err != nil {
		ports.Release()
	}
	return n, err
}

func drawNetns(nodes []string, ports *cluster.Ports, m *made) (*netns, error) {
	const draws = 10
	err := errors.New("all in use")
	for range draws {
		id := rand.IntN(250)
		if inUse(id, nodes) {
			continue
		}
		// 198.18.0.0/15 is set aside for tests of networks (RFC 2544).
		n := &netns{prefix: prefixOf(id), subnet: fmt.Sprintf("198.18.%d", id), ports: ports, nodes: nodes, made: m}
		if err = n.lay(id); err == nil {
			return n, nil
		}
		n.close() // what was made is in the list; the ports are for the next draw
	}
	return nil, fmt.Errorf("no free number for the namespaces in %d draws, see `ip netns`: %w", draws, err)
}

func prefixOf(id int) string { return fmt.Sprintf("ecchaos%d-", id) }

// inUse tells whether any of the names is another's.
func inUse(id int, nodes []string) bool {
	return slices.ContainsFunc(nodes, func(node string) bool {
		_, err := os.Lstat("/var/run/netns/" + prefixOf(id) + node)
		return err == nil
	})
}

// lay makes a namespace for each node, and the wire between them.
func (n *netns) lay(id int) error {
	ports := make([]io.ReadWriter, len(n.nodes))
	for i := range n.nodes {
		if err := n.add(i, id); err != nil {
			return err
		}
		ports[i] = n.tuns[i]
	}
	n.wire = newWire(ports)
	return nil
}

func (n *netns) add(i, id int) error {
	ns, dev := n.prefix+n.nodes[i], fmt.Sprintf("ec%dt%d", id, i)
	if err := sh("ip", "netns", "add", ns); err != nil {
		return err
	}
	inode, err := inodeOf(ns)
	if err != nil {
		return err
	}
	if err := n.made.add(func(m *made) { m.Namespaces = append(m.Namespaces, namespace{ns, inode}) }); err != nil {
		return err
	}
	tun, err := openTUN(dev)
	if err != nil {
		return err
	}
	n.tuns = append(n.tuns, tun)
	for _, args := range [][]string{
		{"link", "set", dev, "netns", ns},
		{"-n", ns, "link", "set", "lo", "up"},
		{"-n", ns, "addr", "add", n.addr(i) + "/24", "dev", dev},
		{"-n", ns, "link", "set", dev, "up"},
	} {
		if err := sh("ip", args...); err != nil {
			return err
		}
	}
	return nil
}

func (n *netns) addr(i int) string { return fmt.Sprintf("%s.%d", n.subnet, i+1) }

// rewrite is the part of the start script that moves raft, gossip and join
// addresses from loopback to the nodes' own.
func (n *netns) rewrite() string {
	var edits strings.Builder
	for i := range n.nodes {
		for _, own := range []string{n.ports.Raft(i), n.ports.Gossip(i)} {
			_, port, _ := net.SplitHostPort(own)
			fmt.Fprintf(&edits, "s/%s/%s:%s/g;", strings.ReplaceAll(own, ".", `\\.`), n.addr(i), port)
		}
	}
	return "for a in \"$@\"; do shift; set -- \"$@\" \"$(printf %s \"$a\" | sed '" + edits.String() + "')\"; done\n"
}

// dial connects to an address inside a node's namespace.
func (n *netns) dial(ctx context.Context, node, addr string) (conn net.Conn, err error) {
	err = inNamespace(n.prefix+node, func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return err
	})
	return conn, err
}

// openDoors lets this machine's loopback ports lead into the namespaces as
// soon as the cluster has chosen them: package cluster asks there whether its
// servers are ready.
func (n *netns) openDoors(ctx context.Context, clusterDir string) {
	started := filepath.Join(clusterDir, "starting.json")
	for {
		if _, err := os.Stat(started); err == nil {
			break
		}
		if !waitUntil(ctx, time.Now().Add(50*time.Millisecond)) {
			return
		}
	}
	for i, node := range n.nodes {
		addr := n.ports.API(i)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue // then the cluster says that nobody answers
		}
		n.mu.Lock()
		n.listeners = append(n.listeners, l)
		closed := n.closed
		n.mu.Unlock()
		if closed {
			l.Close()
			return
		}
		go n.door(l, node, addr)
	}
}

func (n *netns) door(l net.Listener, node, addr string) {
	for {
		outer, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer outer.Close()
			ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
			defer cancel()
			inner, err := n.dial(ctx, node, addr)
			if err != nil {
				return
			}
			defer inner.Close()
			go func() {
				_, _ = io.Copy(inner, outer)
				inner.Close()
			}()
			_, _ = io.Copy(outer, inner)
		}()
	}
}

// dialerFor returns how a client of one node connects.
func (n *netns) dialerFor(node string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		conn, err := n.dial(ctx, node, addr)
		if op := (*net.OpError)(nil); err != nil && !errors.As(err, &op) {
			err = &net.OpError{Op: "dial", Net: "tcp", Err: err} // nothing was sent
		}
		return conn, err
	}
}

// Shape implements Network.
func (n *netns) Shape(from, to string, how Shape) error {
	i, j := slices.Index(n.nodes, from), slices.Index(n.nodes, to)
	if i < 0 || j < 0 {
		return fmt.Errorf("there is no node %s or no node %s", from, to)
	}
	n.wire.shape(i, j, how)
	return nil
}

// Toll implements Network.
func (n *netns) Toll() Toll { return n.wire.tolled() }

// Clear implements Network.
func (n *netns) Clear() error {
	n.wire.clear()
	return nil
}

// close takes down what lives in this process; the list of what was made has
// the rest.
func (n *netns) close() {
	n.mu.Lock()
	n.closed = true
	for _, l := range n.listeners {
		l.Close()
	}
	n.mu.Unlock()
	for _, t := range n.tuns {
		t.Close()
	}
}
