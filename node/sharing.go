package node

import (
	"context"
	"errors"
	"fmt"
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

// follow returns the set that a node should hold, made of what it holds, of the
// copies that it can open and of what others told it, and what it lacks. Of that
// it takes what the state names, by its hash, and nothing else. What the state
// does not speak of stays: before the first rotation that is all.
func (id *identity) follow(s, told *sharedSet, w wanted) (*sharedSet, []lack) {
	from := s.and(told)
	next := &sharedSet{asOf: w.asOf, cas: s.cas, ring: s.ring}
	var lacks []lack
	if len(w.cas) > 0 {
		var cas []authority
		for _, k := range w.cas {
			a, err := id.authorityOf(from, w, k)
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
		key, err := id.poolKeyOf(from, w, k)
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
	led := time.Now()
	for {
		caughtUp := n.doubtsReplica() && n.caughtUp(ctx) == nil
		lacks := n.followShared(ctx, caughtUp)
		if !n.isStranded() {
			led = time.Now()
		}
		if stranded := time.Since(led) >= missedAfter; len(lacks) > 0 || stranded || n.uncertified.Load() {
			n.fetchShared(ctx, lacks, stranded)
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

// sharingPause is how often the windows of shared keys are looked at: they end as
// time passes, without a command.
const sharingPause = time.Second

// followShared brings this node to what its replica says, unless that still
// applies what this node went by before it started. Once it has caught up nobody's
// word stands beside it.
func (n *Node) followShared(ctx context.Context, caughtUp bool) []lack {
	n.sharing.Lock()
	defer n.sharing.Unlock()
	have := n.shared.Load()
	if err := n.writeCAFile(have); err != nil {
		n.log.Warn("the CA file for clients cannot be written yet", "error", err)
	}
	want, ok := n.wantedShared()
	if !ok || !caughtUp && want.behind(have) {
		return nil
	}
	next, lacks := n.id.follow(have, nil, want)
	if next.equal(have) && !caughtUp && !n.shownDue {
		return lacks
	}
	if err := n.takeUp(ctx, next, caughtUp); err != nil {
		n.log.Warn("the keys of the cluster changed and cannot be taken up yet", "error", err)
	}
	return lacks
}

// behind tells whether a replica still has to come to where this node was before it started: that would take it back to keys
// that are over. That the log really is shorter than it was, after a recovery, only a read point shows.
func (w wanted) behind(have *sharedSet) bool { return w.asOf < have.asOf }

// doubtsReplica tells whether this node goes by anything else than its replica now.
func (n *Node) doubtsReplica() bool {
	want, ok := n.wantedShared()
	return n.toldSet() != nil || ok && want.behind(n.shared.Load())
}

// takeUp adopts a set under certificates of its own. What was told ends with it if
// the set is what the cluster goes by for sure. The caller holds sharing.
func (n *Node) takeUp(ctx context.Context, next *sharedSet, forSure bool) error {
	shown, err := n.chainsOf(ctx, next)
	if err != nil {
		return err
	}
	// Who has the next keys knows who was removed for them, after a crash too.
	n.book.record(n.memberRecords())
	before := n.toldSet()
	if forSure {
		n.sharedTold.hear(nil)
	}
	if err = n.adopt(next, shown); err != nil {
		n.sharedTold.hear(before)
	}
	return err
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
	n.shared.Store(next)
	n.caFileDue, n.shownDue = true, true // tried again by followShared
	if err := n.presentShared(next, shown); err != nil {
		return err
	}
	n.shownDue = false
	n.log.Info("keys of the cluster taken up", "as_of", next.asOf, "ca", next.active().id().String()[:16], "cas", len(next.cas),
		"gossip", poolKeyID(next.ring[0]).String()[:16], "gossip_keys", len(next.ring))
	return n.writeCAFile(next)
}

// presentShared has TLS and gossip go by a set, and by what was told beside it. The
// caller holds sharing.
func (n *Node) presentShared(s *sharedSet, own chains) error {
	if t := n.toldSet(); t != nil {
		s, own = s.and(t.set), t.shown
	}
	if err := n.creds.present(s, own); err != nil {
		return err
	}
	if n.pool == nil {
		return nil
	}
	return n.pool.SetKeys(s.ring)
}

// writeCAFile writes the file for clients, if the set changed since. It is tried
// until it works: a full disk must not leave them the CA of before. The caller
// holds sharing.
func (n *Node) writeCAFile(s *sharedSet) error {
	if !n.caFileDue {
		return nil
	}
	err := s.writeCA(n.cfg.DataDir)
	n.caFileDue = err != nil
	return err
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
