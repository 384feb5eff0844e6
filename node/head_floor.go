package node

import "github.com/edgecoder/edgecoder/gossip"

// headFloor is how far each member's heads have come. Gossip delivers in any order, and push/pull brings what somebody else still holds: an older head must not
// take the place of a newer one. It is owned by gossip's loop.
type headFloor map[string]chainHead

// rises tells whether a member's head is no older than those before, and notes it.
func (f headFloor) rises(from string, h chainHead) bool {
	if at, known := f[from]; known && (h.Epoch < at.Epoch || h.Epoch == at.Epoch && h.Size < at.Size) {
		return false
	}
	if len(f) >= gossip.MaxMembers {
		clear(f) // of members that are long gone, most of it
	}
	f[from] = h
	return true
}
