package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// Gossip tells who is here and how long each member's chain is. It never
// grants: a card only counts if its key is enrolled, and a head only says
// where to look.

const headLabel = "chain head v1"

// chainHead is the signed statement of how far a member's replica is.
type chainHead struct {
	_         struct{} `cbor:",toarray"`
	Epoch     uint64
	Size      uint64
	Head      string
	Index     uint64
	Signature []byte
}

func (h chainHead) parts(clusterID, nodeID string) [][]byte {
	return [][]byte{[]byte(clusterID), []byte(nodeID), fmt.Appendf(nil, "%d %d %d", h.Epoch, h.Size, h.Index), []byte(h.Head)}
}

func parseHead(data []byte) (chainHead, error) {
	var h chainHead
	if len(data) == 0 {
		return h, errors.New("no head")
	}
	err := fsm.Decode(data, &h)
	return h, err
}

// startGossip makes the card and joins the pool.
func (n *Node) startGossip() error {
	// A node none of whose keys verifies starts all the same, or nobody could have it
	// bring another: the others do not trust its card until then.
	key, verifies := n.signingPublic()
	if !verifies {
		key = n.signer.oldest()
		n.log.Warn("this node starts with a card that others do not trust", "error", errNoSigningKey())
	}
	card, err := n.cardBy(key)
	if err != nil {
		return err
	}
	n.keyRounds.card = key
	onStream := newJoinDoor(n.face.muxes[0], n.creds.joinServer(), n.joins.Deliver).open // of the port that strangers call
	if n.id.Role != fsm.RoleCoordinator {
		onStream = nil // only coordinators take nodes in
	}
	sockets, err := n.cfg.net().gossip(n.cfg.GossipAddr)
	if err != nil {
		return err
	}
	n.pool, err = gossip.Start(gossip.Config{
		ClusterID: n.id.ClusterID, Card: card, BindAddr: n.cfg.GossipAddr, Sockets: sockets, PoolKeys: n.shared.Load().ring,
		Seeds: n.seeds, Profile: n.cfg.Timing.Gossip,
		OnStream: onStream, MemberAt: n.isMemberAt, Trust: n.trustCard, OnHead: n.acceptHead, OnNews: n.passOn, Now: n.cfg.Now, Log: n.log.With("part", "gossip"),
	})
	return err
}

// cardBy makes this node's card, signed with a key that it holds.
func (n *Node) cardBy(key crypto.PublicKey) (gossip.Card, error) {
	card := gossip.Card{ClusterID: n.id.ClusterID, NodeID: n.id.NodeID, Name: n.cfg.Name, Role: string(n.id.Role),
		API: n.cfg.APIAddr, Raft: n.cfg.raftAddr(), Gossip: n.cfg.GossipAddr, IssuedMs: time.Now().UnixMilli()}
	n.machine.Read(func(s *fsm.State) { card.Recovery = s.Meta().Recovery() })
	private := n.signer.private(key)
	if private == nil {
		return card, errNoSigningKey()
	}
	defer clear(private)
	return card, card.Sign(private)
}

// seeds are the gossip addresses to try: of the records, and those the operator
// gave, which help when every recorded address has changed. Where a recovery left
// copies behind it also looks: if one of them runs, both sides must know.
func (n *Node) seeds() []string {
	out := n.book.gossipSeeds(n.id.NodeID)
	more := slices.Clone(n.cfg.Join)
	n.machine.Read(func(s *fsm.State) {
		for _, gone := range s.Removed() {
			more = append(more, gone.LeftAt)
		}
	})
	for _, a := range more {
		if a != "" && a != n.cfg.GossipAddr && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// trustCard tells whether a card's key is the enrolled one of its node. Before
// this replica has applied anything, the member file stands in for the records.
func (n *Node) trustCard(c gossip.Card) bool {
	keys, known := n.enrolledKeys(c.NodeID)
	if !known {
		n.hearRival(c)
	}
	return slices.Contains(keys, c.Key)
}

// enrolledKeys returns the keys of a node that verify now; known is false if it is
// no member.
func (n *Node) enrolledKeys(id string) (keys []crypto.PublicKey, known bool) {
	c, known := n.onRecord(id)
	if known = known && !c.SigningKey.IsZero(); known {
		return c.Ring().Verifying(n.clockMs()), true
	}
	n.machine.Read(func(s *fsm.State) {
		if e, edge := s.Edge(id); edge {
			keys, known = []crypto.PublicKey{e.SigningKey}, true
		}
	})
	if !known && !n.isRemoved(id) {
		if v, ok := n.vouchedFor(id); ok {
			return v.keys(n.clockMs()), true
		}
		if n.vouches.Allow() { // it may have joined in entries that are not applied yet
			if v, ok := n.joinInLog(id); ok {
				return n.remember(v).keys(n.clockMs()), true
			}
		}
	}
	return keys, known
}

// hearMembers notes the addresses of the cards that gossip adopted.
func (n *Node) hearMembers() {
	for _, m := range n.pool.Members() {
		c := m.Card
		if c.NodeID != n.id.NodeID && c.Role != string(fsm.RoleEdge) && (m.State == gossip.StateAlive || m.State == gossip.StateSuspect) {
			n.book.hear(c.NodeID, peerAddress{Name: c.Name, API: c.API, Raft: c.Raft, Gossip: c.Gossip, Reached: m.Addr})
		}
	}
}

// acceptHead keeps a member's head if it is signed by its enrolled key.
func (n *Node) acceptHead(from string, data []byte) bool {
	h, err := parseHead(data)
	if err != nil {
		return false
	}
	keys, known := n.enrolledKeys(from)
	was := n.heads[from]
	signed := slices.ContainsFunc(keys, func(key crypto.PublicKey) bool {
		return crypto.VerifyText(key, h.Signature, headLabel, h.parts(n.id.ClusterID, from)...)
	})
	if !known || !signed || !n.heads.rises(from, h) {
		return false
	}
	n.hearEnforced(was, h)
	n.hearEpoch(from, h.Epoch)
	return true
}

// newsLoop follows the state: it announces a new head, writes down new member
// addresses, and lets gossip look again at whom to trust.
func (n *Node) newsLoop(ctx context.Context) {
	var announced chainHead
	var announcedBy crypto.PublicKey
	var level levelNote
	for {
		level = n.noteLevel(level)
		h := chainHead{}
		n.machine.Read(func(s *fsm.State) {
			h.Head, h.Size = s.Chain()
			h.Epoch, h.Index = s.Meta().Epoch, s.Index()
		})
		n.enforcement.grew(h.Epoch, h.Size, time.Now())
		// The cluster may go on without an epoch that is not confirmed.
		by, _ := n.signingPublic()
		if h.Epoch > 0 && n.unconfirmed() == nil && (h.Epoch != announced.Epoch || h.Head != announced.Head || by != announcedBy) {
			if err := n.announceHead(h); err != nil {
				n.log.Warn("cannot announce the chain's head", "error", err)
			}
			announced, announcedBy = h, by
		}
		if n.membersMoved.Swap(false) {
			n.book.record(n.memberRecords())
			n.pool.Recheck()
			n.rpc.CloseIdleConnections() // pooled ones may lead to a node that was removed
			n.dropUnwelcome()
			n.describeSelf(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.news:
		}
	}
}

// dropUnwelcome closes connections with nodes that they are not any more.
func (n *Node) dropUnwelcome() {
	for _, m := range n.face.muxes {
		m.drop(n.unwelcome)
	}
	n.dialer.drop(n.unwelcome)
}

// announceHead signs a head and has gossip tell it.
func (n *Node) announceHead(h chainHead) error {
	key, err := n.signingKey()
	if err != nil {
		return err
	}
	defer clear(key)
	h.Signature = crypto.SignText(key, headLabel, h.parts(n.id.ClusterID, n.id.NodeID)...)
	data, err := fsm.Encode(h)
	if err != nil {
		return err
	}
	return n.pool.SetHead(data)
}

// memberRecords returns the records of the state as this replica has it.
func (n *Node) memberRecords() memberFile {
	out := memberFile{Members: map[string]peerAddress{}}
	n.machine.Read(func(s *fsm.State) {
		out.Index = s.Index()
		for _, c := range s.Coordinators() {
			out.Members[c.ID] = peerAddress{Name: c.Name, API: c.API, Raft: c.Raft, Gossip: c.Gossip, Role: c.Role, TLSKey: c.TLSKeyAt(s.ClockMs()),
				OtherTLSKeys: tlsTexts(c.TLSRing(), c.TLSKeyAt(s.ClockMs()), s.ClockMs()), TLSSignedMs: lastSigned(c.TLSRing()),
				SigningKey: activeOf(c.Ring(), s.ClockMs()), OtherKeys: textsOf(c.Ring().Beside(s.ClockMs()))}
		}
	})
	return out
}

// activeOf returns the key that is active at a time, zero if none verifies.
func activeOf(ring fsm.Ring, nowMs int64) crypto.PublicKey {
	k, _ := ring.Active(nowMs)
	return k.Public
}

// describeSelf brings the replicated record of this node up to date after its
// addresses or its binary changed.
func (n *Node) describeSelf(ctx context.Context) {
	var mine fsm.Coordinator
	var known bool
	n.machine.Read(func(s *fsm.State) { mine, known = s.Coordinator(n.id.NodeID) })
	want := fsm.CoordinatorUpdate{ID: n.id.NodeID, API: n.cfg.APIAddr, Raft: n.cfg.raftAddr(), Gossip: n.cfg.GossipAddr,
		Level: n.cfg.supports(), Version: n.cfg.Version}
	if !known || mine.Described() == want {
		return
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, want)
	if err != nil {
		return
	}
	n.loops.Go(func() {
		for {
			res, err := n.Propose(ctx, cmd)
			if err == nil && res.Code != fsm.CodeOverloaded { // too early after the last one
				if !res.OK() {
					n.log.Warn("the cluster refused this node's new description", "code", res.Code, "detail", res.Detail)
				}
				return
			}
			if !pause(ctx, 2*time.Second) {
				return
			}
		}
	})
}
