package node

import (
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// warnings are what the status tells an operator to look at: nothing stops for it.
func (n *Node) warnings() (out []client.Warning) {
	if id := n.outsiders.removedSays(); id != "" {
		out = append(out, client.Warning{Code: client.WarnRemoved, Node: id, Detail: outsiderSaysRemoved})
	}
	return append(out, n.otherTimings()...)
}

// otherTimings warns of the servers that answered lately and have another profile
// than this one: who waits for the shorter times stands for election while the
// leader, by the longer ones, is only late.
func (n *Node) otherTimings() (out []client.Warning) {
	own := n.cfg.Timing.Name
	for _, s := range n.servers() {
		id := string(s.ID)
		h, heard := n.health.get(id)
		if id == n.id.NodeID || !heard || !n.fresh(id) || h.timing == "" || own == "" || h.timing == own {
			continue
		}
		out = append(out, client.Warning{Code: client.WarnTiming, Node: id,
			Detail: fmt.Sprintf("this server runs with --timing %s and another with %s: give all coordinators the same, or they elect leaders needlessly", own, h.timing)})
	}
	return out
}

// compareTimings tells in the log who has another profile. Duty of the ping loop.
func (n *Node) compareTimings() {
	others := n.otherTimings()
	if len(others) == 0 || !n.timingTold.IsZero() && time.Since(n.timingTold) < tellEvery {
		return
	}
	n.timingTold = time.Now()
	for _, w := range others {
		n.log.Warn(w.Detail, "server", w.Node)
	}
}
