package node

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// What other coordinators tell of the shared keys. This node's replica names the
// keys that count, by their hashes; a key that it names is taken from whoever has
// it. A node that stands still because it missed a rotation has no such names: it
// goes by one coordinator's word beside what it held, never in its place, for a
// moment, then without any, then by the next one's. So a liar costs it that moment.
// None of this is saved: the replica, once it has caught up, ends it.

// told is the word of one coordinator.
type told struct {
	set   *sharedSet
	shown chains
}

// toldShared is what a stranded node goes by.
type toldShared struct {
	mu   sync.Mutex
	told *told // guarded by mu

	// Owned by sharingLoop.
	last  string    // whom it asked last
	until time.Time // until when the present word, or none, has its turn
}

func (t *toldShared) hear(word *told) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = word
}

// toldSet returns the word that this node goes by beside its own set, or nil.
func (n *Node) toldSet() *told {
	n.sharedTold.mu.Lock()
	defer n.sharedTold.mu.Unlock()
	return n.sharedTold.told
}

const (
	// missedAfter is how long without a leader a node waits before it asks whether
	// it missed a rotation: longer than elections take.
	missedAfter = 3 * time.Second
	// fetchPause is between two questions for keys that this node lacks.
	fetchPause = 2 * time.Second
	// toldTime is how long a stranded node goes by one word, and then by none: long
	// enough for an election, or for the leader to find it.
	toldTime = 5 * time.Second
)

// isStranded tells whether this node may have missed a rotation: it hears no
// leader, though there are others.
func (n *Node) isStranded() bool {
	if _, leader := n.raft.LeaderWithID(); leader != "" {
		return false
	}
	return len(n.book.witnesses(n.id.NodeID)) > 0
}

// caughtUp waits until this replica has what was acknowledged before the call.
func (n *Node) caughtUp(ctx context.Context) error {
	if _, leader := n.raft.LeaderWithID(); leader == "" {
		return errNotLeader()
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	p, err := n.reads.get(ctx)
	if err != nil {
		return err
	}
	return n.waitIndex(ctx, p.Index)
}

// catchUpTime bounds one look at whether a replica has caught up.
const catchUpTime = 2 * time.Second

// fetchShared asks the others in turn: for keys that this node
// lacks until one has them, and if it is stranded until one tells something new.
func (n *Node) fetchShared(ctx context.Context, lacks []lack, stranded bool) {
	t := &n.sharedTold
	if time.Now().Before(t.until) {
		return
	}
	t.until = time.Now().Add(fetchPause)
	if n.toldSet() != nil && stranded { // it did not help
		t.until = time.Now().Add(toldTime)
		if err := n.forgetTold(ctx); err != nil {
			n.log.Warn("this node cannot go back to its own keys of the cluster yet", "error", err)
		}
		return
	}
	var failed error
	for _, id := range after(n.book.witnesses(n.id.NodeID), t.last) {
		t.last = id
		reply, err := n.askShared(ctx, id)
		done := false
		if err == nil {
			done, err = n.takeReply(ctx, id, reply, stranded)
		}
		if done {
			return
		}
		failed = err
	}
	if len(lacks) > 0 {
		n.log.Warn("keys of the cluster are missing here and nobody told them yet", "missing", lacks[0].Error(), "error", failed)
	}
}

// after returns ids in their order, from the one that follows last on.
func after(ids []string, last string) []string {
	ids = slices.Sorted(slices.Values(ids))
	i, found := slices.BinarySearch(ids, last)
	if found {
		i++
	}
	return slices.Concat(ids[i:], ids[:i])
}

// takeReply takes what the replica names of an answer. A stranded node goes by the
// rest for a while, if it is of later than its replica. It tells whether anything
// changed.
func (n *Node) takeReply(ctx context.Context, witness string, r sharedReply, stranded bool) (done bool, err error) {
	word, err := n.id.openReply(r)
	if err != nil {
		return false, err
	}
	n.sharing.Lock()
	defer n.sharing.Unlock()
	have := n.shared.Load()
	if want, speaks := n.wantedShared(); speaks && !want.behind(have) {
		next, _ := n.id.follow(have, word.set, want)
		if !next.equal(have) {
			done, have = true, next
			err = n.takeUp(ctx, next, false)
		}
	}
	if err == nil && n.uncertified.Load() && word.set.active().id() == have.active().id() {
		err = n.takeCertificate(have, word)
		return err == nil, err
	}
	index, _ := n.machine.Index()
	if err != nil || !stranded || r.AsOf <= index || have.covers(word.set) {
		return done, err
	}
	n.sharedTold.hear(word)
	n.sharedTold.until = time.Now().Add(toldTime)
	n.log.Info("this node goes by what another tells of the cluster's keys, until its replica has caught up", "witness", witness, "as_of", r.AsOf, "ca", word.set.active().id().String()[:16])
	return true, n.presentShared(have, chains{})
}

// forgetTold goes back to this node's own set. The caller does not hold sharing.
func (n *Node) forgetTold(ctx context.Context) error {
	n.sharing.Lock()
	defer n.sharing.Unlock()
	set := n.shared.Load()
	own, err := n.chainsOf(ctx, set)
	if err != nil && len(set.active().Key) == 0 {
		// An observer cannot sign one, and the leader that would is out of reach.
		n.idMu.Lock()
		own, err = chains{peer: [][]byte{n.id.TLSCert, set.active().Cert}}, nil
		n.idMu.Unlock()
	}
	if err != nil {
		return err
	}
	n.sharedTold.hear(nil)
	return n.presentShared(set, own)
}

// covers tells whether what was told is nothing new: the same active CA, and no
// key that is not held.
func (s *sharedSet) covers(told *sharedSet) bool {
	return s.active().id() == told.active().id() &&
		!slices.ContainsFunc(told.cas, func(a authority) bool { _, known := s.authority(a.id()); return !known }) &&
		!slices.ContainsFunc(told.ring, func(key []byte) bool { return !s.holds(fsm.SubjectGossip, poolKeyID(key), "") })
}

// sharedReply is a set as it travels between nodes that know each other's TLS key.
// That key is all that the door asks for, so secrets are sealed to the encryption
// key on record besides.
type sharedReply struct {
	AsOf   uint64           `cbor:"1,keyasint"` // log index that the answer is of
	CAs    []authority      `cbor:"2,keyasint"` // the active one first; without their keys
	Sealed []sealedKey      `cbor:"3,keyasint"` // the active gossip key first; none if the witness may be behind
	Signer crypto.PublicKey `cbor:"4,keyasint"` // of Sealed
	Peer   []byte           `cbor:"5,keyasint"` // certificate of the active CA
	Face   []byte           `cbor:"6,keyasint"` // chain of the face CA, one DER after the other
}

// sealedKey is a shared secret, sealed to one node (sealTo).
type sealedKey struct {
	Kind fsm.SubjectKind `cbor:"1,keyasint"`
	ID   crypto.Hash     `cbor:"2,keyasint"`
	Text []byte          `cbor:"3,keyasint"`
}

// errShared is in the chain of errors about a set that another node sent.
var errShared = errors.New("the keys that another node sent")

// openReply checks an answer: each secret must be the one that it is named after.
func (id *identity) openReply(r sharedReply) (*told, error) {
	if len(r.CAs) == 0 || len(r.CAs) > maxShared || len(r.Sealed) > 2*maxShared {
		return nil, fmt.Errorf("%w: %d CAs and %d sealed keys, at most %d each kind", errShared, len(r.CAs), len(r.Sealed), maxShared)
	}
	s := &sharedSet{asOf: r.AsOf}
	for _, a := range r.CAs {
		if _, err := x509.ParseCertificate(a.Cert); err != nil {
			return nil, fmt.Errorf("%w: CA certificate: %w", errShared, err)
		}
		s.cas = append(s.cas, authority{Cert: a.Cert, Retiring: a.Retiring})
	}
	for _, k := range r.Sealed {
		if err := id.openSealed(s, k, r.Signer); err != nil {
			return nil, fmt.Errorf("%w: %s key %s: %w", errShared, k.Kind, k.ID, err)
		}
	}
	face, err := splitChain(r.Face)
	if err == nil {
		err = cmp.Or(issuedBy(r.Peer, s.active()), issuedBy(face[0], s.face()))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: certificates: %w", errShared, err)
	}
	return &told{set: s, shown: chains{peer: [][]byte{r.Peer, s.active().Cert}, face: face}}, nil
}

// openSealed adds a secret to a set. The connection said who signed it.
func (id *identity) openSealed(s *sharedSet, k sealedKey, signer crypto.PublicKey) error {
	secret, err := id.unseal([]crypto.PublicKey{signer}, sealingID(string(k.Kind), k.ID), k.Text)
	if err != nil {
		return err
	}
	if k.Kind == fsm.SubjectGossip {
		if len(secret) != poolKeyBytes || poolKeyID(secret) != k.ID || len(s.ring) >= maxShared {
			return errors.New("it is another key, or one too many")
		}
		s.ring = append(s.ring, secret)
		return nil
	}
	i := slices.IndexFunc(s.cas, func(a authority) bool { return a.id() == k.ID })
	if i < 0 || id.Role != fsm.RoleCoordinator {
		return errors.New("it is of no CA that counts, or not for this node")
	}
	with := s.cas[i]
	with.Key = secret
	if err := checkAuthority(with); err != nil {
		return err
	}
	s.cas[i] = with
	return nil
}
