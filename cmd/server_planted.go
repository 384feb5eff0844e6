package cmd

import (
	"net"
	"net/netip"

	"github.com/edgecoder/edgecoder/node"
)

// plantedText is what a build with planted bugs says of itself (docs/chaos.md).
const plantedText = "this build has planted bugs, for tests only"

// testNetwork is set aside for tests of networks (RFC 2544): the namespaces of
// chaos have their addresses there.
var testNetwork = netip.MustParsePrefix("198.18.0.0/15")

// warnOfPlants says that this build has planted bugs, and keeps it off any
// address that somebody could use in earnest.
func (p *program) warnOfPlants(cfg node.Config) error {
	if !plantedBuild {
		return nil
	}
	p.say("%s: %s", programName, plantedText)
	return onlyTestAddrs(cfg)
}

func onlyTestAddrs(cfg node.Config) error {
	for _, a := range [][2]string{{"--api-addr", cfg.APIAddr}, {"--raft-addr", cfg.RaftAddr}, {"--gossip-addr", cfg.GossipAddr}} {
		if flag, addr := a[0], a[1]; addr != "" && !isTestAddr(addr) { // raft without one shares the API's
			return usagef("%s %s: %s, so it listens on loopback and in %s alone", flag, addr, plantedText, testNetwork)
		}
	}
	return nil
}

func isTestAddr(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.Unmap().IsLoopback() || testNetwork.Contains(ip.Unmap()))
}
