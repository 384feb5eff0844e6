package node

import (
	"context"
	"errors"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// An edge tells the coordinators, and nobody else, how far it enforces: a signed head in one datagram to each, which is small enough for a
// thousand edges that all move at once. It is said again a little later, since datagrams get lost, and then now and
// again for coordinators that began anew.
const (
	// reportGap is the least time between two reports: what is enforced meanwhile is in the next.
	reportGap = 20 * time.Millisecond
	// reportAgain is after how long a report is repeated, three times as long each time, up to reportEvery.
	reportAgain = 200 * time.Millisecond
	// reportEvery is how often an edge says what it said before.
	reportEvery = 10 * time.Second
)

// moved has the coordinators told how far this edge is. The syncer calls it.
func (e *Edge) moved(p edge.Position) {
	h := chainHead{Epoch: p.Head.Epoch, Size: p.Head.Size, Head: p.Head.Chain}
	key := e.id.signingKey()
	h.Signature = crypto.SignText(key, headLabel, h.parts(e.id.ClusterID, e.id.NodeID)...)
	clear(key)
	data, err := fsm.Encode(h)
	if err != nil {
		e.log.Warn("cannot tell the coordinators how far this edge is", "error", err)
		return
	}
	e.enforced.Store(&data)
	ring(e.reportNow)
}

// reportLoop sends the newest report, and repeats it.
func (e *Edge) reportLoop(ctx context.Context) {
	wait := reportAgain
	for {
		if head := e.enforced.Load(); head != nil {
			if err := e.pool.Report(*head, e.liveCoordinators()...); err != nil && !errors.Is(err, gossip.ErrClosed) {
				e.log.Debug("a report did not go out", "error", err)
			}
		}
		if !pause(ctx, reportGap) {
			return
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-e.reportNow:
			again.Stop()
			wait = reportAgain
		case <-again.C:
			wait = min(3*wait, reportEvery)
		}
	}
}

// liveCoordinators returns the ids of coordinators that gossip sees.
func (e *Edge) liveCoordinators() []string {
	out := e.pool.LiveOf(string(fsm.RoleCoordinator))
	return out[:min(len(out), fsm.MaxCoordinators)]
}
