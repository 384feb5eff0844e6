package limit

import "net/netip"

// Holder is the address that counts as one holder: an IPv6 network of 64 bits is
// one, since one host has a whole one to choose from.
func Holder(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if !addr.Is6() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}

// HolderOf is the holder of a socket's address, as net.Addr spells it; what has
// none shares the zero address.
func HolderOf(address string) netip.Addr {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	return Holder(ap.Addr())
}
