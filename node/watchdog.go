package node

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// A hung disk. raft's loop writes the log itself, so a leader whose write hangs
// can neither hand over nor step down; its heartbeats come from other goroutines
// and go on, so the others would follow it for ever. All it can do is end. A
// follower that hangs harms nobody, and for a sole voter nobody can step in: they
// wait, are not ready, and go on when the write returns. The same goes for entries
// that wait for the history, and for any write beside the loop that the store has
// lost patience with (store.Watch).
//
// From the hang to a new leader: up to 1.1 s until the idle leader's next tick is
// written (Timing.Tick and dutyInterval; there is no other probe), Timing.Stall,
// one look, and an election. The last words ask for it; measured, that makes 2.1
// to 2.8 s. When nobody hears them the others notice the silence (lookout.go).
const (
	// stallLook is how often the writes in flight are looked at.
	stallLook = 100 * time.Millisecond
	// lastWords is how long each of the last steps may take: the log may be on
	// the disk that hangs, and the network is not to be trusted either.
	lastWords = 50 * time.Millisecond
	// exitStalled is the status of a server that ended over its disk: nothing
	// was refused, nothing is known.
	exitStalled = 3
)

// stall measures how long one thing was seen to last: a write in flight, the
// silence of a leader. Time in which nobody looked hardly counts: after a pause of
// the whole process, every write would seem to have hung.
type stall struct {
	every time.Duration // between two looks
	id    uint64        // of the write or silence; 0: none
	last  time.Time
	seen  time.Duration
}

func (s *stall) look(now time.Time, id uint64) time.Duration {
	if id == 0 || id != s.id {
		*s = stall{every: s.every, id: id, last: now}
		return 0
	}
	s.seen += min(now.Sub(s.last), 2*s.every)
	s.last = now
	return s.seen
}

// watchDisk looks at the writes in flight for ever, and ends the process when a
// leader's hangs. It touches neither disk nor raft's loop.
func (n *Node) watchDisk(ctx context.Context) {
	look := time.NewTicker(stallLook)
	defer look.Stop()
	s := stall{every: stallLook}
	hung := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		id, _ := n.disk.Stalled()
		n.disk.stalledFor.Store(int64(s.look(time.Now(), id)))
		hangs := n.disk.hangs(n.cfg.Timing.Stall)
		switch {
		case hangs && n.raft.State() == raft.Leader && len(voters(n.servers())) > 1:
			n.die()
			return
		case hangs && !hung:
			go n.log.Error("a write to the disk hangs: not ready until it returns", "dir", n.disk.dir) // the log may hang too
		case hung && !hangs:
			go n.log.Info("the disk writes again", "dir", n.disk.dir)
		}
		hung = hangs
	}
}

// die ends the process at once. The operating system cannot take a thread away
// from a hung disk, and until it can, sockets stay open: so they are closed
// first, or callers would wait for a dead process.
func (n *Node) die() {
	within(lastWords, func() {
		n.log.Error("a write to the disk hangs while this node leads: ending the process, so that another one can lead", "dir", n.disk.dir, "hangs", n.cfg.Timing.Stall)
	})
	within(lastWords, n.callElection)
	within(lastWords, n.cutOff)
	n.cfg.Exit(exitStalled)
}

// within runs f and waits for it, but not for long.
func within(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// callElection tells the fittest voter to stand for election now, or the
// next one if it does not hear. That is no more than a hint: whoever lacks a
// committed entry gets no votes.
func (n *Node) callElection() {
	t := n.transport
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id.NodeID), Addr: t.EncodePeer(raft.ServerID(n.id.NodeID), t.LocalAddr())}
	for _, to := range n.candidates(mostApplied) {
		if t.TimeoutNow(raft.ServerID(to.id), raft.ServerAddress(to.id), &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}) == nil {
			return
		}
	}
}

// cutOff closes every socket of this node at once, and opens no more.
func (n *Node) cutOff() {
	n.dialer.shut.Store(true)
	for _, m := range n.face.muxes {
		m.close()
		m.drop(func(peerName) bool { return true })
	}
	_ = n.transport.Close() // it only closes the listener
	n.transport.CloseStreams()
	for _, s := range n.face.servers {
		_ = s.Close()
	}
	n.rpc.CloseIdleConnections()
}
