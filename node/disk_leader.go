package node

import (
	"context"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// A slow disk. Each entry waits for the leader's disk and for the quickest
// majority of the others, so only a slow leader slows the cluster.
const (
	// paceWindow is how far back writes count, and slowWrites how many of them
	// it takes: an idle leader writes about once a second.
	paceWindow = 10 * time.Second
	slowWrites = 5
	// slowWrite is far above what a sound disk needs (1 to 30 ms), and far
	// below Timing.Stall.
	slowWrite = 500 * time.Millisecond
	// slowPause is between two moves of leadership for slowness: each costs a
	// moment without a leader.
	slowPause = 30 * time.Second
)

// judgeDisk looks after the leader's disk, and those of the voters as their pings
// told: a leader whose disk is full, or slow, hands over to one that has a better.
func (n *Node) judgeDisk(ctx context.Context, l *leadership) {
	ids := voters(n.servers())
	low := n.disk.space.Room().Low
	full := 0
	for _, id := range ids {
		if h, ok := n.health.get(id); id == n.id.NodeID && low || id != n.id.NodeID && ok && h.full && time.Since(h.at) < pingFresh {
			full++
		}
	}
	l.full.Store(full > (len(ids)-1)/2) // those with room are no majority
	if low {
		if to := n.fitter(hasRoom); to != "" {
			n.log.Warn("disk full: handing leadership to a voter with room", "to", to)
			n.handOver(ctx, to)
		}
		return
	}
	n.judgePace(ctx)
}

// judgePace hands over when the log writes here are slow and those of another
// voter take half as long at most; where all disks are slow nothing is gained.
func (n *Node) judgePace(ctx context.Context) {
	own, count := n.disk.Pace(paceWindow)
	if count < slowWrites || own < slowWrite {
		return // the usual case, cheaply
	}
	since := time.Since(n.started)
	if last := n.disk.lastHandover.Load(); last != 0 && since-time.Duration(last) < slowPause {
		return
	}
	fit := n.fitness()
	to := foremost(n.successors(quickest), func(s successor) bool { return s.fit >= fit && !s.rest && muchFaster(s.write, own) })
	if to == "" {
		return
	}
	n.disk.lastHandover.Store(int64(since))
	n.log.Warn("slow disk: handing leadership to a voter that writes faster", "to", to, "write", own)
	n.handOver(ctx, to)
}

// muchFaster tells whether moving from a disk that takes own for a write to one
// that takes other is worth it. 0 says nothing.
func muchFaster(other, own time.Duration) bool { return other != 0 && 2*other <= own }

// diskHealth is what pings tell of the disk.
func (n *Node) diskHealth() (writeUs int64, full, stuck bool) {
	pace, count := n.disk.Pace(paceWindow)
	if count > 0 {
		writeUs = max(pace.Microseconds(), 1)
	}
	return writeUs, n.disk.space.Room().Low, n.disk.starved.Load() || n.disk.hangs(n.cfg.Timing.Stall)
}

// readyDisk returns why a node whose disk hangs is not ready, else nil: what it
// knows is growing old, and it cannot say yes to anything.
func (n *Node) readyDisk() *client.Error {
	if !n.disk.hangs(n.cfg.Timing.Stall) {
		return nil
	}
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonDisk, RetryAfter: time.Second,
		Detail: "a write to the data directory of node " + n.cfg.Name + " hangs: look at its disk"}
}
