package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Who may talk to whom. A certificate of the cluster CA is not enough: every
// coordinator holds the CA key, so one that was removed could make certificates
// for ever. The replicated records say which key each node has.

// vouchTime bounds the question about a node that this replica does not know.
const vouchTime = 2 * time.Second

// vouchRate is how many strangers a second are asked about: each question goes
// to every coordinator on record.
const vouchRate = 5

// vouchLife is how long a vouch counts at most: a lagging replica catches up,
// or asks again.
const vouchLife = time.Minute

// trust remembers what other coordinators said of nodes whose records this
// replica has not applied yet.
type trust struct {
	mu      sync.Mutex
	vouched map[string]vouch // bounded by fsm.MaxCoordinators; guarded by mu
}

// vouch is one coordinator's word for a node. It counts only while this replica
// has not applied the entry that is said to have taken the node in, and while
// the witness itself is a member: whoever was removed vouches for nobody.
type vouch struct {
	memberReply
	witness string
	at      time.Time
}

// memberReply is a record and the index of the entry that made it.
type memberReply struct {
	Coordinator fsm.Coordinator `cbor:"1,keyasint"`
	Since       uint64          `cbor:"2,keyasint"`
}

func (n *Node) stands(v vouch) bool {
	index, _ := n.machine.Index()
	_, _, known := n.recordOf(v.witness)
	return index < v.Since && known && !n.isRemoved(v.witness) && time.Since(v.at) < vouchLife
}

// checkPeer holds a verified certificate against the records. A replica may lag
// behind the node that calls, a leader that joined while it was away for
// instance: then a coordinator that it does know must vouch.
func (n *Node) checkPeer(p peerName) error {
	if n.isRemoved(p.id) {
		return fmt.Errorf("node %s: %w", p.id, errRemoved)
	}
	role, key, known := n.recordOf(p.id)
	if !known {
		v, err := n.vouchFor(p.id)
		if err != nil {
			return err
		}
		role, key = v.Coordinator.Role, v.Coordinator.TLSKey
	}
	if p.tlsKey != key || p.role != role {
		return fmt.Errorf("node %s shows another key or role than the one it joined with", p.id)
	}
	return nil
}

// unwelcome tells whether an open connection of a node must end: it is on
// record no more, or never was and nobody vouches any longer.
func (n *Node) unwelcome(id string) bool {
	if n.isRemoved(id) {
		return true
	}
	_, known := n.roleOf(id)
	return !known
}

// recordOf returns a node's recorded role and TLS key: from the state, or while
// that is behind what this node knew before, from the member file or the join's
// answer.
func (n *Node) recordOf(id string) (role fsm.Role, key crypto.Hash, known bool) {
	if id == n.id.NodeID {
		public, err := tlsPublic(n.id.TLSKey)
		return n.id.Role, crypto.Sum(public), err == nil
	}
	a, asOf, ok := n.book.recordOf(id)
	n.machine.Read(func(s *fsm.State) {
		if s.Index() < asOf {
			role, key, known = a.Role, a.TLSKey, ok && !a.TLSKey.IsZero()
			return
		}
		var c fsm.Coordinator
		c, known = s.Coordinator(id)
		role, key = c.Role, c.TLSKey
	})
	return role, key, known
}

type memberRequest struct {
	ID string `cbor:"1,keyasint"`
}

// serveMember tells what this replica has on record of a node.
func (n *Node) serveMember(_ context.Context, _ string, req memberRequest) (memberReply, error) {
	var r memberReply
	var known bool
	n.machine.Read(func(s *fsm.State) {
		r.Coordinator, known = s.Coordinator(req.ID)
		for _, k := range s.SigningKeys() {
			if k.NodeID == req.ID {
				r.Since = k.Since
			}
		}
	})
	if !known {
		return r, &client.Error{Code: client.CodeNotFound, Detail: "no record of node " + req.ID}
	}
	return r, nil
}

// vouchFor asks the coordinators on record about a node that is not. A leader
// lags behind nobody and asks nobody.
func (n *Node) vouchFor(id string) (vouch, error) {
	stranger := fmt.Errorf("node %s is not on record, and no coordinator on record vouches for it: if this node was away for long, empty its data directory and join again", id)
	if v, ok := n.vouchedFor(id); ok {
		return v, nil
	}
	if !n.vouches.Allow() {
		return vouch{}, stranger
	}
	if v, ok := n.joinInLog(id); ok {
		return n.remember(v), nil
	}
	if n.lead.Load() != nil {
		return vouch{}, stranger
	}
	ctx, cancel := context.WithTimeout(context.Background(), vouchTime)
	defer cancel()
	known := n.book.coordinators(n.id.NodeID)
	answers := make(chan vouch, len(known))
	var asked sync.WaitGroup
	for _, witness := range known {
		asked.Go(func() {
			var r memberReply
			if n.call(ctx, witness, rpcMember, memberRequest{ID: id}, &r) == nil && r.Coordinator.ID == id {
				answers <- vouch{memberReply: r, witness: witness, at: time.Now()}
				cancel() // one witness is enough
			}
		})
	}
	asked.Wait()
	select {
	case v := <-answers:
		if !n.stands(v) {
			return vouch{}, stranger
		}
		return n.remember(v), nil
	default:
		return vouch{}, stranger
	}
}

func (n *Node) remember(v vouch) vouch {
	n.trust.mu.Lock()
	defer n.trust.mu.Unlock()
	if len(n.trust.vouched) >= fsm.MaxCoordinators {
		clear(n.trust.vouched)
	}
	n.trust.vouched[v.Coordinator.ID] = v
	return v
}

// maxScan bounds how many unapplied entries are looked through for a join; a
// log rarely holds more than what is kept behind a snapshot.
const maxScan = 4 * trailingLogs

// joinInLog looks for a node's join among the entries that this replica has
// and has not applied. Without it nobody might ever apply them: a majority is
// needed for that, and the new node may be part of the only one there is.
func (n *Node) joinInLog(id string) (vouch, bool) {
	applied, _ := n.machine.Index()
	last, err := n.store.Logs.LastIndex()
	if err != nil {
		return vouch{}, false
	}
	first, err := n.store.Logs.FirstIndex()
	if err != nil {
		return vouch{}, false
	}
	var l raft.Log
	for i := last; i >= max(first, applied+1, 1) && last-i < maxScan; i-- {
		if n.store.Logs.GetLog(i, &l) != nil || l.Type != raft.LogCommand {
			continue
		}
		cmd, err := fsm.DecodeCommand(l.Data)
		if err != nil || cmd.Kind != fsm.KindCoordinatorJoin {
			continue
		}
		body, err := fsm.BodyOf[fsm.CoordinatorJoin](cmd)
		if err == nil && body.Coordinator.ID == id {
			return vouch{memberReply: memberReply{Coordinator: body.Coordinator, Since: i}, witness: n.id.NodeID, at: time.Now()}, true
		}
	}
	return vouch{}, false
}

// vouchedFor returns a vouch that still stands.
func (n *Node) vouchedFor(id string) (vouch, bool) {
	n.trust.mu.Lock()
	v, ok := n.trust.vouched[id]
	n.trust.mu.Unlock()
	if ok && !n.stands(v) {
		n.trust.mu.Lock()
		delete(n.trust.vouched, id)
		n.trust.mu.Unlock()
		return vouch{}, false
	}
	return v, ok
}

// roleOf returns the role of a node that is on record or vouched for.
func (n *Node) roleOf(id string) (fsm.Role, bool) {
	if role, _, known := n.recordOf(id); known {
		return role, true
	}
	v, ok := n.vouchedFor(id)
	return v.Coordinator.Role, ok
}

// mayCall checks a call on a connection that may be older than a removal.
func (n *Node) mayCall(from string, who callers) *client.Error {
	role, known := n.roleOf(from)
	switch {
	case n.isRemoved(from):
		return wasRemoved(from)
	case !known:
		return &client.Error{Code: client.CodeForbidden, Detail: "this node is no member of the cluster any more"}
	case who == coordinatorsOnly && role != fsm.RoleCoordinator:
		return &client.Error{Code: client.CodeForbidden, Detail: "only coordinators may ask this"}
	}
	return nil
}

// forwarded lists the kinds that a coordinator may forward for a caller that it
// authenticated. Genesis, ticks and admissions are the leader's own to make.
var forwarded = []fsm.Kind{
	fsm.KindTokenCreate, fsm.KindTokenRevoke, fsm.KindAgentEnroll, fsm.KindAgentSetState, fsm.KindPolicySet,
	fsm.KindBlacklistAppend, fsm.KindCoordinatorJoin, fsm.KindCoordinatorUpdate, fsm.KindCoordinatorRemove,
	fsm.KindClockRecover, fsm.KindManifestTrustSet, fsm.KindManifestAccept, fsm.KindManifestRevoke, fsm.KindAgentRekey,
	fsm.KindLedgerPolicySet, fsm.KindLedgerAccountSet, fsm.KindLedgerBatch, fsm.KindLedgerReports, fsm.KindLedgerConfirm,
}

func (n *Node) mayPropose(from string, cmd fsm.Command) *client.Error {
	role, _ := n.roleOf(from)
	own := cmd.Kind == fsm.KindCoordinatorUpdate && cmd.Actor == (fsm.Actor{NodeID: from})
	switch {
	case own:
		return nil
	case cmd.Actor.NodeID != "" || !slices.Contains(forwarded, cmd.Kind):
		return &client.Error{Code: client.CodeForbidden, Detail: "a node speaks only for itself and for callers it authenticated"}
	case role != fsm.RoleCoordinator:
		return errObserver()
	}
	return nil
}

func (n *Node) isObserver() bool { return n.id.Role == fsm.RoleObserver }

func errObserver() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: "observer", RetryAfter: time.Second,
		Detail: "an observer answers reads only: ask a coordinator"}
}
