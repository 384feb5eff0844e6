package node

import (
	"fmt"
	"strconv"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// Members sign their recovery epoch together with their chain's head. One whose
// epoch is behind what an enrolled coordinator says belongs to a past that the
// cluster left: perhaps for a moment, because its replica lags, perhaps for
// ever, because the cluster was recovered from another copy and it was removed.
// Either way it must not answer as if its state were the cluster's. Gossip makes
// it more careful here and nothing else: it changes no state and no membership.

const reasonSuperseded = "superseded"

// newerEpoch is the highest recovery epoch that was heard of.
type newerEpoch struct {
	epoch uint64
	by    string // node id of who said so, under the key enrolled here
}

// hearEpoch takes note of the epoch in a head that was verified. An observer's
// word stops nobody.
func (n *Node) hearEpoch(from string, epoch uint64) {
	if c, known := n.recordOf(from); !known || c.Role != fsm.RoleCoordinator {
		return
	}
	for {
		have := n.newer.Load()
		if epoch <= n.epoch() || have != nil && epoch <= have.epoch {
			return
		}
		if !n.newer.CompareAndSwap(have, &newerEpoch{epoch: epoch, by: from}) {
			continue
		}
		if own := n.epoch(); own > 0 { // else this replica knows nothing yet, and will catch up
			n.note("superseded", audit.LevelHigh, "newer_epoch", map[string]string{"coordinator": from, "epoch": strconv.FormatUint(epoch, 10)})
			n.log.Warn("a coordinator is in a newer recovery epoch: not serving before this node is too", "coordinator", from, "epoch", epoch, "own", own)
		}
		return
	}
}

func (n *Node) epoch() (epoch uint64) {
	n.machine.Read(func(s *fsm.State) { epoch = s.Meta().Epoch })
	return epoch
}

// superseded is an error while a newer epoch is known than this node's own.
func (n *Node) superseded() error {
	newer := n.newer.Load()
	if newer == nil {
		return nil
	}
	own := n.epoch()
	if own >= newer.epoch {
		n.newer.CompareAndSwap(newer, nil) // it was a lag
		return nil
	}
	if own == 0 {
		return nil // there is nothing yet that it could answer from
	}
	if _, known := n.recordOf(newer.by); !known || n.isRemoved(newer.by) {
		n.newer.CompareAndSwap(newer, nil) // whoever was removed speaks for nobody
		return nil
	}
	name := newer.by
	n.machine.Read(func(s *fsm.State) {
		if c, ok := s.Coordinator(newer.by); ok {
			name = c.Name
		}
	})
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonSuperseded, RetryAfter: 5 * time.Second,
		Detail: fmt.Sprintf("coordinator %s is in recovery epoch %d, this node in %d. If that lasts, the cluster was recovered without this copy, which must not run again: "+
			"stop this server, move its data directory away and join with a new token (`edgecoder token create --role coordinator` at %s). If it is %s that is wrong, remove it: `edgecoder peers remove %s --compromised`", name, newer.epoch, own, name, name, name)}
}
