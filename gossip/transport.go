package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport carries memberlist over one TCP listener and one UDP socket, and keeps strangers away from it: a TLS hello goes
// to onStream, what cannot be gossip of this cluster is dropped before memberlist buffers, decrypts or logs anything.
type transport struct {
	sockets  *Sockets
	label    string
	onStream func(net.Conn)
	memberAt func(netip.Addr) bool
	addr     netip.AddrPort // advertised
	log      *slog.Logger
	count    *counters

	packetCh chan *memberlist.Packet
	streamCh chan net.Conn

	ctx    context.Context // ends when Shutdown begins
	cancel context.CancelFunc
	loops  sync.WaitGroup // readPackets, accept
	conns  sync.WaitGroup // one per connection being peeked or in onStream

	strangers, members *lane

	mu   sync.Mutex // guards what follows; nothing is called under it
	open map[net.Conn]struct{}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport starts reading from the sockets, which it owns from here on.
func newTransport(s *Sockets, cfg Config, count *counters) (*transport, error) {
	addr, err := advertised(s.Listener.Addr(), cfg.AdvertiseAddr)
	if err != nil {
		s.close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &transport{
		sockets: s, label: label(cfg.ClusterID), onStream: cfg.OnStream, memberAt: cfg.MemberAt, addr: addr, log: cfg.Log, count: count,
		packetCh: make(chan *memberlist.Packet), streamCh: make(chan net.Conn),
		ctx: ctx, cancel: cancel,
		strangers: newLane(), members: newLane(), open: make(map[net.Conn]struct{}),
	}
	t.loops.Go(t.readPackets)
	t.loops.Go(t.accept)
	return t, nil
}

// FinalAdvertiseAddr is part of memberlist.Transport. Config.AdvertiseAddr was already folded in.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// PacketCh is part of memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packetCh }

// StreamCh is part of memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streamCh }

// WriteTo is part of memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip: packet to %q: %w", addr, err)
	}
	_, err = t.sockets.Packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

// WriteToAddress is part of memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialTimeout is part of memberlist.Transport. The connection dies with the transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, err := t.sockets.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if !t.track(c) {
		return nil, net.ErrClosed
	}
	// memberlist writes the label before it sets a deadline of its own.
	_ = c.SetDeadline(deadlineIn(timeout))
	return newReplyConn(c, func() { t.untrack(c) }), nil
}

// DialAddressTimeout is part of memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// interrupt aborts everything in flight: dials, peeks, streams, handlers' connections. memberlist calls that are under way return soon.
func (t *transport) interrupt() {
	t.cancel()
	t.mu.Lock()
	open := make([]net.Conn, 0, len(t.open))
	for c := range t.open {
		open = append(open, c)
	}
	t.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// Shutdown is part of memberlist.Transport. When it returns no goroutine of the transport is left, except an OnStream
// call that ignores that its connection was closed for longer than shutdownGrace.
func (t *transport) Shutdown() error {
	t.interrupt()
	t.sockets.close()
	t.loops.Wait()
	done := make(chan struct{})
	go func() { t.conns.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(shutdownGrace):
		t.log.Warn("gossip: a stream handler outlives the transport")
	}
	return nil
}

// track remembers a connection so that interrupt can close it; false, and closed, if the transport has ended.
func (t *transport) track(c net.Conn) bool {
	t.mu.Lock()
	ended := t.ctx.Err() != nil
	if !ended {
		t.open[c] = struct{}{}
	}
	t.mu.Unlock()
	if ended {
		c.Close()
	}
	return !ended
}

func (t *transport) untrack(c net.Conn) {
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
}

// readPackets is the one reader of the UDP socket.
func (t *transport) readPackets() {
	buf := make([]byte, maxPacket+1)
	var second int64
	var inSecond int
	for {
		n, from, err := t.sockets.Packets.ReadFrom(buf)
		now := time.Now()
		if t.ctx.Err() != nil {
			return
		}
		if err != nil {
			// An ICMP refusal of something we sent surfaces here on some systems; it ends nothing.
			t.pause()
			continue
		}
		if s := now.Unix(); s != second {
			second, inSecond = s, 0
		}
		if inSecond++; inSecond > maxPacketsPerSecond || n > maxPacket || !packetLooksOurs(buf[:n], t.label) {
			t.count.packetsDropped.Add(1)
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: now}
		select {
		case t.packetCh <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// accept is the one acceptor of the TCP listener.
func (t *transport) accept() {
	for {
		c, err := t.sockets.Listener.Accept()
		if t.ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			t.pause() // out of descriptors, most likely
			continue
		}
		if t.track(c) {
			t.conns.Go(func() { t.sort(c) })
		}
	}
}

// pause keeps a failing socket from spinning.
func (t *transport) pause() {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-t.ctx.Done():
	}
}
