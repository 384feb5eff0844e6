package node

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// The leader's judgement of its servers: who is healthy, who has been so for long
// enough to vote, and who has been dead for long enough to go.

const (
	// maxLag is how many entries a server may be behind and still be healthy.
	maxLag = 256
	// stablePings is for how many pings a server is healthy before it votes: one
	// that comes and goes would only move the majority.
	stablePings = 3
	// newLeader is for how long a leader gives a vote to who is healthy now: it has
	// not watched for long, and a cluster that is being made would wait for nothing.
	newLeader = 20 * time.Second
)

// The healths of a server, from the best.
const (
	healthGood    = "healthy"
	healthLagging = "lagging" // it answers, and is further behind than maxLag
	healthStuck   = "stuck"   // it answers, and its disk takes no entries
	healthSilent  = "silent"  // no answer lately
	healthUnknown = "unknown" // no answer since this node started
)

// healthOf judges a server by its last answer.
func (n *Node) healthOf(id string) string {
	if id == n.id.NodeID {
		if _, _, stuck := n.diskHealth(); stuck {
			return healthStuck
		}
		return healthGood
	}
	switch h, heard := n.health.get(id); {
	case !heard:
		return healthUnknown
	case !n.fresh(id):
		return healthSilent
	case h.stuck:
		return healthStuck
	case h.applied == 0 || h.lag > maxLag:
		return healthLagging
	}
	return healthGood
}

// watchHealth notes since when each server has been healthy. Duty of the leader,
// many times a second; the caller holds members.
func (n *Node) watchHealth(l *leadership, servers []raft.Server) {
	was := l.healthy
	l.healthy = make(map[string]time.Time, len(servers))
	for _, s := range servers {
		id := string(s.ID)
		if n.healthOf(id) != healthGood {
			continue
		}
		l.healthy[id] = time.Now()
		if since, had := was[id]; had {
			l.healthy[id] = since
		}
	}
}

// stable tells whether a server has been healthy for long enough to be counted
// on. The caller holds members.
func (n *Node) stable(l *leadership, id string) bool {
	since, ok := l.healthy[id]
	return ok && (time.Since(since) >= stablePings*n.cfg.Timing.Ping || time.Since(l.since) < newLeader)
}

// silence is how long this node has heard nothing of another. Before it started
// it heard of nobody, so a restart begins the count anew.
func (n *Node) silence(id string) time.Duration {
	last := n.started
	if h, heard := n.health.get(id); heard {
		last = h.at
	}
	silent := time.Since(last)
	if n.cfg.silence != nil {
		silent += n.cfg.silence()
	}
	return silent
}

// cleanUp removes a coordinator that has been dead for a day, if another has
// taken its place and the cluster stays as large as it must (fsm.CleanUpFault).
// Duty of the leader; the caller holds members.
func (n *Node) cleanUp(ctx context.Context, l *leadership, known []fsm.Coordinator, servers []raft.Server) {
	if !l.cleaned.IsZero() && time.Since(l.cleaned) < cleanUpPause {
		return
	}
	var clock int64
	n.machine.Read(func(s *fsm.State) { clock = s.ClockMs() })
	for _, c := range known {
		// Nobody misses a node for longer than it has been a member.
		silent := min(n.silence(c.ID), time.Duration(clock-c.JoinedMs)*time.Millisecond)
		if c.ID == n.id.NodeID || silent.Milliseconds() < fsm.MinSilenceMs || !n.mayCleanUp(l, c, silent, known, servers) {
			continue
		}
		l.cleaned = time.Now()
		if err := n.dropServer(ctx, c.ID, false); err != nil {
			n.log.Warn("membership: cleaning up", "node", c.ID, "name", c.Name, "error", err)
			return
		}
		n.removeSilent(ctx, l, c, silent)
		return
	}
}

// cleanUpPause is for how long a leader looks for nobody else to clean up: a try
// that fails half way costs two changes of the configuration.
const cleanUpPause = time.Minute

// mayCleanUp asks everything that the replicated state does not know: is it dead
// by gossip's word too, does a replacement vote and stay healthy, and are there
// enough voters without it.
func (n *Node) mayCleanUp(l *leadership, c fsm.Coordinator, silent time.Duration, known []fsm.Coordinator, servers []raft.Server) bool {
	if n.fresh(c.ID) || n.gossips(c.ID) {
		return false
	}
	var fault string
	var least int
	var level uint32
	var clock int64
	n.machine.Read(func(s *fsm.State) {
		fault, least, level, clock = s.CleanUpFault(c.ID, silent.Milliseconds()), s.LeastCoordinators(), s.Meta().Level, s.ClockMs()
	})
	if fault != "" || level < fsm.LevelUpgrades {
		return false
	}
	left := len(voters(servers))
	if isVoter(servers, c.ID) {
		left--
	}
	if left < least || n.canLose(c.ID) != nil || n.refuses(l, fsm.KindCoordinatorCleanUp) != nil {
		return false
	}
	for _, other := range known {
		if other.JoinedMs > clock-silent.Milliseconds() && isVoter(servers, other.ID) && other.ID != c.ID && n.stable(l, other.ID) {
			return true
		}
	}
	return false
}

// gossips tells whether gossip reaches a node, be it by way of others: it may be
// this leader alone that does not.
func (n *Node) gossips(id string) bool {
	for _, m := range n.pool.Members() {
		if m.Card.NodeID == id {
			return m.State == gossip.StateAlive || m.State == gossip.StateSuspect
		}
	}
	return false
}

// removeSilent has the record removed, and tells of it whatever came of it. If it
// was refused the node is in the configuration again a moment later, without a
// vote, and is looked at anew.
func (n *Node) removeSilent(ctx context.Context, l *leadership, c fsm.Coordinator, silent time.Duration) {
	code := string(fsm.CodeOK)
	if err := n.proposeAs(ctx, l, fsm.Actor{NodeID: n.id.NodeID}, fsm.CoordinatorCleanUp{ID: c.ID, SilentMs: silent.Milliseconds()}); err != nil {
		code = asAPIError(err).Code
		n.log.Warn("membership: cleaning up", "node", c.ID, "name", c.Name, "error", err)
	} else {
		n.log.Warn("membership: removed for ever a coordinator that was silent and has been replaced", "node", c.ID, "name", c.Name, "silent", silent.Round(time.Second))
	}
	n.note("member_clean_up", audit.LevelHigh, code, map[string]string{"node": c.ID, "name": c.Name, "silent_ms": strconv.FormatInt(silent.Milliseconds(), 10)})
}

// Servers implements api.Membership.
func (n *Node) Servers() map[string]api.ServerView {
	out := map[string]api.ServerView{}
	for _, s := range n.servers() {
		id := string(s.ID)
		v := api.ServerView{Suffrage: strings.ToLower(s.Suffrage.String()), Health: n.healthOf(id)}
		if h, heard := n.health.get(id); heard {
			v.Heard, v.SilentMs, v.Lag = true, time.Since(h.at).Milliseconds(), h.lag
		}
		v.Heard = v.Heard || id == n.id.NodeID
		out[id] = v
	}
	return out
}
