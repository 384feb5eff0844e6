package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

const (
	// maxProposals bounds proposals in flight on one node; each holds a goroutine.
	maxProposals = 1024
	// retryPause is how long a request waits before it looks for the leader again.
	retryPause = 50 * time.Millisecond
)

// Propose implements api.Log: it has a command decided by whoever leads. What
// is certainly not done is tried again while the request's time lasts; what may
// have been done never is, that is for the caller under the same id.
func (n *Node) Propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	var res fsm.Result
	if cmd.Actor.NodeID != n.id.NodeID && n.isObserver() {
		return res, errObserver()
	}
	if e := n.disk.full(); e != nil && !slices.Contains(vital, cmd.Kind) {
		return res, e
	}
	if err := n.mayDecide(cmd.Kind); err != nil {
		return res, err
	}
	defer since(time.Now(), n.meter.propose)
	err := n.onLeader(ctx, func(ctx context.Context, l *leadership) (err error) {
		if err := n.mayDecide(cmd.Kind); err != nil {
			return err
		}
		res, err = n.proposeThrough(ctx, l, n.id.NodeID, cmd)
		return err
	}, func(ctx context.Context, leader string) error {
		res = fsm.Result{}
		return n.call(ctx, leader, rpcPropose, cmd, &res)
	})
	if e := (*client.Error)(nil); errors.As(err, &e) && (e.Code == client.CodeInvalid || e.Code == client.CodeForbidden) {
		if early := n.levelAllows(cmd); early != nil {
			return res, early // a leader of an older binary cannot say so: it does not know the command
		}
	}
	return res, err
}

func (n *Node) servePropose(ctx context.Context, from string, cmd fsm.Command) (fsm.Result, error) {
	if e := n.mayPropose(from, cmd); e != nil {
		return fsm.Result{}, e
	}
	if err := n.mayDecide(cmd.Kind); err != nil {
		return fsm.Result{}, err
	}
	l := n.lead.Load()
	if l == nil {
		return fsm.Result{}, errNotLeader()
	}
	if cmd.Kind == fsm.KindCoordinatorUpdate {
		if err := n.mayDescribe(from, len(cmd.Body)); err != nil {
			return fsm.Result{}, err
		}
	}
	if res, decided, err := n.hearOfKeys(from, cmd); decided || err != nil {
		return res, err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	return n.proposeThrough(ctx, l, from, cmd)
}

// proposeThrough has a command decided whose caller a node authenticated. If that was
// removed meanwhile, Apply refuses what came through it; the caller may do no less than
// before and is to ask another node.
func (n *Node) proposeThrough(ctx context.Context, l *leadership, node string, cmd fsm.Command) (fsm.Result, error) {
	res, err := n.proposeHere(ctx, l, n.through(node, cmd))
	if err == nil && res.Code == fsm.CodeForbidden && n.isRemoved(node) {
		return fsm.Result{}, wasRemoved(node)
	}
	return res, err
}

// How often a node may describe itself, and in how many bytes: what Apply refuses
// (fsm.UpdatePauseMs) is in the log all the same. The burst is for a node that
// did not hear the answer, and for one that restarts with other addresses.
const (
	updateRate     = 1000.0 / fsm.UpdatePauseMs // a second
	updateBurst    = 3
	maxUpdateBytes = 4 << 10 // three addresses, an id and a version at their bounds are a third
)

func (n *Node) mayDescribe(from string, size int) error {
	if size > maxUpdateBytes {
		return &client.Error{Code: client.CodeTooLarge, Detail: fmt.Sprintf("a description of %d bytes, at most %d", size, maxUpdateBytes)}
	}
	if wait := n.updates.Take(from); wait > 0 {
		return &client.Error{Code: client.CodeOverloaded, RetryAfter: wait, Detail: fmt.Sprintf("node %s describes itself too often", from)}
	}
	return nil
}

// mayDecide tells whether this node may have a command decided while it may not
// serve: only the removal of a member that claims a newer epoch, or one liar
// could stop the cluster for good. The state alone is asked: while it may not be
// read, a node cannot learn either whether its own binary was accepted.
func (n *Node) mayDecide(kind fsm.Kind) error {
	if kind == fsm.KindCoordinatorRemove && isSuperseded(n.stateServes(nil)) {
		return nil
	}
	return n.Serving()
}

func isSuperseded(err error) bool {
	e := (*client.Error)(nil)
	return errors.As(err, &e) && e.Reason == reasonSuperseded
}

// onLeader runs here if this node leads, or there on the node that does, and
// tries again on "certainly not done" until the time for it is over.
func (n *Node) onLeader(ctx context.Context, here func(context.Context, *leadership) error, there func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	start := time.Now()
	for {
		var err error
		if l := n.lead.Load(); l != nil {
			err = here(ctx, l)
		} else if moved, id := n.leaderNow(); id != "" && string(id) != n.id.NodeID {
			err = n.whileLeads(ctx, id, moved, there)
		} else {
			err = &client.Error{Code: client.CodeUnavailable, Reason: reasonNoLeader, RetryAfter: time.Second,
				Detail: "the cluster has no leader right now: a majority of coordinators must be up and reach each other"}
		}
		e := (*client.Error)(nil)
		// A leader whose disk is full hands over, if anybody has room.
		if !errors.As(err, &e) || e.Code != client.CodeUnavailable && e.Code != client.CodeDiskFull || e.Reason == reasonClock {
			return err
		}
		if time.Since(start) > n.cfg.Timing.NoLeader || !pause(ctx, retryPause) {
			if e.RetryAfter == 0 {
				e.RetryAfter = time.Second
			}
			return e
		}
	}
}

// whileLeads calls the leader and gives up as soon as another one is known: a
// paused leader would otherwise hold its callers until their time is over.
func (n *Node) whileLeads(ctx context.Context, id raft.ServerID, moved <-chan struct{}, there func(context.Context, string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-moved:
			}
			moved = n.leaderMoved()
			if _, now := n.raft.LeaderWithID(); now != "" && now != id {
				cancel()
				return
			}
		}
	}()
	return there(ctx, string(id))
}

// leaderNow returns the leader that raft knows and a channel that is closed
// when it hears of another after that.
func (n *Node) leaderNow() (<-chan struct{}, raft.ServerID) {
	moved := n.leaderMoved() // first, or a change in between would be missed
	_, id := n.raft.LeaderWithID()
	return moved, id
}

// leaderMoved returns a channel that is closed when raft next hears of a
// leader, or of none.
func (n *Node) leaderMoved() <-chan struct{} {
	n.movedMu.Lock()
	defer n.movedMu.Unlock()
	return n.moved
}

// watchLeader closes and replaces the channel at each notice of raft.
func (n *Node) watchLeader(ctx context.Context, notices <-chan raft.Observation) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-notices:
			if led, ok := o.Data.(raft.LeaderObservation); ok {
				n.meter.sawLeader(led.LeaderID)
			}
			n.movedMu.Lock()
			close(n.moved)
			n.moved = make(chan struct{})
			n.movedMu.Unlock()
		}
	}
}

// pause waits, and tells whether the context is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// proposeHere completes a command as the leader and has it committed.
func (n *Node) proposeHere(ctx context.Context, l *leadership, cmd fsm.Command) (fsm.Result, error) {
	if err := l.usable(ctx); err != nil {
		return fsm.Result{}, err
	}
	if e := n.levelAllows(cmd); e != nil {
		return fsm.Result{}, e
	}
	switch cmd.Kind {
	case fsm.KindBlacklistAppend:
		return n.appendEvent(ctx, l, cmd)
	case fsm.KindCoordinatorJoin:
		if e := n.joinLevelAllows(cmd); e != nil {
			return fsm.Result{}, e
		}
		return n.changeMembers(ctx, l, cmd)
	case fsm.KindCoordinatorRemove:
		return n.changeMembers(ctx, l, cmd)
	case fsm.KindClockRecover:
		return n.recoverClock(ctx, l, cmd)
	case fsm.KindKeyRevoke:
		return n.revokeShared(ctx, l, cmd)
	case fsm.KindKeyPrepare, fsm.KindKeyRecover:
		if e := n.checkSuccession(cmd); e != nil {
			return fsm.Result{}, e
		}
	}
	future, err := n.enqueue(l, cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	return n.await(ctx, future)
}

// levelAllows refuses a command that some server of the cluster may not know: it
// would have to stop at it.
func (n *Node) levelAllows(cmd fsm.Command) *client.Error {
	need := fsm.LevelOf(cmd)
	var level uint32
	n.machine.Read(func(s *fsm.State) { level = s.Meta().Level })
	if level >= need {
		return nil
	}
	return &client.Error{Code: client.CodeConflict, Reason: reasonLevel, Detail: fmt.Sprintf(
		"the cluster is at feature level %d, this needs %d: upgrade every server first", level, need)}
}

// checkSuccession verifies what a change of keys was signed with: whoever
// forwarded it may lie, and Apply does not look at it.
func (n *Node) checkSuccession(cmd fsm.Command) *client.Error {
	var err error
	if cmd.Kind == fsm.KindKeyRecover {
		var b fsm.KeyRecover
		if b, err = fsm.BodyOf[fsm.KeyRecover](cmd); err == nil {
			err = b.Verify(n.id.ClusterID)
		}
	} else {
		var b fsm.KeyPrepare
		if b, err = fsm.BodyOf[fsm.KeyPrepare](cmd); err == nil {
			err = b.Verify(n.id.ClusterID)
		}
	}
	if err != nil {
		n.note("invalid_signature", audit.LevelHigh, "key_succession", map[string]string{"where": "a change of keys", "detail": err.Error()})
		return &client.Error{Code: client.CodeInvalid, Field: "signature", Detail: err.Error()}
	}
	return nil
}

// changeMembers has a record joined or removed. A node that leaves is taken out
// of raft's configuration first; one of them leaves at a time.
func (n *Node) changeMembers(ctx context.Context, l *leadership, cmd fsm.Command) (fsm.Result, error) {
	var leaving string
	compromised := false
	if cmd.Kind == fsm.KindCoordinatorJoin {
		var err error
		if cmd, leaving, err = n.completeJoin(l, cmd); err != nil {
			return fsm.Result{}, err
		}
	} else {
		body, err := fsm.BodyOf[fsm.CoordinatorRemove](cmd)
		if err != nil {
			return fsm.Result{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
		}
		leaving, compromised = body.ID, body.Compromised
		// A leader that is to go hands over first: it must not make the keys after its own.
		if body.Compromised && leaving != n.id.NodeID && (n.wouldAccept(cmd, leaving) || n.isRemoved(leaving) && n.may(cmd.Actor, fsm.CapAdmin)) {
			l.rotating.Lock() // until it is removed, nothing that it was not given comes into force
			defer l.rotating.Unlock()
			body.Next, err = n.replaceHeld(ctx, l, cmd.Actor, leaving)
			if err != nil {
				return fsm.Result{}, err
			}
		} else {
			body.Next = nil // whoever forwards names none
		}
		idem := cmd.Idem
		if cmd, err = fsm.New(cmd.Actor, body); err != nil {
			return fsm.Result{}, err
		}
		cmd.Idem = idem
	}
	dropped := leaving != "" && n.wouldAccept(cmd, leaving)
	if dropped {
		if !n.members.TryLock() {
			return fsm.Result{}, &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "another change of members is under way"}
		}
		defer n.members.Unlock()
		if err := n.refuses(l, cmd.Kind); err != nil {
			return fsm.Result{}, err // before it is out of the configuration, not after
		}
		if err := n.dropServer(ctx, leaving, compromised); err != nil {
			return fsm.Result{}, err
		}
	}
	p, err := n.enqueue(l, cmd)
	switch {
	case err != nil && dropped:
		return fsm.Result{}, errUnknownOutcome("it left the configuration and could not be recorded, so it comes back without a vote until it is removed again: " + asAPIError(err).Detail)
	case err != nil:
		return fsm.Result{}, err
	}
	return n.await(ctx, p)
}

// wouldAccept tells whether the records, as this leader has them, would let the
// node go: only then may raft's configuration be touched for it. Whatever they
// refuse is refused by Apply, with its reason.
func (n *Node) wouldAccept(cmd fsm.Command, leaving string) (yes bool) {
	need := fsm.CapAdmin
	if cmd.Kind == fsm.KindCoordinatorJoin {
		need = fsm.CapJoinVoter
	}
	n.machine.Read(func(s *fsm.State) {
		t, ok := s.TokenInForce(cmd.Actor.TokenID, s.ClockMs())
		c, known := s.Coordinator(leaving)
		if cmd.Kind == fsm.KindCoordinatorJoin && c.Role == fsm.RoleObserver {
			need = fsm.CapJoinObserver
		}
		yes = ok && known && t.Role.Can(need) && len(s.Coordinators()) > 1
	})
	return yes
}

// proposal is an entry on its way; its slot is held until raft is done with it.
type proposal struct {
	raft.ApplyFuture
	release func()
}

// refuses tells why this leader may not log a command of a kind now; nil: it may.
func (n *Node) refuses(l *leadership, kind fsm.Kind) error {
	if e := n.clockRefuses(l); e != nil {
		return e
	}
	if e := n.noRoom(l, kind); e != nil {
		return e
	}
	if a, waits := n.arrivedEpoch(); waits && !a.held {
		return errRecovery() // the others may have gone on in another epoch
	}
	return nil
}

// enqueue stamps a command and puts it into the log's queue. Without a slot for
// it, it is certainly not done.
func (n *Node) enqueue(l *leadership, cmd fsm.Command) (proposal, error) {
	if err := n.gate.enter(); err != nil {
		return proposal{}, err
	}
	defer n.gate.leave()
	if err := n.refuses(l, cmd.Kind); err != nil {
		return proposal{}, err
	}
	cmd.AtMs = n.wallMs()
	data, err := fsm.EncodeCommand(cmd)
	if err != nil {
		return proposal{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	select {
	case n.proposals <- struct{}{}:
	default:
		return proposal{}, &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second,
			Detail: fmt.Sprintf("%d proposals are in flight", maxProposals)}
	}
	begun := time.Now()
	return proposal{n.raft.Apply(data, n.cfg.Timing.Request), func() {
		<-n.proposals
		since(begun, n.meter.commit)
	}}, nil
}

// finish waits for a log entry, however long raft takes.
func (p proposal) finish() (fsm.Result, error) {
	err := p.Error()
	p.release()
	if err != nil {
		return fsm.Result{}, raftError(err)
	}
	return p.Response().(fsm.Result), nil
}

// await waits for a log entry within ctx. Past that the outcome is unknown:
// the entry may still be committed.
func (n *Node) await(ctx context.Context, p proposal) (fsm.Result, error) {
	done := make(chan error, 1)
	go func() { // ends with the entry, however long raft takes
		done <- p.Error()
		p.release()
	}()
	select {
	case err := <-done:
		if err != nil {
			return fsm.Result{}, raftError(err)
		}
		return p.Response().(fsm.Result), nil
	case <-ctx.Done():
		return fsm.Result{}, errUnknownOutcome("no majority confirmed in time")
	}
}

func errUnknownOutcome(why string) *client.Error {
	return &client.Error{Code: client.CodeUnknownOutcome, RetryAfter: time.Second,
		Detail: why + ": it may or may not have been done, ask again under the same id"}
}

// raftError sorts raft's errors into certainly not done and unknown. What is not
// raft's own comes from the disk and names files: raft logs it, callers do not
// hear it.
func raftError(err error) *client.Error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonNotLeader, Detail: err.Error()}
	}
	why := "leadership ended before a majority confirmed"
	switch {
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, raft.ErrAbortedByRestore):
	case store.NoSpace(err):
		why = "the leader's disk is full"
	default:
		why = "the leader could not write its log"
	}
	return errUnknownOutcome(why)
}
