package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// leadership is one term of leading. It is made when raft elects this node and
// dropped when it is deposed; whoever holds a stale one gets not_leader.
type leadership struct {
	term      uint64
	ready     chan struct{}   // closed once the first tick of the term is applied
	over      <-chan struct{} // closed when leadership ended
	end       context.CancelFunc
	clock     atomic.Pointer[clockVerdict] // of our wall clock; nil before the first; kept by the duties loop
	drift     atomic.Int64                 // Node.drift when that was judged
	full      atomic.Bool                  // no majority of voters has room on its disk; kept by the duties loop
	since     time.Time
	chain     linker
	units     *intake[*admitUnit]  // batches that wait for an entry
	moves     *intake[*moveUnit]   // of the ledger, likewise
	passed    map[string]time.Time // since when nodes hold a restore that did not take effect; guarded by Node.members
	healthy   map[string]time.Time // since when servers have been healthy without a break; guarded by Node.members
	tried     time.Time            // when a transfer that was asked for began last; guarded by Node.members
	cleaned   time.Time            // when a clean-up began last; guarded by Node.members
	setFailed time.Time            // when the cosigner set was last not moved; owned by membersLoop

	rotating sync.Mutex // held while a shared key is taken a step on

	releasing sync.Mutex        // guards what follows
	voteless  map[string]uint64 // nodes without a vote, and the last index when that was seen
	granting  string            // the node that is being given its vote
}

// usable waits until the leader may answer.
func (l *leadership) usable(ctx context.Context) error {
	select {
	case <-l.ready:
		return nil
	default:
	}
	select {
	case <-l.ready:
		return nil
	case <-l.over:
		return errNotLeader()
	case <-ctx.Done():
		if v := l.clock.Load(); v != nil && v.refusal != nil {
			return v.refuses()
		}
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonNoLeader, RetryAfter: time.Second,
			Detail: "the new leader is not ready yet"}
	}
}

// watchLeadership follows raft's notices for ever; raft blocks on the channel,
// so nothing here may wait.
func (n *Node) watchLeadership(ctx context.Context, notices <-chan bool) {
	defer n.depose()
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-notices:
			n.depose()
			if leads {
				n.accede(ctx)
			}
		}
	}
}

func (n *Node) accede(ctx context.Context) {
	l := &leadership{term: n.raft.CurrentTerm(), ready: make(chan struct{}), units: newIntake[*admitUnit](), moves: newIntake[*moveUnit](), since: time.Now(), chain: newLinker(), voteless: map[string]uint64{}, passed: map[string]time.Time{}, healthy: map[string]time.Time{}}
	ctx, l.end = context.WithCancel(ctx)
	l.over = ctx.Done()
	n.lead.Store(l)
	n.note("leader_elected", audit.LevelInfo, "ok", map[string]string{"term": strconv.FormatUint(l.term, 10)})
	n.loops.Go(func() { n.duties(ctx, l) })
	n.loops.Go(func() { n.membersLoop(ctx, l) })
	n.loops.Go(func() { n.batchLoop(ctx, l) })
	n.loops.Go(func() { n.ledgerLoop(ctx, l) })
	n.loops.Go(func() { n.ledgerEpochLoop(ctx, l) })
	n.loops.Go(func() { n.sharedDuties(ctx, l) })
	n.loops.Go(func() { n.watchKeys(ctx, l) })
}

func (n *Node) depose() {
	if l := n.lead.Swap(nil); l != nil {
		l.end()
	}
}

// duties does the duties of one term: clock, disk, first tick, ticks, marks.
func (n *Node) duties(ctx context.Context, l *leadership) {
	n.log.Info("leading", "term", l.term)
	defer n.log.Info("leading ended", "term", l.term)
	often := time.NewTicker(dutyInterval)
	defer often.Stop()
	n.askClocks()
	var lastMark time.Time
	common := false
	for {
		n.judgeClock(ctx, l)
		n.judgeDisk(ctx, l)
		if n.opened(ctx, l) {
			if time.Since(lastMark) >= n.cfg.Timing.Mark {
				n.tick(ctx, l, fsm.Tick{Term: l.term, Mark: true, Round: n.roundOf(common), Heads: n.auditReports()})
				lastMark, common = time.Now(), !common
			} else if n.idle(n.cfg.Timing.Tick) {
				n.tick(ctx, l, fsm.Tick{Term: l.term})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		}
	}
}

// membersLoop looks after raft's configuration for one term. It is a loop of its
// own because a change that no majority takes keeps it waiting until the term
// ends, and a leader that does not tick or look at its clock and disk is none.
func (n *Node) membersLoop(ctx context.Context, l *leadership) {
	often := time.NewTicker(dutyInterval)
	defer often.Stop()
	for {
		select {
		case <-l.ready:
			n.alignMembers(ctx)
			n.raiseLevel(ctx, l)
			n.alignCosigners(ctx, l)
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		case <-n.membersChanged:
		}
	}
}

// dutyInterval is how often the leader looks after its duties.
const dutyInterval = 100 * time.Millisecond

// askClocks has the ping loop run at once.
func (n *Node) askClocks() {
	select {
	case n.pingNow <- struct{}{}:
	default:
	}
}

// handOver hands leadership to a voter and remembers that it was tried.
func (n *Node) handOver(ctx context.Context, id string) {
	n.resting.set(id, cameBack, false)
	asked := make(chan error, 1)
	go func() { asked <- n.transferTo(id).Error() }()
	var err error
	select {
	case err = <-asked:
	case <-n.ending: // raft never answers a transfer that was in its queue when it was shut down
		return
	}
	if err != nil {
		n.resting.set(id, failedLately, true)
		n.log.Warn("leadership transfer failed", "to", id, "error", err)
		pause(ctx, time.Second)
	}
}

// handOverTo is handOver if there is somebody, and tells whether there was.
func (n *Node) handOverTo(ctx context.Context, id string) bool {
	if id == "" {
		return false
	}
	n.handOver(ctx, id)
	return true
}

// opened makes sure that the term's first tick is applied, and with it
// everything of earlier terms; only then does this leader answer anybody.
func (n *Node) opened(ctx context.Context, l *leadership) bool {
	select {
	case <-l.ready:
		return true
	default:
	}
	if n.clockRefuses(l) != nil || !n.ensureGenesis(ctx, l) {
		return false
	}
	first := fsm.Tick{Term: l.term}
	ids := voters(n.servers())
	first.Voters = len(ids)
	first.Walls = n.voterWalls(ids)
	if !n.tick(ctx, l, first) {
		return false
	}
	close(l.ready)
	n.log.Info("the term is open: this leader decides", "term", l.term, "after", time.Since(l.since).Round(time.Millisecond))
	return true
}

// tick proposes a tick and tells whether it was applied.
func (n *Node) tick(ctx context.Context, l *leadership, t fsm.Tick) bool {
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, t)
	if err != nil {
		n.log.Error("cannot make a tick", "error", err)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	future, err := n.enqueue(l, cmd)
	if err != nil {
		return false
	}
	res, err := n.await(ctx, future)
	if err != nil || !res.OK() {
		n.log.Warn("a tick was not applied", "error", err, "code", res.Code, "detail", res.Detail)
		if err == nil && res.Code == fsm.CodeClockAhead {
			n.giveUpTerm(ctx)
		}
		return false
	}
	return true
}

// giveUpTerm ends a term in which time jumped, as it does when a machine was
// suspended: only a term's first tick may move the cluster clock so far, so
// somebody must begin a new one. A sole voter can only start again.
func (n *Node) giveUpTerm(ctx context.Context) {
	if n.handOverTo(ctx, n.anyFit()) {
		return
	}
	if len(voters(n.servers())) == 1 {
		n.fail(errors.New("the wall clock jumped ahead of the cluster clock in the middle of a term, and there is no other voter to begin a new one: start this server again"))
	}
}

// idle tells whether nothing was applied for so long.
func (n *Node) idle(d time.Duration) bool {
	return time.Since(time.Unix(0, n.lastApplied.Load())) >= d
}

// alignMembers makes raft's configuration follow the replicated records, one
// change at a time: removed ids leave first, new ids come in without a vote,
// a coordinator that caught up and stayed healthy gets one, and one that has
// been dead for long and was replaced goes (upkeep.go).
func (n *Node) alignMembers(ctx context.Context) {
	if !n.members.TryLock() {
		return // a removal is under way
	}
	defer n.members.Unlock()
	l := n.lead.Load()
	if l == nil {
		return
	}
	var known []fsm.Coordinator
	removed := map[string]bool{}
	n.machine.Read(func(s *fsm.State) {
		known = s.Coordinators()
		for _, r := range s.Removed() {
			removed[r.ID] = true
		}
	})
	servers := n.servers()
	n.watchHealth(l, servers)
	if n.demoteDiverged(servers) || n.demotePassedOver(l, servers) {
		return
	}
	suffrage := map[string]raft.ServerSuffrage{}
	for _, s := range servers {
		suffrage[string(s.ID)] = s.Suffrage
		if removed[string(s.ID)] && n.removeLeftover(ctx, string(s.ID), servers) {
			return
		}
	}
	for _, c := range known {
		id, addr := raft.ServerID(c.ID), raft.ServerAddress(c.ID)
		switch vote, in := suffrage[c.ID]; {
		case !in:
			n.logMember("adding as non-voter", c.ID, n.raft.AddNonvoter(id, addr, 0, n.cfg.Timing.Request).Error())
			return
		case vote == raft.Nonvoter && c.Role == fsm.RoleCoordinator && n.stable(l, c.ID) && n.stays(c.ID) && !n.isDiverged(c.ID) && n.sameEpoch(c.ID):
			n.cosignersWith(ctx, l, c.ID)
			n.logMember("promoting to voter", c.ID, n.grant(l, c.ID))
			return
		}
	}
	n.cleanUp(ctx, l, known, servers)
}

// removeLeftover takes an id out of the configuration that the records removed
// and that is still in it, and tells whether it did anything.
func (n *Node) removeLeftover(ctx context.Context, id string, servers []raft.Server) bool {
	if id == n.id.NodeID {
		return n.handOverTo(ctx, n.asFit())
	}
	if isVoter(servers, id) && n.canLose(id) != nil {
		return false // wait: removing it now would leave the cluster without a majority
	}
	n.logMember("removing", id, n.raft.RemoveServer(raft.ServerID(id), 0, n.cfg.Timing.Request).Error())
	return true
}

// dropServer takes a node out of raft's configuration before its record is
// removed: from the record on nobody talks to it any more, so it must not be
// one whose vote is still needed. The caller holds members until the record is
// committed, or alignMembers would bring the node back.
func (n *Node) dropServer(ctx context.Context, id string, compromised bool) error {
	servers := n.servers()
	if isVoter(servers, id) {
		if err := cmp.Or(n.canLose(id), n.clocksWithout(id)); err != nil {
			return err
		}
	}
	if id == n.id.NodeID {
		if n.handOverTo(ctx, n.asFit()) {
			return errNotLeader() // the next leader removes us
		}
		return &client.Error{Code: client.CodeConflict, Field: "id", Detail: "no other voter answers that could lead as well as this one: look at the disks and clocks of the others (edgecoder status)"}
	}
	if err := n.cosignersWithout(ctx, id, compromised); err != nil {
		return err
	}
	n.resting.set(id, cameBack, false) // it goes: leadership must not
	known := false
	for _, s := range servers {
		known = known || string(s.ID) == id
	}
	if !known {
		return nil
	}
	removed := make(chan error, 1)
	go func() { removed <- n.raft.RemoveServer(raft.ServerID(id), 0, n.cfg.Timing.Request).Error() }()
	select {
	case err := <-removed:
		if err != nil {
			return raftError(err)
		}
	case <-ctx.Done(): // raft has no time limit for what no majority takes
		return errUnknownOutcome("no majority has confirmed yet that the node is out of the configuration")
	}
	n.log.Info("membership: removed from the configuration", "node", id)
	return nil
}

func (n *Node) logMember(what, id string, err error) {
	if err != nil {
		n.log.Warn("membership: "+what, "node", id, "error", err)
		return
	}
	n.log.Info("membership: "+what, "node", id)
	n.askClocks()
}

// canLose tells whether the voters that are left without a node, and can take
// entries, are a majority of those left.
func (n *Node) canLose(id string) error {
	left, alive := 0, 0
	for _, v := range voters(n.servers()) {
		if v == id {
			continue
		}
		left++
		if v == n.id.NodeID || n.works(v) {
			alive++
		}
	}
	if alive <= left/2 {
		return &client.Error{Code: client.CodeConflict, Field: "id", Detail: fmt.Sprintf(
			"without it only %d of %d voters answer and can write to their disks, which is no majority: bring the others back first", alive, left)}
	}
	return nil
}
