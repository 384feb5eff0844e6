package node

import (
	"context"
	"errors"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// wantedShared reads from the state which shared keys count now. Before
// fsm.LevelKeys it does not speak of them.
func (n *Node) wantedShared() (w wanted, ok bool) {
	n.machine.Read(func(s *fsm.State) {
		if ok = s.Meta().Level >= fsm.LevelKeys; !ok {
			return
		}
		w.asOf = s.Index()
		w.gossip = n.wantedOf(s, fsm.SubjectGossip)
		w.cas = n.wantedOf(s, fsm.SubjectCA)
		for _, c := range s.Coordinators() {
			for _, k := range c.Ring() {
				if k.RevokedAt == 0 {
					w.senders = append(w.senders, k.Public)
				}
			}
		}
	})
	return w, ok
}

// wantedOf lists the keys of one subject that count: the active one, the next, and
// those that retire, the newest of them first.
func (n *Node) wantedOf(s *fsm.State, kind fsm.SubjectKind) []wantedKey {
	ring, _ := s.KeyRing(fsm.Subject{Kind: kind})
	byState := map[fsm.KeyState][]wantedKey{}
	for i, k := range slices.Backward(ring) {
		state := ring.StateOf(i, s.ClockMs())
		w := wantedKey{id: crypto.Hash(k.Public), data: k.Shared.Data, retiring: state == fsm.KeyRetiring}
		for _, c := range k.Shared.Copies {
			if c.NodeID == n.id.NodeID {
				w.sealed = c.Sealed
			}
		}
		byState[state] = append(byState[state], w)
	}
	return slices.Concat(byState[fsm.KeyActive], byState[fsm.KeyNext], byState[fsm.KeyRetiring])
}

// sayReady tells what this node holds: each next key to the log, and all of them
// to the pool, where the leader hears it of members that no record knows.
func (n *Node) sayReady(ctx context.Context) {
	if _, speaks := n.wantedShared(); !speaks {
		return
	}
	have := n.shared.Load()
	if !slices.Equal(n.said, have.acks()) {
		if err := n.pool.Acknowledge(have.acks()); err == nil {
			n.said = have.acks()
		} else if !errors.Is(err, gossip.ErrClosed) {
			n.log.Warn("the pool is not told which keys this node holds", "error", err)
		}
	}
	for _, ready := range n.readyNow(have) {
		cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, ready)
		if err != nil {
			continue
		}
		if res, err := n.Propose(ctx, cmd); err != nil || !res.OK() {
			n.log.Debug("the cluster does not know yet that this node holds a key", "subject", ready.Subject, "error", err, "code", res.Code)
		}
	}
}

// readyNow lists the next keys that this node holds and has not said so.
func (n *Node) readyNow(have *sharedSet) (out []fsm.KeyReady) {
	n.machine.Read(func(s *fsm.State) {
		for _, kind := range []fsm.SubjectKind{fsm.SubjectGossip, fsm.SubjectCA} {
			of := fsm.Subject{Kind: kind}
			k, known := s.KeyStanding(of, s.ClockMs())
			if !known || k.Pending < 0 {
				continue
			}
			key := k.Ring[k.Pending]
			if _, said := slices.BinarySearch(key.Shared.Ready, n.id.NodeID); !said && have.holds(kind, crypto.Hash(key.Public), n.id.Role) {
				out = append(out, fsm.KeyReady{Subject: of.String(), Key: key.Public.Fingerprint()})
			}
		}
	})
	return out
}

// holds tells whether a node of a role can do with a key what it is for.
func (s *sharedSet) holds(kind fsm.SubjectKind, id crypto.Hash, role fsm.Role) bool {
	if kind == fsm.SubjectGossip {
		return slices.ContainsFunc(s.ring, func(key []byte) bool { return poolKeyID(key) == id })
	}
	a, ok := s.authority(id)
	return ok && (len(a.Key) > 0 || role != fsm.RoleCoordinator)
}

// acks names what a set holds, for the pool.
func (s *sharedSet) acks() (out []gossip.AckID) {
	for _, key := range s.ring {
		out = append(out, ackOf(poolKeyID(key)))
	}
	for _, a := range s.cas {
		out = append(out, ackOf(a.id()))
	}
	return out
}

func ackOf(id crypto.Hash) (a gossip.AckID) {
	copy(a[:], id[:])
	return a
}
