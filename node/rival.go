package node

import (
	"slices"
	"strings"
	"sync"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// Two copies of one cluster may be recovered apart from each other, where neither
// side could see the other. Each removed the other, both count to the same epoch,
// and both admit: what one admitted the other may admit again. Nobody can merge
// them, and neither may be stopped by the other's word, which is that of a node
// that was removed. But it must not stay unseen: cards name the recovery that a
// member's state came through.

// rivals are members removed here that serve another recovery, by node id. The
// collection is bounded by the coordinators that ever signed.
type rivals struct {
	mu    sync.Mutex
	heard map[string]client.Rival
}

// maxRivals bounds what is kept of them: one would be enough to act.
const maxRivals = 16

// hearRival takes note of a card whose node is no member here, if it is signed by
// the key that the node had as a member and speaks of a recovery that this
// state does not know.
func (n *Node) hearRival(c gossip.Card) {
	if c.Recovery == "" {
		return
	}
	var own string
	var fork bool
	n.machine.Read(func(s *fsm.State) {
		meta := s.Meta()
		key, signed := s.SigningKey(c.Key.CoordinatorID())
		own = meta.Recovery()
		fork = meta.Recovered > 0 && signed && key.NodeID == c.NodeID && s.IsRemoved(c.NodeID) && !slices.Contains(meta.Recoveries, c.Recovery)
	})
	if !fork {
		return
	}
	r := &n.rivals
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, known := r.heard[c.NodeID]; known && have.Recovery == c.Recovery || !known && len(r.heard) >= maxRivals {
		return
	}
	if r.heard == nil {
		r.heard = map[string]client.Rival{}
	}
	r.heard[c.NodeID] = client.Rival{ID: c.NodeID, Name: c.Name, API: apiURL(c.API), Recovery: c.Recovery, SeenMs: n.wallMs()}
	n.log.Error("CRITICAL: this cluster was recovered twice, apart: another copy serves under another recovery. Stop one of the two for good (`edgecoder recover --retire` on its data directory)",
		"other", c.Name, "other_node", c.NodeID, "other_api", c.API, "other_recovery", c.Recovery, "own_recovery", own)
	n.note("recovered_apart", audit.LevelCritical, "rival", map[string]string{"subject": c.NodeID, "name": c.Name, "other_recovery": c.Recovery, "own_recovery": own})
}

// list returns them in the order of names.
func (r *rivals) list() []client.Rival {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []client.Rival
	for _, v := range r.heard {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b client.Rival) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return out
}
