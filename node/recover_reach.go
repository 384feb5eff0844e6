package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// reachTime bounds the look for one coordinator's server.
const reachTime = 2 * time.Second

// ReachablePeer is a coordinator that is no copy here and whose server seems to
// be up: then the majority may not be lost.
type ReachablePeer struct {
	NodeID  string `json:"node_id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	Answer  string `json:"answer"` // what is there
}

// reachable asks at the addresses on record for each coordinator whose
// directory is not here. Whoever answers cannot be trusted with anything, nor
// need be: all it can do is stop a recovery.
func reachable(ctx context.Context, all []*candidate) []ReachablePeer {
	var mu sync.Mutex
	var out []ReachablePeer
	var wait sync.WaitGroup
	for _, peer := range others(all) {
		wait.Go(func() {
			for _, addr := range slices.Compact([]string{peer.API, peer.Raft}) {
				if answer := probe(ctx, addr, all[0].ClusterID, peer.ID); answer != "" {
					mu.Lock()
					defer mu.Unlock()
					out = append(out, ReachablePeer{NodeID: peer.ID, Name: peer.Name, Address: addr, Answer: answer})
					return
				}
			}
		})
	}
	wait.Wait()
	slices.SortFunc(out, func(a, b ReachablePeer) int { return strings.Compare(a.Name+a.NodeID, b.Name+b.NodeID) })
	return out
}

// others are the coordinators on record in any copy, but for the copies
// themselves and those that the newest state knows to be removed.
func others(all []*candidate) []fsm.Coordinator {
	here, out := map[string]bool{}, map[string]fsm.Coordinator{}
	newest := bestOf(all)
	for _, c := range all {
		here[c.NodeID] = true
	}
	for _, c := range all {
		if c.state == nil {
			continue
		}
		for _, peer := range c.state.Coordinators() {
			if !here[peer.ID] && peer.Role == fsm.RoleCoordinator && (newest == nil || !newest.state.IsRemoved(peer.ID)) {
				out[peer.ID] = peer
			}
		}
	}
	var list []fsm.Coordinator
	for _, peer := range out {
		list = append(list, peer)
	}
	return list
}

// probe tells what answers at an address where a node was, "" when nobody of
// that cluster does. A server that takes the connection and says nothing may be
// paused, and come back.
func probe(ctx context.Context, addr, cluster, nodeID string) string {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer conn.Close()
	var found peerName
	secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // only asks who is there
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			if len(s.PeerCertificates) > 0 {
				found, err = nameOf(s.PeerCertificates[0])
			}
			return err
		}})
	err = secure.HandshakeContext(ctx)
	switch {
	case found.cluster == cluster && found.id == nodeID:
		return "its server answers"
	case found.cluster == cluster:
		return "the server of node " + found.id + " answers there"
	case errors.Is(err, context.DeadlineExceeded):
		return "something takes connections and does not answer"
	}
	return ""
}
