package node

import (
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// tellPool has a final checkpoint of the blacklist spread to every edge: it says that there is something to pull, and vouches for a list that did not change, without
// a question. One of more cosigners than fit (six) is fetched instead; the chain's head is news all the same.
func (n *Node) tellPool(l *keptLog, note []byte) {
	if l.name != checkpoint.LogBlacklist || len(note) > gossip.MaxNews {
		return
	}
	if err := n.pool.Broadcast(note); err != nil {
		n.log.Warn("a checkpoint could not be told to the pool", "error", err)
	}
}

// passOn tells whether news of the pool go on to others: checkpoints that are final by the set in force.
func (n *Node) passOn(_ string, payload []byte) bool {
	var row fsm.CosignerSet
	var known bool
	n.machine.Read(func(s *fsm.State) { row, known = s.CosignerSet() })
	if !known {
		return false
	}
	_, err := row.Signed(n.id.ClusterID).OpenFinal(payload)
	return err == nil
}
