package api

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxForwarded bounds how many hops of X-Forwarded-For are looked at.
const maxForwarded = 16

// callerOf returns who asks: the peer of the socket. Only a proxy that an
// operator named may speak for others. Of X-Forwarded-For the last entry that is
// no such proxy counts: whatever stands before it are the caller's own words.
func (s *Server) callerOf(r *http.Request) netip.Addr {
	peer := parseAddress(r.RemoteAddr)
	if len(s.cfg.TrustedProxies) == 0 || !within(s.cfg.TrustedProxies, peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && len(hops)-i <= maxForwarded; i-- {
		addr, ok := parseHop(hops[i])
		if !ok {
			return peer // the proxy itself pays for what it passes on unread
		}
		if peer = addr; !within(s.cfg.TrustedProxies, peer) {
			return peer
		}
	}
	return peer
}

// parseHop reads an address as proxies write it, some with a port.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
