package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestSimTransferStaysOpen: raft's leader gives a transfer up while the disk of the
// target hangs, and the target may have been asked to stand for election. That it
// does not lead yet is no proof that it never will.
func TestSimTransferStaysOpen(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1, 3, simDir(t))
		defer w.end()
		lead := w.leader()
		to := w.servers["node3"]
		if to == lead {
			to = w.servers["node2"]
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		to.disk.freeze()
		defer to.disk.thaw()
		if err := lead.running().node.TransferLeadership(ctx, to.running().node.id.NodeID); code(err) != client.CodeUnknownOutcome {
			t.Errorf("it may still come to lead: %v", err)
		}
	})
}
