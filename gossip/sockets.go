package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// Sockets is what the transport stands on: one TCP listener, one UDP socket with the same address, and a dialler. Simulations bring
// their own; the transport owns and closes them.
type Sockets struct {
	Listener net.Listener
	Packets  net.PacketConn
	Dial     func(ctx context.Context, addr string) (net.Conn, error)
}

// bindTries is how often port 0 is tried again: the kernel gives a port that is free for TCP, and UDP may have it.
const bindTries = 20

// udpReadBuffer is asked for so that a burst survives a busy loop; the kernel may give less.
const udpReadBuffer = 2 << 20

// Listen opens real sockets on host:port.
func Listen(addr string) (*Sockets, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind address: %w", err)
	}
	var lastErr error
	for range bindTries {
		var l net.Listener
		var u net.PacketConn
		if l, lastErr = net.Listen("tcp", addr); lastErr != nil {
			break
		}
		bound := net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		if u, lastErr = net.ListenPacket("udp", bound); lastErr == nil {
			_ = u.(*net.UDPConn).SetReadBuffer(udpReadBuffer)
			return &Sockets{Listener: l, Packets: u, Dial: dialTCP}, nil
		}
		l.Close()
		if port != "0" || !errors.Is(lastErr, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("gossip: listen on %s: %w", addr, lastErr)
}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (s *Sockets) close() {
	s.Listener.Close()
	s.Packets.Close()
}

// advertised works out the IP and port that others are told. A name is looked up once, now: memberlist carries IPs only.
func advertised(bound net.Addr, advertise string) (netip.AddrPort, error) {
	local, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip: bound to %q: %w", bound, err)
	}
	local = netip.AddrPortFrom(local.Addr().Unmap().WithZone(""), local.Port())
	if advertise == "" {
		if !local.Addr().IsUnspecified() {
			return local, nil
		}
		return netip.AddrPortFrom(reachableAddr(), local.Port()), nil
	}
	host, port, err := net.SplitHostPort(advertise)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip: advertise address: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip: advertise port %q", port)
	}
	if n == 0 {
		n = uint64(local.Port())
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	ips, err := resolve(ctx, host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip: advertise address: %w", err)
	}
	return netip.AddrPortFrom(ips[0], uint16(n)), nil
}

// reachableAddr picks an address to advertise when bound to all: a private one, else a global one, else loopback.
func reachableAddr() netip.Addr {
	best, rank := netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0
	ifaces, _ := net.InterfaceAddrs()
	for _, a := range ifaces {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); !ok || !ip.IsGlobalUnicast() {
			continue
		}
		r := 1
		if ip.IsPrivate() {
			r = 2
		}
		if ip.Is4() {
			r += 2
		}
		if r > rank {
			best, rank = ip, r
		}
	}
	return best
}

// resolve turns a host into addresses, at least one. memberlist would ask the name server over TCP for ANY and could not be interrupted.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("no address for %q", host)
	}
	return ips, nil
}

// deadlineIn is the wall-clock deadline for socket I/O. It is not Config.Now: deadlines belong to the kernel's clock.
func deadlineIn(d time.Duration) time.Time { return time.Now().Add(d) }

// noDeadline clears one.
var noDeadline time.Time
