//go:build !planted

package node

import "github.com/edgecoder/edgecoder/fsm"

// Bugs that are planted to test the judges of package chaos (docs/chaos.md).
// Only a build with the tag "planted" can have them; here each is a constant
// and the compiler leaves its branch out.
const (
	plantedBuild     = false
	plantAckEarly    = false
	plantStaleStrong = false
	plantStaleHead   = false
	plantNoTripwire  = false
)

func (n *Node) plantedReply(fsm.AdmitBatch) (admitReply, bool) { return admitReply{}, false }
