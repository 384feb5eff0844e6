package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

type transferRequest struct {
	To string `cbor:"1,keyasint"`
}

// TransferLeadership implements api.Membership. The leader that was asked is the
// one that goes away, often before it can answer: so what counts is whom this
// node sees leading afterwards.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	if n.isObserver() {
		return errObserver()
	}
	var before string // the leader that was asked
	err := n.onLeader(ctx, func(_ context.Context, _ *leadership) error {
		before = n.id.NodeID
		return n.transferHere(id)
	}, func(ctx context.Context, leader string) error {
		var none struct{}
		before = leader
		return n.call(ctx, leader, rpcTransfer, transferRequest{To: id}, &none)
	})
	if e := (*client.Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != client.CodeUnknownOutcome) {
		return err
	}
	return n.awaitLeader(ctx, before, id, err != nil)
}

// awaitLeader waits until the wanted node leads, or with none wanted any other
// than before; if that does not come to pass it tells who leads instead. While it
// is open whether the node was asked to lead, it may do so later.
func (n *Node) awaitLeader(ctx context.Context, before, wanted string, open bool) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	for {
		moved, leader := n.leaderNow()
		now := string(leader)
		if now != "" && (now == wanted || wanted == "" && now != before) {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			if now == "" {
				return errUnknownOutcome("no node is seen to lead after the transfer was asked for")
			}
			if open && now == before {
				return errUnknownOutcome(n.nameOf(now) + " leads still, and the transfer may be under way")
			}
			return &client.Error{Code: client.CodeConflict, Detail: fmt.Sprintf("leadership was not transferred: %s leads now", n.nameOf(now))}
		}
	}
}

// nameOf is the name of a coordinator for messages, or its id if it has none.
func (n *Node) nameOf(id string) (name string) {
	name = id
	n.machine.Read(func(s *fsm.State) {
		if c, known := s.Coordinator(id); known {
			name = c.Name
		}
	})
	return name
}

func (n *Node) serveTransfer(_ context.Context, _ string, req transferRequest) (struct{}, error) {
	return struct{}{}, n.transferHere(req.To)
}

// transferHere has this leader hand over, to any voter when id is empty.
func (n *Node) transferHere(id string) error {
	switch {
	case n.lead.Load() == nil:
		return errNotLeader()
	case id == n.id.NodeID:
		return nil
	case id != "" && !isVoter(n.servers(), id):
		return &client.Error{Code: client.CodeNotFound, Field: "node", Detail: "there is no voter " + id}
	}
	if err := n.transferTo(id).Error(); err != nil {
		return transferError(err)
	}
	return nil
}

// transferError sorts raft's errors: what it refuses at once was not done. After
// its time is up, or an answer was lost, the target may have been asked to stand for
// election, and may win yet.
func transferError(err error) error {
	if errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout) {
		return &client.Error{Code: client.CodeConflict, Detail: "leadership was not transferred: " + err.Error()}
	}
	return errUnknownOutcome("leadership was not seen to move")
}

// transferTo begins to hand leadership to a voter, to the fittest one when id is
// empty. raft by itself would choose one that is dead as soon as any other.
func (n *Node) transferTo(id string) raft.Future {
	if id == "" {
		id = n.anyFit()
	}
	if id == "" {
		return n.raft.LeadershipTransfer()
	}
	return n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id))
}
