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

// keys returns the signing keys that have not ended of the node that the vouch is
// for. Those that are to come count: the clock of a replica that is behind is too.
func (v vouch) keys(nowMs int64) []crypto.PublicKey {
	ring := v.Coordinator.Ring()
	out := ring.Beside(nowMs)
	if k, ok := ring.Active(nowMs); ok {
		out = append(out, k.Public)
	}
	return out
}

func (n *Node) stands(v vouch) bool {
	index, _ := n.machine.Index()
	_, known := n.recordOf(v.witness)
	return index < v.Since && known && !n.isRemoved(v.witness) && time.Since(v.at) < vouchLife
}

// checkPeer holds a verified certificate against the records. A replica may lag
// behind the node that calls, a leader that joined while it was away for
// instance: then a coordinator that it does know must vouch.
func (n *Node) checkPeer(p peerName) error {
	if err := n.removedPeer(p); err != nil {
		return err
	}
	have, known := n.recordOf(p.id)
	if known && !n.hasBegun() && !n.provesItself(p, have, false) && n.vouches.Allow() {
		n.meetSeeds() // one may have another key by now than when this node joined
		have, known = n.recordOf(p.id)
	}
	if !known {
		v, err := n.vouchFor(p.id)
		if err != nil {
			return err
		}
		have = v.Coordinator
	}
	if p.role != have.Role || !n.provesItself(p, have, !known) {
		return fmt.Errorf("node %s shows another role than it has, or a key that is none of its own, or not any more", p.id)
	}
	return nil
}

// removedPeer tells of a removed node that it is one. What is remembered of it has its
// key: others make certificates for its id, and would take the farewells that are for it.
func (n *Node) removedPeer(p peerName) (err error) {
	n.machine.Read(func(s *fsm.State) {
		switch gone, removed := s.Removal(p.id); {
		case removed && !gone.HasTLSKey(p.tlsKey):
			err = fmt.Errorf("node %s was removed, and this is not its key", p.id)
		case removed:
			err = fmt.Errorf("node %s: %w", p.id, errRemoved)
		}
	})
	return err
}

// unwelcome tells whether an open connection with a node must end: it is on record no
// more, or never was and nobody vouches any longer, or its key is over.
func (n *Node) unwelcome(p peerName) bool {
	if n.isRemoved(p.id) {
		return true
	}
	if have, known := n.recordOf(p.id); known {
		return !n.provesItself(p, have, false)
	}
	_, vouched := n.vouchedFor(p.id)
	return !vouched
}

// recordOf returns what is on record of a node that has a TLS key. Of this node those
// keys count too that it holds and its replica does not know yet.
func (n *Node) recordOf(id string) (c fsm.Coordinator, known bool) {
	if id != n.id.NodeID {
		c, known = n.onRecord(id)
		return c, known && len(c.TLSRing()) > 0
	}
	c = fsm.Coordinator{ID: id, Role: n.id.Role}
	if n.machine != nil {
		n.machine.Read(func(s *fsm.State) { c.TLSKeys, _ = s.KeyRing(fsm.CertificateSubject(id)) })
	}
	for _, k := range n.creds.held() {
		if !inRing(c.TLSKeys, k.name) {
			c.TLSKeys = append(slices.Clone(c.TLSKeys), fsm.Key{Public: crypto.PublicKey(k.name)})
		}
	}
	return c, true
}

// provesItself tells whether a node proves by its certificate's key that it is the one
// on record. Where this replica may lag, so may its clock: then keys that are
// to come count too, and those of which the certificate proves that they came since.
func (n *Node) provesItself(p peerName, have fsm.Coordinator, lags bool) bool {
	clock := n.clusterClockMs()
	if counts(have.TLSRing(), p.tlsKey, clock, false) {
		return true
	}
	return (lags || n.lags()) && (counts(have.TLSRing(), p.tlsKey, clock, true) || p.proof.proves(n.id.ClusterID, have, p.tlsKey, n.oldestOrderMs()))
}

// counts tells whether a key of a ring verifies at a time, or is to come where that
// counts.
func counts(ring fsm.Ring, key crypto.Hash, nowMs int64, toCome bool) bool {
	i := slices.IndexFunc(ring, func(k fsm.Key) bool { return crypto.Hash(k.Public) == key })
	if i < 0 {
		return false
	}
	switch ring.StateOf(i, nowMs) {
	case fsm.KeyActive, fsm.KeyRetiring:
		return true
	case fsm.KeyNext:
		return toCome
	}
	return false
}

// clusterClockMs is the cluster clock as this replica has it; 0 before there is one.
func (n *Node) clusterClockMs() (clock int64) {
	if n.machine == nil {
		return 0
	}
	n.machine.Read(func(s *fsm.State) { clock = s.ClockMs() })
	return clock
}

// oldestOrderMs is when an order may have been signed that this replica has not heard
// of: one that is older would be on record here.
func (n *Node) oldestOrderMs() (ms int64) {
	if n.machine != nil {
		n.machine.Read(func(s *fsm.State) { ms = s.ClockMs() - s.Policy().MaxSkewMs })
	}
	return ms
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
			if k.NodeID == req.ID && (r.Since == 0 || k.Since < r.Since) { // its first key came with the node
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
		n.meetSeeds()
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
	_, asOf, _ := n.book.recordOf(id) // it knows who has left since an older entry
	var l raft.Log
	for i := last; i >= max(first, applied+1, asOf+1, 1) && last-i < maxScan; i-- {
		if n.store.Logs.GetLog(i, &l) != nil || l.Type != raft.LogCommand {
			continue
		}
		if c, ok := takesIn(l.Data); ok && c.ID == id {
			return vouch{memberReply: memberReply{Coordinator: c, Since: i}, witness: n.id.NodeID, at: time.Now()}, true
		}
	}
	return vouch{}, false
}

// takesIn returns the member that an entry takes in, if it is of that kind.
func takesIn(entry []byte) (c fsm.Coordinator, ok bool) {
	cmd, err := fsm.DecodeCommand(entry)
	if err != nil {
		return c, false
	}
	switch cmd.Kind {
	case fsm.KindGenesis:
		body, err := fsm.BodyOf[fsm.Genesis](cmd)
		return body.Coordinator, err == nil
	case fsm.KindCoordinatorJoin:
		body, err := fsm.BodyOf[fsm.CoordinatorJoin](cmd)
		return body.Coordinator, err == nil
	}
	return c, false
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
	if c, known := n.recordOf(id); known {
		return c.Role, true
	}
	v, ok := n.vouchedFor(id)
	return v.Coordinator.Role, ok
}

// mayCall checks a call on a connection that may be older than a removal.
func (n *Node) mayCall(peer peerName, who callers) *client.Error {
	from := peer.id
	role, known := n.roleOf(from)
	switch {
	case n.isRemoved(from):
		return wasRemoved(from)
	case n.unwelcome(peer) && known:
		// Nothing was done: a node whose key retired asks again, by the next one.
		return &client.Error{Code: client.CodeUnavailable, Reason: reasonKeyOver, Detail: "the key of this connection is none of node " + from + " any more"}
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
	fsm.KindEdgeJoin,
	fsm.KindKeyScheduleSet, fsm.KindKeyPrepare, fsm.KindKeyRotate, fsm.KindKeyRevoke, fsm.KindKeyRecover,
}

// ownKinds lists what a node says of itself, whatever its role: Apply holds it to
// the node that said it.
var ownKinds = []fsm.Kind{fsm.KindCoordinatorUpdate, fsm.KindKeyPrepare, fsm.KindKeyReady}

func (n *Node) mayPropose(from string, cmd fsm.Command) *client.Error {
	if preparesShared(cmd) {
		return &client.Error{Code: client.CodeForbidden, Detail: "the leader alone makes what all share"}
	}
	role, _ := n.roleOf(from)
	own := slices.Contains(ownKinds, cmd.Kind) && cmd.Actor == (fsm.Actor{NodeID: from})
	switch {
	case own:
		return nil
	case cmd.Actor.NodeID != "" || cmd.Actor.Via != "" || !slices.Contains(forwarded, cmd.Kind):
		return &client.Error{Code: client.CodeForbidden, Detail: "a node speaks only for itself and for callers it authenticated"}
	case role != fsm.RoleCoordinator:
		return errObserver()
	}
	return nil
}

// preparesShared tells whether a command brings a key that coordinators share. A
// compromised one must not make those that come after its own.
func preparesShared(cmd fsm.Command) bool {
	if cmd.Kind != fsm.KindKeyPrepare {
		return cmd.Kind == fsm.KindKeySwitch
	}
	b, err := fsm.BodyOf[fsm.KeyPrepare](cmd)
	of, _ := fsm.ParseSubject(b.Subject)
	return err != nil || of.Kind.Shared()
}

// through has a command name the node that authenticated its caller, once every
// server reads that. Only the leader writes it: the certificate told it.
func (n *Node) through(node string, cmd fsm.Command) fsm.Command {
	if level, _ := n.clusterLevel(); level >= fsm.LevelThrough && cmd.Actor.NodeID == "" {
		cmd.Actor.Via = node
	}
	return cmd
}

func (n *Node) isObserver() bool { return n.id.Role == fsm.RoleObserver }

func errObserver() *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: "observer", RetryAfter: time.Second,
		Detail: "an observer answers reads only: ask a coordinator"}
}
