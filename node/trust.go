package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Who may talk to whom. A certificate of the cluster CA is not enough: every
// coordinator holds the CA key, so one that was removed could make certificates
// for ever. The replicated records say which key each node has.

// vouchTime bounds the question about a node that this replica does not know.
const vouchTime = 2 * time.Second

// trust remembers what other coordinators said of nodes whose records this
// replica has not applied yet.
type trust struct {
	mu      sync.Mutex
	vouched map[string]fsm.Coordinator // bounded by fsm.MaxCoordinators; guarded by mu
}

// checkPeer holds a verified certificate against the records. A replica may lag
// behind the node that calls, a leader that joined while it was away for
// instance: then a coordinator that it does know must vouch.
func (n *Node) checkPeer(p peerName) error {
	if n.isRemoved(p.id) {
		return fmt.Errorf("node %s was removed from the cluster: it may join again with an empty data directory", p.id)
	}
	role, key, known := n.recordOf(p.id)
	if !known {
		c, err := n.vouchFor(p.id)
		if err != nil {
			return err
		}
		role, key = c.Role, c.TLSKey
	}
	if p.tlsKey != key || p.role != role {
		return fmt.Errorf("node %s shows another key or role than the one it joined with", p.id)
	}
	return nil
}

// recordOf returns a node's recorded role and TLS key: from the state, or while
// that is behind from the member file or the join's answer.
func (n *Node) recordOf(id string) (role fsm.Role, key crypto.Hash, known bool) {
	if id == n.id.NodeID {
		public, err := tlsPublic(n.id.TLSKey)
		return n.id.Role, crypto.Sum(public), err == nil
	}
	n.machine.Read(func(s *fsm.State) {
		var c fsm.Coordinator
		c, known = s.Coordinator(id)
		role, key = c.Role, c.TLSKey
	})
	if known {
		return role, key, true
	}
	a, ok := n.book.recordOf(id)
	return a.Role, a.TLSKey, ok && !a.TLSKey.IsZero()
}

type memberRequest struct {
	ID string `cbor:"1,keyasint"`
}

// serveMember tells what this replica has on record of a node.
func (n *Node) serveMember(_ context.Context, _ string, req memberRequest) (fsm.Coordinator, error) {
	var c fsm.Coordinator
	var known bool
	n.machine.Read(func(s *fsm.State) { c, known = s.Coordinator(req.ID) })
	if !known {
		return c, &client.Error{Code: client.CodeNotFound, Detail: "no record of node " + req.ID}
	}
	return c, nil
}

// vouchFor asks the coordinators on record about a node that is not.
func (n *Node) vouchFor(id string) (fsm.Coordinator, error) {
	n.trust.mu.Lock()
	c, ok := n.trust.vouched[id]
	n.trust.mu.Unlock()
	if ok {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), vouchTime)
	defer cancel()
	known := n.book.coordinators(n.id.NodeID)
	answers := make(chan fsm.Coordinator, len(known))
	var asked sync.WaitGroup
	for _, witness := range known {
		asked.Go(func() {
			var c fsm.Coordinator
			if n.call(ctx, witness, rpcMember, memberRequest{ID: id}, &c) == nil && c.ID == id {
				answers <- c
				cancel() // one witness is enough
			}
		})
	}
	asked.Wait()
	select {
	case c := <-answers:
		n.trust.mu.Lock()
		defer n.trust.mu.Unlock()
		if len(n.trust.vouched) >= fsm.MaxCoordinators {
			clear(n.trust.vouched)
		}
		n.trust.vouched[id] = c
		return c, nil
	default:
		return c, fmt.Errorf("node %s is not on record here, and no coordinator that is vouches for it", id)
	}
}

// roleOf returns the role of a node that passed checkPeer.
func (n *Node) roleOf(id string) fsm.Role {
	if role, _, known := n.recordOf(id); known {
		return role
	}
	n.trust.mu.Lock()
	defer n.trust.mu.Unlock()
	return n.trust.vouched[id].Role
}

// mayCall checks a call on a connection that may be older than a removal.
func (n *Node) mayCall(from string, who callers) *client.Error {
	switch {
	case from == "" || n.isRemoved(from):
		return &client.Error{Code: client.CodeForbidden, Detail: "this node is no member of the cluster any more"}
	case who == coordinatorsOnly && n.roleOf(from) != fsm.RoleCoordinator:
		return &client.Error{Code: client.CodeForbidden, Detail: "only coordinators may ask this"}
	}
	return nil
}

// forwarded lists the kinds that a coordinator may forward for a caller that it
// authenticated. Genesis, ticks and admissions are the leader's own to make.
var forwarded = []fsm.Kind{
	fsm.KindTokenCreate, fsm.KindTokenRevoke, fsm.KindAgentEnroll, fsm.KindAgentSetState, fsm.KindPolicySet,
	fsm.KindBlacklistAppend, fsm.KindCoordinatorJoin, fsm.KindCoordinatorUpdate, fsm.KindCoordinatorRemove,
}

func (n *Node) mayPropose(from string, cmd fsm.Command) *client.Error {
	own := cmd.Kind == fsm.KindCoordinatorUpdate && cmd.Actor == (fsm.Actor{NodeID: from})
	switch {
	case own:
		return nil
	case cmd.Actor.NodeID != "" || !slices.Contains(forwarded, cmd.Kind):
		return &client.Error{Code: client.CodeForbidden, Detail: "a node speaks only for itself and for callers it authenticated"}
	case n.roleOf(from) != fsm.RoleCoordinator:
		return errObserver()
	}
	return nil
}

func (n *Node) isObserver() bool { return n.id.Role == fsm.RoleObserver }

func errObserver() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: "observer", RetryAfter: time.Second,
		Detail: "an observer answers reads only: ask a coordinator"}
}
