package node

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// A coordinator rotates its own signing key. That it is due, or that somebody
// asked, is in the replicated state, so it does not matter who leads, nor what was
// down when it fell due. The next key is in the key file before anybody hears of
// it, and the old one leaves the file only when the state says that it is over:
// a crash in between finds the same keys again.

// keyRoundTime is how often a node looks at its own keys, and the leader at
// everybody's: windows are hours long.
const keyRoundTime = time.Second

// maxHeldKeys bounds the signing keys in the key file: a ring's worth.
const maxHeldKeys = fsm.MaxRingKeys

// keyLoop looks after the signing and TLS keys of this node. It alone changes them in
// the key file.
func (n *Node) keyLoop(ctx context.Context) {
	var again time.Time
	n.keyRounds.led = time.Now()
	for pause(ctx, keyRoundTime) {
		err := n.showOwnTLSKey(ctx)
		if time.Now().After(again) {
			err = errors.Join(err, n.keepOwnKeys(ctx), n.keepOwnTLSKeys(ctx))
		}
		if err != nil {
			n.log.Warn("this node's keys are not rotated yet, trying again", "error", err)
			again = time.Now().Add(5 * keyRoundTime)
		}
		n.followRings()
		n.renewConnections()
	}
}

// keepOwnKeys does for the signing keys what is due.
func (n *Node) keepOwnKeys(ctx context.Context) error {
	return keepKeys(ctx, n, fsm.CoordinatorSubject(n.id.NodeID), n.dropEndedKeys, n.nextSigningKey, n.announceKey)
}

// keepKeys does what is due for keys of this node's own: it announces one that the file
// has and the state has not, makes the next one, or drops those that are over.
func keepKeys[K any](ctx context.Context, n *Node, of fsm.Subject, drop func(st fsm.KeyStanding, clock int64) error,
	nextOf func(fsm.KeyStanding) (K, error), announce func(context.Context, fsm.KeyStanding, K, int64) error) error {
	st, clock := n.standing(of)
	if level, _ := n.clusterLevel(); level < fsm.LevelKeys || len(st.Ring) == 0 {
		return nil
	}
	if err := drop(st, clock); err != nil {
		return err
	}
	if !st.Due(clock) {
		return nil
	}
	next, err := nextOf(st)
	if err != nil {
		return err
	}
	return announce(ctx, st, next, clock)
}

// standing returns the keys of a subject as this replica has them, and its clock.
func (n *Node) standing(of fsm.Subject) (k fsm.KeyStanding, nowMs int64) {
	n.machine.Read(func(s *fsm.State) {
		nowMs = s.ClockMs()
		k, _ = s.KeyStanding(of, nowMs)
	})
	return k, nowMs
}

// nextSigningKey returns the key that comes after those of the ring: the one that
// the file has already, or a new one, which is in the file when it returns.
func (n *Node) nextSigningKey(st fsm.KeyStanding) (crypto.PublicKey, error) {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	held := n.id.signingSeeds()
	for _, seed := range held {
		if key := publicOfSeed(seed); !slices.ContainsFunc(st.Ring, func(k fsm.Key) bool { return k.Public == key }) {
			return key, nil // made by an earlier try
		}
	}
	if len(held) >= maxHeldKeys {
		return crypto.PublicKey{}, errors.New("the key file holds as many signing keys as a coordinator can have")
	}
	made, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		return crypto.PublicKey{}, err
	}
	defer clear(made)
	if err := n.saveSigningSeeds(append(held, made.Seed())); err != nil {
		return crypto.PublicKey{}, err
	}
	return crypto.PublicOf(made), nil
}

// saveSigningSeeds makes these the signing keys of the file, and then of memory.
// The caller holds idMu.
func (n *Node) saveSigningSeeds(seeds [][]byte) error {
	changed := *n.id
	changed.Signing, changed.LaterSigning = seeds[0], seeds[1:]
	if err := changed.save(n.cfg.DataDir, n.cfg.Passphrase); err != nil {
		return err
	}
	n.id.Signing, n.id.LaterSigning = changed.Signing, changed.LaterSigning
	n.signer.hold(seeds)
	return nil
}

// announceKey has the log take the next key, ordered by the active one. If none
// verifies, one that this node had signs the order: together with this node's
// certificate that is its word. The time is the replica's: the wall clock of this
// machine may be further off than an order may be.
func (n *Node) announceKey(ctx context.Context, st fsm.KeyStanding, next crypto.PublicKey, clock int64) error {
	b := st.NextOrder(next, clock, clock)
	by := b.By
	if by.IsZero() {
		by = n.newestHeld(st.Ring)
		b.Signer = by
	}
	old := n.signer.private(by)
	if old == nil {
		return errNoSigningKey()
	}
	defer clear(old)
	b.Order = b.Succession(n.id.ClusterID).Order(old)
	key := n.signer.private(next)
	defer clear(key)
	b.Proof = b.Succession(n.id.ClusterID).Prove(key)
	return n.announce(ctx, st, b)
}

// newestHeld returns the newest key of a ring that the key file has; zero without one.
func (n *Node) newestHeld(ring fsm.Ring) crypto.PublicKey {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	held := n.id.signingSeeds()
	for _, k := range slices.Backward(ring) {
		if slices.ContainsFunc(held, func(seed []byte) bool { return publicOfSeed(seed) == k.Public }) {
			return k.Public
		}
	}
	return crypto.PublicKey{}
}

// announce has the log take the next key of this node.
func (n *Node) announce(ctx context.Context, st fsm.KeyStanding, b fsm.KeyPrepare) error {
	if res := n.checkPrepare(b); !res.OK() { // no place in the log for what is refused
		return &client.Error{Code: client.CodeUnavailable, Detail: res.Detail}
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, b)
	if err != nil {
		return err
	}
	res, err := n.Propose(ctx, cmd)
	if err != nil {
		return err
	}
	if !res.OK() {
		return &client.Error{Code: client.CodeUnavailable, Detail: string(res.Code) + ": " + res.Detail}
	}
	n.log.Info("the next key of this node is announced", "subject", b.Subject, "key_id", b.Public.KeyID())
	n.note("key_rotation", audit.LevelInfo, "ok", map[string]string{"subject": st.Subject.String(), "step": "prepared", "key_id": b.Public.KeyID(), "by": n.id.NodeID})
	return nil
}

func (n *Node) checkPrepare(b fsm.KeyPrepare) (res fsm.Result) {
	n.machine.Read(func(s *fsm.State) { res = s.CheckPrepare(fsm.Actor{NodeID: n.id.NodeID}, b, s.ClockMs()) })
	return res
}

// dropEndedKeys takes out of the file what will never sign again. The last one of the
// ring stays: it says what comes next if no other verifies. So does one of the cosigner set in force: it vouches
// for the set that follows.
func (n *Node) dropEndedKeys(st fsm.KeyStanding, clock int64) error {
	cosigners := n.epochNow().cosigners()
	n.idMu.Lock()
	defer n.idMu.Unlock()
	held := n.id.signingSeeds()
	kept := slices.DeleteFunc(slices.Clone(held), func(seed []byte) bool {
		key := publicOfSeed(seed)
		i := slices.IndexFunc(st.Ring, func(k fsm.Key) bool { return k.Public == key })
		if i < 0 {
			return cosigners.Has(key) // it left the ring; any other is still to be announced
		}
		state := st.Ring.StateOf(i, clock)
		return state == fsm.KeyRetired && !cosigners.Has(key) || state == fsm.KeyRevoked
	})
	known := slices.ContainsFunc(kept, func(seed []byte) bool { return st.Ring.Place(publicOfSeed(seed)) >= 0 })
	if len(kept) == len(held) || !known {
		return nil
	}
	return n.saveSigningSeeds(kept)
}

// followRings has gossip look again at whom it trusts, and shows this node's card
// under its key of the moment, when keys of coordinators changed.
func (n *Node) followRings() {
	rings := map[string]fsm.Ring{}
	var clock int64
	n.machine.Read(func(s *fsm.State) {
		clock = s.ClockMs()
		for _, c := range s.Coordinators() {
			rings[c.ID] = c.Ring()
		}
	})
	moved := false
	for id, ring := range rings {
		active, _ := ring.Active(clock)
		if k, known := n.keyRounds.active[id]; !known || k != active.Public {
			moved = true
			n.keyRounds.active[id] = active.Public
		}
	}
	for id := range n.keyRounds.active {
		if _, member := rings[id]; !member {
			delete(n.keyRounds.active, id)
		}
	}
	if moved {
		n.book.record(n.memberRecords())
		n.pool.Recheck()
	}
	if key, ok := n.signingPublic(); ok && key != n.keyRounds.card {
		n.showCard(key)
	}
}

// showCard signs this node's card anew and announces its head again.
func (n *Node) showCard(key crypto.PublicKey) {
	card, err := n.cardBy(key)
	if err == nil {
		err = n.pool.UpdateCard(card)
	}
	if err != nil {
		n.log.Warn("this node's card is not signed anew yet", "error", err)
		return
	}
	n.log.Info("this node signs with its new key", "peer_id", key.CoordinatorID())
	n.note("key_rotation", audit.LevelInfo, "ok", map[string]string{"subject": fsm.CoordinatorSubject(n.id.NodeID).String(), "step": "switched", "key_id": key.KeyID()})
	n.keyRounds.card = key
	ring(n.news)
}

// keyRounds is what keyLoop remembers; it alone uses it once it runs.
type keyRounds struct {
	active map[string]crypto.PublicKey // of coordinators, by node id
	card   crypto.PublicKey            // that signed this node's card
	led    time.Time                   // when this node last heard a leader
}
