//go:build planted

package node

import (
	"os"

	"github.com/edgecoder/edgecoder/fsm"
)

// The bugs of a build with the tag "planted": PLANTED_BUG names the one that
// this process has. Such a build is for TestPlanted of package chaos alone; it
// takes snapshots often, so that short runs restore some.
const plantedBuild = true

var (
	plantAckEarly    = planted("ack_early")    // admissions are answered before they are committed
	plantStaleStrong = planted("stale_strong") // a strong read is answered from whatever this replica has
	// The server must not find these itself, for it is the judges that are judged.
	plantNoTripwire = planted("restore_no_bans") || planted("old_snapshot") || planted("local_time")
	plantStaleHead  = planted("stale_head") // an event is linked to the head that was applied, not to the newest in flight
)

func planted(bug string) bool { return os.Getenv("PLANTED_BUG") == bug }

// plantedReply answers a batch of fresh claims by what this replica thinks of them.
func (n *Node) plantedReply(batch fsm.AdmitBatch) (reply admitReply, ok bool) {
	clock := n.clockMs()
	n.machine.Read(func(s *fsm.State) {
		reply.MaxSkewMs = s.Policy().MaxSkewMs
		for i := range batch.Claims {
			res := s.Check(&batch.Claims[i], clock)
			if res.Code != fsm.CodeOK || res.Repeated {
				return
			}
			res.Index = 0 // nobody knows it yet
			reply.Results = append(reply.Results, res)
		}
		ok = true
	})
	return reply, ok
}
