package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// UpdatePauseMs is how long a member keeps the description of itself, by the
// cluster clock: a restart changes it once, and each change is kept in history
// for ever. From LevelUpgrades on.
const UpdatePauseMs = 10_000

// maxHosts is how many hosts a record names: of its API and of its raft address.
const maxHosts = 2

// describedFault tells what is wrong with how a member describes itself. It is
// asked from LevelUpgrades on; older logs were applied without.
func (s *State) describedFault(version string, addresses ...string) (field, fault string) {
	if s.meta.v.Level < LevelUpgrades {
		return "", ""
	}
	if strings.ContainsFunc(version, unicode.IsControl) {
		return "version", fmt.Sprintf("%q: no control characters", version)
	}
	for _, a := range addresses {
		if _, ok := hostOf(a); !ok {
			return "address", fmt.Sprintf("%q: want host:port, such as node-1.example:4301 or [2001:db8::1]:4301", a)
		}
	}
	return "", ""
}

// hostOf returns the host of an address in the one form in which hosts compare:
// an IP address, or a name in lower case.
func hostOf(address string) (host string, ok bool) {
	i := strings.LastIndexByte(address, ':')
	if i < 1 || !made(address[i+1:], "-") {
		return "", false
	}
	host = address[:i]
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if host, ok = strings.CutSuffix(bare, "]"); !ok {
			return "", false
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() != bracketed {
		return ip.Unmap().WithZone("").String(), made(ip.Zone(), ".-_") || ip.Zone() == ""
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host, !bracketed && made(host, ".-_")
}

// made tells whether a text consists of ASCII letters, digits and a few others.
func made(text, others string) bool {
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(others, r) {
			return false
		}
	}
	return text != ""
}

func hostsOf(n Coordinator) []string {
	var out []string
	for _, a := range []string{n.API, n.Raft} {
		if host, ok := hostOf(a); ok && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// keepHosts notes the hosts of an observer before it says for the first time that
// it is elsewhere.
func (n *Coordinator) keepHosts() {
	if n.Role == RoleObserver && len(n.Hosts) == 0 {
		n.Hosts = hostsOf(*n)
	}
}

func (n Coordinator) hostsFault() error {
	if len(n.Hosts) > 0 && n.Role != RoleObserver || len(n.Hosts) > maxHosts {
		return fmt.Errorf("%d hosts of its join: an observer alone has them, at most %d", len(n.Hosts), maxHosts)
	}
	for _, h := range n.Hosts {
		if len(h) > MaxAddressBytes {
			return fmt.Errorf("a host of %d bytes, at most %d", len(h), MaxAddressBytes)
		}
	}
	return nil
}

// CertificateHosts returns the hosts that a member's certificate may name. A
// coordinator holds the CA key anyway. An observer does not: its certificate
// names the hosts that it joined with, whatever it says of itself later, and
// none that a coordinator has on record, or it could pass for that one before
// the API's clients. On loopback there is nobody else to pass for.
func (s *State) CertificateHosts(id string) []string {
	n, ok := s.coordinators.get(id)
	if !ok || n.Role != RoleObserver {
		return hostsOf(n)
	}
	n.keepHosts()
	return slices.DeleteFunc(slices.Clone(n.Hosts), func(host string) bool {
		ip, err := netip.ParseAddr(host)
		return host != "localhost" && (err != nil || !ip.IsLoopback()) && s.hasCoordinatorAt(host)
	})
}

func (s *State) hasCoordinatorAt(host string) bool {
	for _, n := range s.coordinators.m {
		if n.Role == RoleCoordinator && slices.Contains(hostsOf(n), host) {
			return true
		}
	}
	return false
}
