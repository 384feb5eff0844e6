package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// A removed node hears that it was from the coordinators on its record. One that
// was away until all of them had left the cluster too stands still for ever, and
// nobody that it knows is there to say why. Gossip still names members that came
// later. Their certificates show that they are, or were, coordinators of this
// cluster, and no more: so their word informs the operator, and stops nothing.

const (
	// strandedAfter is how long nobody on record answers before outsiders are asked:
	// longer than any election.
	strandedAfter = 15 * time.Second
	// outsiderPause is between two questions to the same one.
	outsiderPause = 30 * time.Second
	// maxOutsiders is how many are asked in one round of pings: one good answer does.
	maxOutsiders = 3
)

// outsiders are members by gossip that are not on this node's record.
type outsiders struct {
	alone time.Time            // since when nobody on record answers; the ping loop's own
	asked map[string]time.Time // by node id, of those that gossip shows now; the ping loop's own

	mu   sync.Mutex
	says string // which of them says that this node was removed; guarded by mu
}

// removedSays returns who says that this node was removed, or "".
func (o *outsiders) removedSays() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.says
}

func (o *outsiders) hear(id string, removed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case removed:
		o.says = id
	case o.says == id:
		o.says = ""
	}
}

// askOutsiders asks what the coordinators on record cannot answer any more. Duty
// of the ping loop.
func (n *Node) askOutsiders(ctx context.Context) {
	o := &n.outsiders
	if !n.deserted() {
		o.alone = time.Time{}
		if id := o.removedSays(); id != "" {
			o.hear(id, false)
		}
		return
	}
	if o.alone.IsZero() {
		o.alone = time.Now()
	}
	if time.Since(o.alone) < strandedAfter {
		return
	}
	var all sync.WaitGroup
	for _, card := range n.outsidersToAsk(time.Now()) {
		all.Go(func() { n.askOutsider(ctx, card) })
	}
	all.Wait()
	if id := o.removedSays(); id != "" && time.Since(n.removal.last) >= tellEvery {
		n.removal.last = time.Now()
		n.log.Warn(outsiderSaysRemoved, "coordinator", id, "data_dir", n.cfg.DataDir)
	}
}

// outsiderSaysRemoved is what a node says whose coordinators on record are silent.
const outsiderSaysRemoved = "no coordinator on record answers, and another one of this cluster says that this node was removed: if an administrator did that, " +
	"stop this server, move its data directory away, and start with --join and a new token (`edgecoder token create --role coordinator`); if nobody did, look at the other"

// deserted tells whether this node is one of several, and of the others on record
// none answered lately.
func (n *Node) deserted() bool {
	known := n.book.coordinators(n.id.NodeID)
	for _, id := range known {
		if n.fresh(id) {
			return false
		}
	}
	return len(known) > 0 && n.expelled() == nil
}

// outsidersToAsk returns the cards of the next few, and notes that they are asked.
func (n *Node) outsidersToAsk(now time.Time) (cards []gossip.Card) {
	o, seen := &n.outsiders, map[string]time.Time{}
	for _, m := range n.pool.Members() {
		id := m.Card.NodeID
		if m.State != gossip.StateUntrusted || m.Card.Role != string(fsm.RoleCoordinator) || n.isRemoved(id) {
			continue
		}
		at, before := o.asked[id]
		if len(cards) < maxOutsiders && (!before || now.Sub(at) >= outsiderPause) {
			cards, at = append(cards, m.Card), now
		}
		seen[id] = at
	}
	o.asked = seen
	return cards
}

// askOutsider pings one. A good answer says that this node is a member after all.
func (n *Node) askOutsider(ctx context.Context, card gossip.Card) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Peer)
	defer cancel()
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { // ends with the call, see knock
			return n.dialer.dialOutsider(ctx, card.NodeID, card.Raft)
		}}}
	err := n.callOver(ctx, once, card.NodeID, rpcPing, pingRequest{WallMs: n.wallMs()}, &pingReply{})
	if removed := saysRemoved(err); removed || err == nil {
		n.outsiders.hear(card.NodeID, removed)
	}
}

// dialOutsider reaches a coordinator that is not on record: whoever has its
// certificate of this cluster's CA and was not removed.
func (d *peerDialer) dialOutsider(ctx context.Context, nodeID, addr string) (net.Conn, error) {
	if d.shut.Load() {
		return nil, &dialError{errors.New("this node is ending")}
	}
	config := d.creds.dial(protoRPC, nodeID)
	config.VerifyConnection = func(s tls.ConnectionState) error {
		peer, err := d.creds.identify(s, nodeID)
		if err == nil && peer.role != fsm.RoleCoordinator {
			err = fmt.Errorf("node %s is an %s", peer.id, peer.role)
		}
		return err
	}
	conn, err := d.secure(ctx, addr, config)
	if err != nil {
		return nil, &dialError{fmt.Errorf("node %s at %s: %w", nodeID, addr, err)}
	}
	return conn, nil
}
