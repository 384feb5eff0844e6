package node

import (
	"cmp"

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

// noteFloor is the newest checkpoint among the news of the pool. One may be spelled in many ways, all of them new to gossip and final: signatures of others are passed
// over, and cosignatures may be left out. So news are what tells more than the news before. It is owned by gossip's loop.
type noteFloor struct {
	epoch, size uint64
	atS         int64
}

// rises tells whether a final checkpoint is of a longer chain, or a later word of the majority on the same one, and notes it.
func (f *noteFloor) rises(o checkpoint.Opened) bool {
	next := noteFloor{epoch: o.Origin.Epoch, size: o.Size, atS: o.MajorityAtS()}
	if cmp.Or(cmp.Compare(next.epoch, f.epoch), cmp.Compare(next.size, f.size), cmp.Compare(next.atS, f.atS)) <= 0 {
		return false
	}
	*f = next
	return true
}

// passOn tells whether news of the pool go on to others: checkpoints of the blacklist that are final by the set in force, each once.
func (n *Node) passOn(_ string, payload []byte) bool {
	var row fsm.CosignerSet
	var known bool
	n.machine.Read(func(s *fsm.State) { row, known = s.CosignerSet() })
	if !known {
		return false
	}
	o, err := row.Signed(n.id.ClusterID).OpenFinal(payload)
	return err == nil && o.Origin.Log == checkpoint.LogBlacklist && n.noted.rises(o)
}
