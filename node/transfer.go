package node

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	err := n.onLeader(ctx, func(ctx context.Context, _ *leadership) error {
		before = n.id.NodeID
		return n.transferHere(ctx, id)
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
			return errNotTransferred(n.nameOf(now) + " leads now")
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

func (n *Node) serveTransfer(ctx context.Context, _ string, req transferRequest) (struct{}, error) {
	return struct{}{}, n.transferHere(ctx, req.To)
}

// A transfer stops all writes while it lasts, and any coordinator may ask for
// one. So whoever asks without end, of each leader in turn, must leave the others
// time to write, and to remove it.
const (
	// transferPause is for how long a leader has led before it hands over because
	// somebody asks.
	transferPause = 2 * time.Second
	// transferRetry is for how long it tries no other after one that failed, which
	// stopped the writes for up to Timing.Peer.
	transferRetry = 30 * time.Second
	// transferPatience is how long a transfer waits for its turn: less than
	// Timing.Request, or whoever asked has given up.
	transferPatience = transferPause + 500*time.Millisecond
)

// transferHere has this leader hand over, to any voter when id is empty.
func (n *Node) transferHere(ctx context.Context, id string) error {
	l := n.lead.Load()
	switch {
	case l == nil:
		return errNotLeader()
	case id == n.id.NodeID:
		return nil
	case id != "" && !isVoter(n.servers(), id):
		return &client.Error{Code: client.CodeNotFound, Field: "node", Detail: "there is no voter " + id}
	}
	unlock, err := n.transferTurn(ctx, l, id)
	if err != nil {
		return err
	}
	defer unlock()
	l.tried = time.Now()
	if err := n.transferTo(id).Error(); err != nil {
		return transferError(err)
	}
	return nil
}

// transferTurn waits until a transfer may begin, and holds members then: a change
// of members goes first, and raft takes none meanwhile.
func (n *Node) transferTurn(ctx context.Context, l *leadership, id string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, transferPatience)
	defer cancel()
	n.askClocks() // who came back a moment ago may not have answered yet
	for {
		why := fmt.Sprintf("this leader leads for less than %v, or its members are changing", transferPause)
		if time.Since(l.since) >= transferPause && n.members.TryLock() {
			if why = n.transferFault(l, id); why == "" {
				return n.members.Unlock, nil
			}
			failed := !l.tried.IsZero()
			n.members.Unlock()
			if failed {
				return nil, errNotTransferred(why)
			}
		}
		select {
		case <-l.over:
			return nil, errNotLeader()
		case <-ctx.Done():
			return nil, errNotTransferred(why)
		case <-time.After(retryPause):
		}
	}
}

// transferFault tells why leadership may not be transferred now, or "". The
// caller holds members.
func (n *Node) transferFault(l *leadership, id string) string {
	switch since := time.Since(l.tried); {
	case !l.tried.IsZero() && since < transferRetry:
		return fmt.Sprintf("a transfer failed %v ago, the next may be tried in %v", since.Round(time.Second), (transferRetry - since).Round(time.Second))
	case id == "" && n.anyFit() == "":
		return "no other voter answers that can take entries"
	case id != "" && !n.works(id):
		return n.nameOf(id) + " does not answer, or takes no entries"
	}
	return ""
}

func errNotTransferred(why string) *client.Error {
	return &client.Error{Code: client.CodeConflict, Detail: "leadership was not transferred: " + why}
}

// transferError sorts raft's errors: what it refuses at once was not done. After
// its time is up, or an answer was lost, the target may have been asked to stand for
// election, and may win yet.
func transferError(err error) error {
	if errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout) {
		return errNotTransferred(err.Error())
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
