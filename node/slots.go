package node

import (
	"net"
	"net/netip"
	"sync"
)

// addressSlots bounds what is under way in all and from each address. An IPv6
// network of 64 bits counts as one address: it belongs to one customer.
type addressSlots struct {
	total, each int

	mu   sync.Mutex
	used int
	of   map[netip.Addr]int // has only addresses with something under way
}

func newAddressSlots(total, each int) *addressSlots {
	return &addressSlots{total: total, each: each, of: map[netip.Addr]int{}}
}

func (s *addressSlots) take(a net.Addr) bool {
	key := slotKey(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used >= s.total || (s.of[key] >= s.each && !key.IsLoopback()) {
		return false
	}
	s.used++
	s.of[key]++
	return true
}

func (s *addressSlots) release(a net.Addr) {
	key := slotKey(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if s.of[key]--; s.of[key] <= 0 {
		delete(s.of, key)
	}
}

func slotKey(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	ip := p.Addr().Unmap()
	if ip.Is6() {
		if network, err := ip.WithZone("").Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return ip
}
