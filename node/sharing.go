package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// wanted is what the replicated state says of the shared keys at an index: the
// active one first, then the next, then those that still count.
type wanted struct {
	asOf        uint64
	gossip, cas []wantedKey
	senders     []crypto.PublicKey // whose copies count
}

type wantedKey struct {
	id       crypto.Hash
	data     []byte // of a CA its certificate, if the state has it
	sealed   []byte // this node's copy, if there is one
	retiring bool
}

// lack names a key that this node should hold and does not.
type lack struct {
	subject string
	id      crypto.Hash
	why     error
}

func (m lack) Error() string { return fmt.Sprintf("%s key %s: %v", m.subject, m.id, m.why) }

// poolKeyID names a gossip key.
func poolKeyID(key []byte) crypto.Hash { return crypto.Hash(fsm.PoolKeyName(key)) }

// follow returns the set that a node should hold, made of what it holds and of
// the copies that it can open, and what it lacks. What the state does not speak
// of stays: before the first rotation that is all.
func (id *identity) follow(s *sharedSet, w wanted) (*sharedSet, []lack) {
	next := &sharedSet{asOf: w.asOf, cas: s.cas, ring: s.ring}
	var lacks []lack
	if len(w.cas) > 0 {
		var cas []authority
		for _, k := range w.cas {
			a, err := id.authorityOf(s, w, k)
			if err != nil {
				lacks = append(lacks, lack{string(fsm.SubjectCA), k.id, err})
			}
			if len(a.Cert) > 0 { // without its key it is still trusted
				cas = append(cas, a)
			}
		}
		// Without the active one's certificate nobody here could show any.
		if len(cas) > 0 && cas[0].id() == w.cas[0].id {
			next.cas = cas
		}
	}
	var ring [][]byte
	for _, k := range w.gossip {
		key, err := id.poolKeyOf(s, w, k)
		if err != nil {
			lacks = append(lacks, lack{string(fsm.SubjectGossip), k.id, err})
			continue
		}
		ring = append(ring, key)
	}
	if len(ring) > 0 {
		next.ring = ring
	}
	return next, lacks
}

func (id *identity) authorityOf(s *sharedSet, w wanted, k wantedKey) (authority, error) {
	a, known := s.authority(k.id)
	if !known {
		a = authority{Cert: k.data}
	}
	a.Retiring = k.retiring
	if id.Role != fsm.RoleCoordinator || len(a.Key) > 0 {
		return a, nil
	}
	key, err := id.unseal(w.senders, sealingID(string(fsm.SubjectCA), k.id), k.sealed)
	if err != nil {
		return a, err
	}
	with := a
	with.Key = key
	if err := checkAuthority(with); err != nil {
		return a, err
	}
	return with, nil
}

func (id *identity) poolKeyOf(s *sharedSet, w wanted, k wantedKey) ([]byte, error) {
	for _, key := range s.ring {
		if poolKeyID(key) == k.id {
			return key, nil
		}
	}
	key, err := id.unseal(w.senders, sealingID(string(fsm.SubjectGossip), k.id), k.sealed)
	if err == nil && poolKeyID(key) != k.id {
		err = errors.New("the copy holds another key")
	}
	return key, err
}

// sharingLoop keeps CAs and gossip keys as the replicated state wants them, and
// fetches what this node lacks. It is the only one that changes n.shared.
func (n *Node) sharingLoop(ctx context.Context) {
	var asked time.Time
	led := time.Now()
	for {
		lacks := n.followShared(ctx)
		if !n.isStranded() {
			led = time.Now()
		}
		if (len(lacks) > 0 || time.Since(led) >= missedAfter) && time.Since(asked) >= fetchPause {
			asked = time.Now()
			n.fetchShared(ctx, lacks)
		}
		n.sayReady(ctx)
		select {
		case <-ctx.Done():
			return
		case <-n.sharedMoved:
		case <-time.After(sharingPause):
		}
	}
}

const (
	// sharingPause is how often the windows of shared keys are looked at: they end
	// as time passes, without a command.
	sharingPause = time.Second
	// missedAfter is how long without a leader a node waits before it asks whether
	// it missed a rotation: longer than elections take.
	missedAfter = 3 * time.Second
	// fetchPause is between two questions for keys that this node lacks.
	fetchPause = 2 * time.Second
)

// followShared brings this node to what its replica says, unless a coordinator
// told it of later. Once the replica has caught up nobody's word is above it.
func (n *Node) followShared(ctx context.Context) []lack {
	n.sharing.Lock()
	defer n.sharing.Unlock()
	have := n.shared.Load()
	want, ok := n.wantedShared()
	if !ok || want.asOf < have.asOf && n.Ready() != nil {
		return nil
	}
	next, lacks := n.id.follow(have, want)
	if next.equal(have) {
		return lacks
	}
	shown, err := n.chainsOf(ctx, next)
	if err == nil {
		err = n.adopt(next, shown)
	}
	if err != nil {
		n.log.Warn("the keys of the cluster changed and cannot be taken up yet", "error", err)
	}
	return lacks
}

// adopt puts a set to use: on disk first, so that a crash forgets no key that
// somebody counts on. The caller holds sharing.
func (n *Node) adopt(next *sharedSet, shown chains) error {
	if err := next.check(); err != nil {
		return err
	}
	if err := n.saveShared(next, shown.peer[0]); err != nil {
		return err
	}
	if err := n.creds.present(n.id, next, shown); err != nil {
		return err
	}
	before := n.shared.Swap(next)
	if !slices.EqualFunc(before.ring, next.ring, bytes.Equal) && n.pool != nil {
		if err := n.pool.SetKeys(next.ring); err != nil {
			return err
		}
	}
	n.log.Info("keys of the cluster taken up", "as_of", next.asOf, "ca", next.active().id().String()[:16], "cas", len(next.cas),
		"gossip", poolKeyID(next.ring[0]).String()[:16], "gossip_keys", len(next.ring))
	return next.writeCA(n.cfg.DataDir)
}

func (n *Node) saveShared(next *sharedSet, leaf []byte) error {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	if len(n.cfg.Passphrase) == 0 {
		return errors.New("this node is stopping")
	}
	fresh := *n.id
	fresh.take(next)
	fresh.TLSCert = leaf
	if err := fresh.save(n.cfg.DataDir, n.cfg.Passphrase); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	n.id.take(next)
	n.id.TLSCert = leaf
	return nil
}

// isStranded tells whether this node may have missed a rotation: it hears no
// leader, though there are others.
func (n *Node) isStranded() bool {
	if _, leader := n.raft.LeaderWithID(); leader != "" {
		return false
	}
	return len(n.book.coordinators(n.id.NodeID)) > 0
}

// fetchShared asks the coordinators on record in turn for the keys that count,
// until one answers with something newer than what this node goes by.
func (n *Node) fetchShared(ctx context.Context, lacks []lack) {
	others := n.book.coordinators(n.id.NodeID)
	// Not always the same first.
	start := int(time.Now().UnixNano() % int64(cmp.Or(len(others), 1)))
	var failed error
	for i := range others {
		id := others[(start+i)%len(others)]
		reply, err := n.askShared(ctx, id)
		if err == nil {
			err = n.takeReply(reply, len(lacks) > 0)
		}
		if err == nil {
			return
		}
		failed = err
	}
	if len(lacks) > 0 && failed != nil {
		n.log.Warn("keys of the cluster are missing here and nobody could be asked yet", "missing", lacks[0].Error(), "error", failed)
	}
}

// takeReply adopts what another node sent, if it is not from before what this
// node goes by. With equal indexes it may still have keys that are lacking here.
func (n *Node) takeReply(r sharedReply, lacking bool) error {
	n.sharing.Lock()
	defer n.sharing.Unlock()
	next, shown, err := r.set()
	if err != nil {
		return err
	}
	have := n.shared.Load()
	index, _ := n.machine.Index()
	if behind := max(have.asOf, index); r.AsOf < have.asOf || (!lacking && r.AsOf <= behind) {
		return fmt.Errorf("%w are as of index %d, this node goes by %d", errShared, r.AsOf, behind)
	}
	if next.equal(have) {
		return nil
	}
	return n.adopt(next, shown)
}
