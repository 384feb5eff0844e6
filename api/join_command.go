package api

import (
	"fmt"
	"net"
	"strings"

	"github.com/edgecoder/edgecoder/fsm"
)

// maxSeeds bounds the addresses in a join command: a joiner needs one that
// lives, and finds the rest by gossip.
const maxSeeds = 8

// joinCommand returns the command line that a join token is for, with the
// secret in the environment, where other users of the machine do not see it.
func joinCommand(role fsm.Role, token string, members []fsm.Coordinator) string {
	var seeds []string
	for _, m := range members {
		if len(seeds) < maxSeeds && plainAddress(m.Gossip) {
			seeds = append(seeds, m.Gossip)
		}
	}
	join := strings.Join(seeds, ",")
	switch role {
	case fsm.RoleCoordinator, fsm.RoleObserver:
		return fmt.Sprintf("EDGECODER_JOIN_TOKEN=%s edgecoder server --name NAME --data-dir DIR --join %s", token, join)
	case fsm.RoleEdge:
		return fmt.Sprintf("EDGECODER_JOIN_TOKEN=%s edgecoder edge --data-dir DIR --listen 127.0.0.1:4501 --join %s", token, join)
	}
	return ""
}

// plainAddress keeps anything that a shell might understand out of a line that
// people paste: the addresses are the members' own words.
func plainAddress(addr string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]"
	_, _, err := net.SplitHostPort(addr)
	return err == nil && strings.Trim(addr, plain) == "" && !strings.HasPrefix(addr, "-")
}
