package node

import (
	"errors"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// A node whose state is not the cluster's forgets its log and fetches the
// others', but a voter must not: others may count on what it forgets. Its
// configuration does not tell whether it votes, a leader does (releases), and
// the leader might give the vote back a moment later. So the node first says in
// every answer to a ping that it is about to leave, and a leader gives no vote to
// one that says so. What a leader said counts once all that was heard of the node
// before is too old for a grant (leaveNotice).

// departure is since when every answer of this node says that it leaves.
type departure struct {
	mu      sync.Mutex
	since   time.Time // zero: it stays
	decided bool      // it leaves even if its state became right meanwhile
}

// note says whether the node must leave, and returns since when it has been
// saying so, zero if it does not.
func (d *departure) note(now time.Time, must bool) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !must && !d.decided:
		d.since = time.Time{}
	case d.since.IsZero():
		d.since = now
	}
	return d.since
}

// decide makes a departure final that has been going on without a break.
func (d *departure) decide(since time.Time, must bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !must || since.IsZero() || !d.since.Equal(since) {
		return false
	}
	d.decided = true
	return true
}

func (d *departure) stay() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since, d.decided = time.Time{}, false
}

// leaveNotice is how long a node says that it leaves before a leader's word that
// it has no vote counts. A leader grants by an answer that it got within the time
// of fresh, and that answer was up to one exchange on its way; the leader's word
// was up to one exchange on its way too.
func (n *Node) leaveNotice() time.Duration { return n.freshTime() + 2*n.cfg.Timing.PingRTT }

// mustForget tells whether the state of this node is not the cluster's.
func (n *Node) mustForget() bool {
	if d := n.diverged.Load(); d != nil && d.NodeID != "" && !n.faded.Load() {
		return true
	}
	a, waits := n.arrivedEpoch()
	return waits && a.refuted
}

// leaving tells since when this node has been saying that it leaves.
func (n *Node) leaving() time.Time { return n.departure.note(time.Now(), n.mustForget()) }

// startAfresh stops this node for a start without its state, once it is certain
// that it has no vote and gets none.
func (n *Node) startAfresh() bool {
	since := n.leaving()
	if since.IsZero() || n.fatal.Load() != nil || !n.isReleased(since.Add(n.leaveNotice())) || !n.departure.decide(since, n.mustForget()) {
		return false
	}
	if err := n.rememberResync(); err != nil {
		n.departure.stay()
		n.log.Error("cannot note that this node starts afresh", "error", err)
		return false
	}
	n.fail(ErrResync)
	return true
}

// isReleased tells whether the leader said after a moment that this node has no
// vote. Its own configuration does not say: an entry that took the vote may be
// lost again. Nobody else's word counts, or any member could have a voter forget
// what others count on.
func (n *Node) isReleased(after time.Time) bool {
	_, leader := n.raft.LeaderWithID()
	id := string(leader)
	role, known := n.roleOf(id)
	h, heard := n.health.get(id)
	return known && heard && role == fsm.RoleCoordinator && isVoter(n.servers(), id) && h.releases(after, n.raft.CurrentTerm())
}

// releases tells whether the leader's word counts: heard after a moment, and of
// the term in which it leads.
func (h health) releases(after time.Time, term uint64) bool {
	return h.released && h.at.After(after) && h.term == term
}

var errLeaves = errors.New("it is about to forget its log, or was not heard lately")

// stays tells whether a node may be given its vote: its last answer is fresh and
// does not say that it leaves.
func (n *Node) stays(id string) bool {
	h, ok := n.health.get(id)
	return ok && n.fresh(id) && !h.leaving
}
