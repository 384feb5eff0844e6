package node

import (
	"context"
	"crypto/tls"
	"maps"
	"sync"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// Whom a node believes before it has a state. A joiner knows the CA that its token
// pins, so it knows who the seed is that answered it, and nobody else: the answer's
// records are the seed's word, and the seed may have been taken over. It takes
// addresses from them, which prove nothing. Who the others are the seed is asked
// when they call, as a witness whose word ends with its membership (vouch). All of
// this ends when the state has this node's own record: from then on the state knows
// every member that was there before.

// introduced is what a joiner may believe of a seed's records: where nodes listen,
// and of the seed itself who it is. The zero peerName introduces nobody.
func introduced(told memberFile, seed peerName) memberFile {
	out := memberFile{Members: map[string]peerAddress{}}
	for id, a := range told.Members {
		if len(out.Members) < fsm.MaxCoordinators {
			out.Members[id] = peerAddress{Name: a.Name, API: a.API, Raft: a.Raft, Gossip: a.Gossip}
		}
	}
	if seed.id != "" {
		out.Members[seed.id] = told.Members[seed.id].provedBy(seed)
	}
	return out
}

// provedBy is an address with who its certificate says is there.
func (a peerAddress) provedBy(p peerName) peerAddress {
	return peerAddress{Name: a.Name, API: a.API, Raft: a.Raft, Gossip: a.Gossip, Role: p.role, TLSKey: p.tlsKey}
}

// introduce notes who was met by its certificate, for as long as there is no state: the
// key that it has now may be the one after that of the join.
func (b *addressBook) introduce(p peerName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, told := b.Members[p.id]; b.Index == 0 && told && a.TLSKey != p.tlsKey {
		b.Members = maps.Clone(b.Members)
		b.Members[p.id] = a.provedBy(p)
		b.write()
	}
}

// onRecord returns the record of another node: from the state, or while that is
// behind what this node knew before, from the member file.
func (n *Node) onRecord(id string) (c fsm.Coordinator, known bool) {
	a, asOf, listed := n.book.recordOf(id)
	n.machine.Read(func(s *fsm.State) {
		_, begun := s.Coordinator(n.id.NodeID)
		if s.Index() >= asOf && (asOf > 0 || begun || !listed) {
			c, known = s.Coordinator(id)
			return
		}
		c, known = fsm.Coordinator{ID: id, Role: a.Role, TLSKey: a.TLSKey, TLSKeys: a.tlsRing(), SigningKey: a.SigningKey, Keys: a.ring()}, listed && !a.TLSKey.IsZero()
	})
	return c, known
}

// hasBegun tells whether the state has this node's own record.
func (n *Node) hasBegun() (yes bool) {
	n.machine.Read(func(s *fsm.State) { _, yes = s.Coordinator(n.id.NodeID) })
	return yes
}

// doubtBook holds the member file against the log, once that is open: what a seed
// once told with an index beyond all logs would else outlive every record.
func (n *Node) doubtBook() error {
	last, err := n.store.Logs.LastIndex()
	if err != nil {
		return err
	}
	snapshot, _ := n.newestSnapshot()
	n.book.doubt(max(last, snapshot))
	return nil
}

// meetSeeds meets the seeds that the operator named, so that a joiner whose own seed
// is gone has whom to ask about the others.
func (n *Node) meetSeeds() {
	if n.hasBegun() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), vouchTime)
	defer cancel()
	pinned := crypto.TokenText{ClusterID: n.id.ClusterID, Pin: n.shared.Load().active().id().String()}
	var asked sync.WaitGroup
	for _, seed := range n.cfg.Join {
		asked.Go(func() {
			conn, err := dialSeed(ctx, n.cfg, seed, joinDial(pinned), vouchTime)
			if err != nil {
				return
			}
			defer conn.Close()
			if secure, ok := conn.(*tls.Conn); ok {
				if p, err := nameOf(secure.ConnectionState().PeerCertificates[0]); err == nil {
					n.book.introduce(p)
				}
			}
		})
	}
	asked.Wait()
}
