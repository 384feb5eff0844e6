package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// When to look for another leader. raft's follower looks at a timer drawn from
// one to two times the heartbeat timeout, and draws again when it finds the
// silence too short by a moment: it notices a dead leader after one to three times
// the timeout. With pre-vote a majority has to notice, so the later of two such
// draws counts, two timeouts in the median. And a process that did not get to run
// takes its own absence for the leader's.
//
// So this node watches the silence itself (Timing.Silence), and by a shorter
// heartbeat timeout has raft look at once. Only time in which it looked counts.
// Voters do so one after the other: the first ones find that the rest still have a
// leader, and the one that completes a majority is granted its pre-vote; two at
// once would split the votes. Who has most goes last, because nobody else can get
// its vote; of those with as much, whose disk is full goes first: it lets go of the
// leader, so that it can vote, and one with room completes the majority. All the rest stays raft's, pre-vote first of all: a node that is alone
// with its silence disturbs nobody. raft's own timers remain for when the lookout
// starves.

// shyFactor stretches raft's own timers at a node whose disk is full, so that voters
// with room are candidates before it. The lookout does not wait longer there: with
// pre-vote, who still waits for the leader votes for nobody.
const shyFactor = 3

// lookout is the one place that changes raft's timeouts.
type lookout struct {
	shy atomic.Bool // this node should not lead if others can; set by watchSpace

	// Owned by watchLeaderSilence.
	quiet stall  // how long the leader was seen to be silent
	asked uint64 // the silence in which the others were asked for their reach
	place place

	mu      sync.Mutex
	reaches map[string]uint64 // last index of each voter that said so in this silence; guarded by mu
}

// watchLeaderSilence looks for ever, and has raft stand for election when the
// leader was silent for too long.
func (n *Node) watchLeaderSilence(ctx context.Context) {
	l := &n.lookout
	l.quiet.every = n.cfg.Timing.Turn / 3 // so that no two turns are taken at the same look
	look := time.NewTicker(l.quiet.every)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		silent := l.quiet.look(time.Now(), n.leaderSilence())
		if silent >= n.cfg.Timing.Silence/2 && l.asked != l.quiet.id {
			l.asked = l.quiet.id
			go n.askReaches(ctx) // ends before the silence is up
		}
		n.retime(silent >= n.cfg.Timing.Silence && silent >= n.patience()) // mostly the first says it, cheaply
	}
}

// leaderSilence names the leader's present silence, which began with its last sign of
// life; 0: this node leads, or never had a leader.
func (n *Node) leaderSilence() uint64 {
	last := n.raft.LastContact()
	if last.IsZero() || n.raft.State() == raft.Leader {
		return 0
	}
	return uint64(last.UnixNano())
}

// place is a node's turn in one silence. It holds for all of it: once raft looks, it
// knows the dead leader no more, which would stand among those left behind.
type place struct {
	silence uint64
	turn    int
}

// in returns the turn of a silence, which is found once.
func (p *place) in(silence uint64, find func() int) int {
	if p.silence != silence {
		*p = place{silence, find()}
	}
	return p.turn
}

// patience is how long this node lets its leader be silent: until its turn.
func (n *Node) patience() time.Duration {
	turn := n.lookout.place.in(n.lookout.quiet.id, n.findTurn)
	return n.cfg.Timing.Silence + time.Duration(turn)*n.cfg.Timing.Turn
}

func (n *Node) findTurn() int {
	_, leader := n.raft.LeaderWithID()
	left := slices.DeleteFunc(voters(n.servers()), func(v string) bool { return v == string(leader) })
	return n.lookout.turn(left, n.id.NodeID, n.raft.LastIndex(), n.isFull)
}

// isFull tells whether the disk of a voter was, when it was last heard.
func (n *Node) isFull(id string) bool {
	if id == n.id.NodeID {
		return n.lookout.shy.Load()
	}
	h, _ := n.health.get(id)
	return h.full
}

// turn is the place of a node among the voters that a leader left behind. Their
// logs stand still without it, so all of them find the same order.
func (l *lookout) turn(left []string, own string, last uint64, full func(id string) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	reach := func(id string) uint64 {
		if id == own {
			return last
		}
		return l.reaches[id]
	}
	slices.SortFunc(left, func(a, b string) int {
		return cmp.Or(cmp.Compare(reach(a), reach(b)), compareBool(full(b), full(a)), cmp.Compare(a, b))
	})
	return max(slices.Index(left, own), 0)
}

// reachReply is how far a node's log reaches.
type reachReply struct {
	_    struct{} `cbor:",toarray"`
	Last uint64
}

func (n *Node) serveReach(context.Context, string, struct{}) (reachReply, error) {
	return reachReply{Last: n.raft.LastIndex()}, nil
}

// askReaches asks the other voters how far their logs reach. An answer orders
// turns and decides nothing, so those that do not come are not missed.
func (n *Node) askReaches(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Silence/2)
	defer cancel()
	n.lookout.mu.Lock()
	reaches := map[string]uint64{} // as many as there are voters
	n.lookout.reaches = reaches
	n.lookout.mu.Unlock()
	for _, id := range voters(n.servers()) {
		if id == n.id.NodeID {
			continue
		}
		go func() { // ends with ctx
			var r reachReply
			if n.call(ctx, id, rpcReach, struct{}{}, &r) == nil {
				n.lookout.mu.Lock()
				reaches[id] = r.Last
				n.lookout.mu.Unlock()
			}
		}()
	}
	<-ctx.Done()
}

// retime gives raft the timeouts that hold now. A shorter heartbeat timeout has
// its follower look at once; raft wants it no shorter than the leader's lease.
func (n *Node) retime(silent bool) {
	t := n.cfg.Timing
	heartbeat, election := t.Heartbeat, t.Election
	switch {
	case silent:
		heartbeat, election = t.Silence, t.Silence
	case n.lookout.shy.Load() && n.raft.State() != raft.Leader: // or its heartbeats would come late
		heartbeat, election = shyFactor*heartbeat, shyFactor*election
	}
	conf := n.raft.ReloadableConfig()
	if conf.HeartbeatTimeout == heartbeat && conf.ElectionTimeout == election {
		return
	}
	if silent {
		n.meter.silences.Inc()
	}
	conf.HeartbeatTimeout, conf.ElectionTimeout = heartbeat, election
	if err := n.raft.ReloadConfig(conf); err != nil {
		n.log.Error("raft's timeouts were not changed", "heartbeat", heartbeat, "election", election, "error", err)
	}
}
