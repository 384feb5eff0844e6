// Package gossiptest is a network in memory for simulations: TCP-like streams and UDP-like packets between named addresses, with delay,
// loss and partitions. It takes all its time from package time, so inside testing/synctest hours pass in milliseconds.
//
// Hand a host to gossip like this:
//
//	h := network.Host("10.0.0.1:7946")
//	cfg.Sockets = &gossip.Sockets{Listener: h.Listener(), Packets: h.PacketConn(), Dial: h.Dial}
//
// Nothing in production imports it.
package gossiptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	backlog = 128  // streams not yet accepted, per host; more are refused
	packets = 1024 // packets not yet read, per host; more are lost
	// resetAfter is how long a stream that wrote into a partition lives on: about as long as a kernel keeps trying.
	resetAfter = 15 * time.Second
)

// Network connects hosts. The zero value is not usable; call New.
type Network struct {
	mu    sync.Mutex // guards what follows; the hooks are called under it and must not call back
	rand  *rand.Rand
	hosts map[string]*Host
	side  map[string]int // partition: hosts on different sides do not hear each other
	cut   func(from, to string) bool
	delay func(from, to string) time.Duration
	loss  float64
	fate  func(from, to string) []time.Duration
	lost  uint64
	sent  atomic.Uint64 // bytes, of packets and streams

	streams map[*conn]struct{} // ends that were not closed yet
}

// New makes an empty network that is fast, lossless and whole. The seed decides which packets are lost.
func New(seed uint64) *Network {
	return &Network{rand: rand.New(rand.NewPCG(seed, 0)), hosts: map[string]*Host{}, side: map[string]int{}, streams: map[*conn]struct{}{}}
}

// SetLoss makes this fraction of packets vanish. Streams lose nothing.
func (n *Network) SetLoss(p float64) { n.set(func() { n.loss = p }) }

// SetDelay sets the one-way delay of packets and of what streams carry; nil is none.
func (n *Network) SetDelay(f func(from, to string) time.Duration) { n.set(func() { n.delay = f }) }

// SetFate says of each packet how late each of its copies arrives, beside the delay of SetDelay: no copy is a loss, two a duplicate. nil
// is one copy at once. Streams know nothing of it.
func (n *Network) SetFate(f func(from, to string) []time.Duration) { n.set(func() { n.fate = f }) }

// SetCut hooks in one-way faults: while it returns true nothing gets from one address to the other. nil is none.
func (n *Network) SetCut(f func(from, to string) bool) { n.set(func() { n.cut = f }) }

// Partition puts each group of addresses on a side of its own; hosts not named share one more.
func (n *Network) Partition(groups ...[]string) {
	n.set(func() {
		n.side = map[string]int{}
		for i, g := range groups {
			for _, a := range g {
				n.side[a] = i + 1
			}
		}
	})
}

// Heal ends every partition, but not what SetCut, SetLoss and SetDelay set.
func (n *Network) Heal() { n.Partition() }

// Lost says how many packets did not arrive, for whatever reason.
func (n *Network) Lost() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// Sent says how many bytes hosts gave to the network, lost ones included; headers of transports are not in it.
func (n *Network) Sent() uint64 { return n.sent.Load() }

func (n *Network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// open says whether anything gets from one address to another now, and how late.
func (n *Network) open(from, to string) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.openLocked(from, to)
}

func (n *Network) openLocked(from, to string) (time.Duration, bool) {
	if n.side[from] != n.side[to] || (n.cut != nil && n.cut(from, to)) {
		return 0, false
	}
	if n.delay == nil {
		return 0, true
	}
	return n.delay(from, to), true
}

// Host is one address with a listener and a packet socket. Closing both, in any order, frees the address.
type Host struct {
	net  *Network
	addr netip.AddrPort

	accept chan *conn
	inbox  chan packet

	listenerDone, packetDone chan struct{}
	listenerOnce, packetOnce sync.Once
	crashed                  bool          // guarded by Network.mu
	paused                   chan struct{} // nil: it is not; guarded by Network.mu
	heldBack                 []*half       // what it sends, while it is paused; guarded by Network.mu
	readDeadline             deadline
}

type packet struct {
	b    []byte
	from net.Addr
}

// Host makes a host at "ip:port" and panics if the address is taken or malformed, as befits a test helper.
func (n *Network) Host(addr string) *Host {
	h := &Host{
		net: n, addr: netip.MustParseAddrPort(addr),
		accept: make(chan *conn, backlog), inbox: make(chan packet, packets),
		listenerDone: make(chan struct{}), packetDone: make(chan struct{}),
	}
	h.readDeadline.init()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		panic("gossiptest: address taken: " + addr)
	}
	n.hosts[addr] = h
	return h
}

// Addr is the host's "ip:port".
func (h *Host) Addr() string { return h.addr.String() }

// Listener is the host's TCP side.
func (h *Host) Listener() net.Listener { return (*listener)(h) }

// PacketConn is the host's UDP side.
func (h *Host) PacketConn() net.PacketConn { return (*packetConn)(h) }

// Kill takes the host off the network at once. Streams already open stay: partition the host first if they must fall silent.
func (h *Host) Kill() {
	h.Listener().Close()
	h.PacketConn().Close()
}

// Crash takes the host off the network at once and for good, as the end of a process does: its streams are reset at both ends, and it
// reaches nobody any more, while its address is free for the next.
func (h *Host) Crash() {
	var open []*conn
	h.net.set(func() {
		h.crashed = true
		if h.paused != nil { // the end of a process is seen at once
			close(h.paused)
			h.paused, h.heldBack = nil, nil
		}
		for c := range h.net.streams {
			if c.host == h {
				open = append(open, c)
			}
		}
	})
	for _, c := range open {
		c.reset()
	}
	h.Kill()
}

func (h *Host) gone() {
	select {
	case <-h.listenerDone:
	default:
		return
	}
	select {
	case <-h.packetDone:
	default:
		return
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.hosts[h.Addr()] == h {
		delete(h.net.hosts, h.Addr())
	}
}

// Dial opens a stream to another host: refused where nobody listens, a timeout across a partition.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	fail := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: strAddr(addr), Err: err}
	}
	h.goesOn(ctx.Done())
	wait, open := h.net.open(h.Addr(), addr)
	if !open {
		<-ctx.Done()
		return nil, fail(ctxErr(ctx))
	}
	if wait > 0 {
		select {
		case <-time.After(2 * wait):
		case <-ctx.Done():
			return nil, fail(ctxErr(ctx))
		}
	}
	if ctx.Err() != nil {
		return nil, fail(ctxErr(ctx))
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock() // or the listener could close between the look and the knock
	peer := h.net.hosts[addr]
	if peer == nil {
		return nil, fail(syscall.ECONNREFUSED)
	}
	if h.crashed {
		return nil, fail(net.ErrClosed)
	}
	near, far := pipe(h, peer)
	select {
	case <-peer.listenerDone:
	default:
		select {
		case peer.accept <- far:
			h.net.streams[near], h.net.streams[far] = struct{}{}, struct{}{}
			if peer.paused != nil {
				peer.hold(far)
			}
			return near, nil
		default:
		}
	}
	return nil, fail(syscall.ECONNREFUSED)
}

func ctxErr(ctx context.Context) error {
	if ctx.Err() == context.DeadlineExceeded {
		return os.ErrDeadlineExceeded
	}
	return ctx.Err()
}

type strAddr string

func (strAddr) Network() string  { return "tcp" }
func (a strAddr) String() string { return string(a) }

type listener Host

func (l *listener) Accept() (net.Conn, error) {
	(*Host)(l).goesOn(l.listenerDone)
	select {
	case c := <-l.accept:
		(*Host)(l).goesOn(l.listenerDone)
		return c, nil
	case <-l.listenerDone:
		return nil, fmt.Errorf("accept %s: %w", l.addr, net.ErrClosed)
	}
}

func (l *listener) Close() error {
	l.listenerOnce.Do(func() {
		l.net.set(func() { close(l.listenerDone) }) // from here on nobody knocks
		for len(l.accept) > 0 {
			select {
			case c := <-l.accept:
				c.Close()
			default:
			}
		}
		(*Host)(l).gone()
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

type packetConn Host

func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	(*Host)(p).goesOn(p.packetDone)
	select {
	case <-p.packetDone:
		return 0, nil, net.ErrClosed
	default:
	}
	select {
	case in := <-p.inbox:
		(*Host)(p).goesOn(p.packetDone)
		return copy(b, in.b), in.from, nil
	case <-p.packetDone:
		return 0, nil, net.ErrClosed
	case <-p.readDeadline.passed():
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-p.packetDone:
		return 0, net.ErrClosed
	default:
	}
	h := (*Host)(p)
	if h.waits() != nil {
		return len(b), nil
	}
	in := packet{b: append([]byte(nil), b...), from: net.UDPAddrFromAddrPort(h.addr)}
	h.net.sent.Add(uint64(len(b)))
	h.net.send(h.Addr(), to.String(), in)
	return len(b), nil
}

// send delivers a packet now or later, or not.
func (n *Network) send(from, to string, in packet) {
	n.mu.Lock()
	wait, open := n.openLocked(from, to)
	if open && n.loss > 0 && n.rand.Float64() < n.loss {
		open = false
	}
	copies := []time.Duration{0}
	if open && n.fate != nil {
		copies = n.fate(from, to)
	}
	if !open || len(copies) == 0 {
		n.lost++
		copies = nil
	}
	n.mu.Unlock()
	for _, late := range copies {
		if late += wait; late > 0 {
			time.AfterFunc(late, func() { n.arrive(to, in) })
			continue
		}
		n.arrive(to, in)
	}
}

func (n *Network) arrive(to string, in packet) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hosts[to]; h != nil {
		select {
		case h.inbox <- in:
			return
		default:
		}
	}
	n.lost++
}

func (p *packetConn) Close() error {
	p.packetOnce.Do(func() { close(p.packetDone); (*Host)(p).gone() })
	return nil
}

func (p *packetConn) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(p.addr) }
func (p *packetConn) SetDeadline(t time.Time) error      { p.readDeadline.set(t); return nil }
func (p *packetConn) SetReadDeadline(t time.Time) error  { p.readDeadline.set(t); return nil }
func (p *packetConn) SetWriteDeadline(_ time.Time) error { return nil }
