package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// Replicas tell each other the digests of their last marks. The leader puts
// what it heard of a mark into a later one (fsm.Round), so all judge the same
// reports at the same index; whoever is found to differ stops serving at once.
// A leader then hands over, a follower loses its vote and starts afresh from a
// snapshot of the others.

const reasonDiverged = "diverged"

// ErrResync is why a node stops that is to start again without the state it
// had: Start then throws away log, snapshots and history and fetches them anew.
var ErrResync = errors.New("the state of this node differs from the others'; it starts afresh from their snapshot")

// lookForDivergence is called in the apply loop after ticks and restores.
func (n *Node) lookForDivergence() {
	var d *fsm.Divergence
	n.machine.Read(func(s *fsm.State) {
		d = n.divergedIn(s)
		n.faded.Store(d != nil && d.NodeID != "" && markOf(s.Marks(), d.Mark) == nil)
	})
	if d == nil {
		n.diverged.Store(nil)
		return
	}
	if n.diverged.Swap(d) == nil {
		ring(n.tripped)
	}
}

// divergedIn returns what a state that the caller reads says of this node, nil
// when it may answer from it.
func (n *Node) divergedIn(s *fsm.State) *fsm.Divergence {
	d, found := s.Diverged(n.id.NodeID)
	if !found || d.NodeID != "" && healed(s.Marks(), d) || plantNoTripwire {
		return nil
	}
	return &d
}

// healed tells whether marks are those of the majority that a finding names. A
// node that started afresh comes by the old finding while it catches up; its own
// mark tells that it is about a state that it does not have any more. Without that
// mark the finding stands until the leader has judged a newer one.
func healed(marks []fsm.Mark, d fsm.Divergence) bool {
	m := markOf(marks, d.Mark)
	return m != nil && m.Digest == d.Majority
}

func markOf(marks []fsm.Mark, index uint64) *fsm.Mark {
	if at := slices.IndexFunc(marks, func(m fsm.Mark) bool { return m.Index == index }); at >= 0 {
		return &marks[at]
	}
	return nil
}

// Serving implements api.Cluster: an error while this node must not answer.
func (n *Node) Serving() error {
	if err := n.mayServeBinary(); err != nil {
		return err
	}
	if err := n.expelled(); err != nil {
		return err
	}
	return n.stateServes(nil)
}

// stateServes is Serving of the state alone: this node may ask whether its own
// binary was accepted. What a caller read of itself, d, counts as well: others can
// read a state before the apply loop has looked at it.
func (n *Node) stateServes(d *fsm.Divergence) error {
	if e := n.unconfirmed(); e != nil {
		return e
	}
	if e := n.logs.forked(); e != nil {
		return e
	}
	if d == nil {
		d = n.diverged.Load()
	}
	switch {
	case d == nil:
		return n.superseded()
	case d.NodeID == "":
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonDiverged, RetryAfter: 5 * time.Second,
			Detail: fmt.Sprintf("the replicas differ at mark %d and no digest has a majority: nobody serves until an operator has looked (`edgecoder status` at each node, then `edgecoder recover`)", d.Mark)}
	}
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonDiverged, RetryAfter: time.Second,
		Detail: fmt.Sprintf("the state of this node differs from the others' at mark %d: it stopped serving and fetches theirs; ask another node", d.Mark)}
}

// tripwireLoop does what a divergence asks for: alarm, hand over, start afresh.
func (n *Node) tripwireLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.tripped:
		}
		n.alarm(ctx)
		for d := n.diverged.Load(); d != nil; d = n.diverged.Load() {
			if d.NodeID != "" && n.leaveDiverged(ctx) {
				return
			}
			if !pause(ctx, dutyInterval) {
				return
			}
		}
		n.log.Warn("the replicas agree again: serving")
	}
}

// leaveDiverged hands leadership over, and once the leader says that this node
// has no vote any more stops it for a fresh start. While it votes it must not
// forget its log.
func (n *Node) leaveDiverged(ctx context.Context) bool {
	if n.lead.Load() != nil {
		if !n.handOverTo(ctx, n.anyFit()) {
			pause(ctx, time.Second)
		}
		return false
	}
	return n.startAfresh()
}

func (n *Node) rememberResync() error {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	n.id.Resync = true
	return n.id.save(n.cfg.DataDir, n.cfg.Passphrase)
}

// alarm names the tenants that differ, as far as another node tells.
func (n *Node) alarm(ctx context.Context) {
	d := n.diverged.Load()
	if d == nil {
		return
	}
	n.note("divergence", audit.LevelCritical, "diverged", map[string]string{"mark": strconv.FormatUint(d.Mark, 10), "digest": d.Digest.String(), "majority": d.Majority.String()})
	if d.NodeID == "" {
		n.log.Error("CRITICAL: the replicas differ and no digest has a majority: nobody serves", "mark", d.Mark)
		return
	}
	n.log.Error("CRITICAL: the state of this node differs from the others'", "mark", d.Mark, "digest", d.Digest, "majority", d.Majority,
		"tenants", n.differingFields(ctx, d.Mark))
}

type fieldsRequest struct {
	Mark uint64 `cbor:"1,keyasint"`
}

type fieldsReply struct {
	Fields map[string]string `cbor:"1,keyasint"`
}

func (n *Node) serveFields(_ context.Context, _ string, req fieldsRequest) (fieldsReply, error) {
	return fieldsReply{Fields: n.machine.FieldsAt(req.Mark)}, nil
}

// differingFields asks the others for their fields' digests at a mark.
func (n *Node) differingFields(ctx context.Context, mark uint64) []string {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Peer)
	defer cancel()
	own := n.machine.FieldsAt(mark)
	var out []string
	for _, s := range n.servers() {
		var reply fieldsReply
		if string(s.ID) == n.id.NodeID || n.call(ctx, string(s.ID), rpcFields, fieldsRequest{Mark: mark}, &reply) != nil {
			continue
		}
		for name, digest := range reply.Fields {
			if own[name] != digest && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// demoteDiverged takes the vote from replicas that differ; it tells whether it
// did anything. Duty of the leader.
func (n *Node) demoteDiverged(servers []raft.Server) bool {
	var rows []fsm.Divergence
	n.machine.Read(func(s *fsm.State) { rows = s.Divergences() })
	for _, d := range rows {
		if d.NodeID == "" || d.NodeID == n.id.NodeID || !isVoter(servers, d.NodeID) || n.canLose(d.NodeID) != nil {
			continue
		}
		n.logMember("its state differs, taking its vote", d.NodeID, n.raft.DemoteVoter(raft.ServerID(d.NodeID), 0, n.cfg.Timing.Request).Error())
		return true
	}
	return false
}

func (n *Node) isDiverged(id string) (yes bool) {
	n.machine.Read(func(s *fsm.State) {
		for _, d := range s.Divergences() {
			yes = yes || d.NodeID == id
		}
	})
	return yes
}
