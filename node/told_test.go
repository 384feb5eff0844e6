package node

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// lie is a set of keys of a liar's own, as it would answer a node with it.
func lie(t *testing.T, liar *Node, to *identity, asOf uint64) (*sharedSet, sharedReply) {
	t.Helper()
	pool, err := newPoolKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := tlsPublic(to.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	encryption, err := to.encryptionPublic()
	if err != nil {
		t.Fatal(err)
	}
	set := &sharedSet{asOf: asOf, cas: []authority{freshCA(t)}, ring: [][]byte{pool}}
	reply, err := liar.certified(set, certifyRequest{NodeID: to.NodeID, TLSPublic: public})
	if err == nil {
		reply.Sealed, reply.Signer, err = liar.sealShared(set, encryption)
	}
	if err != nil {
		t.Fatal(err)
	}
	return set, reply
}

// TestP8DoorTellsNoSecretToATLSKeyAlone: what goes over the wire opens with the
// encryption key on record only, each knock is an event, and there are only so many.
func TestP8DoorTellsNoSecretToATLSKeyAlone(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	public, err := tlsPublic(n.id.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := n.serveKnock(t.Context(), n.id.NodeID, returnRequest{TLSPublic: public})
	if err != nil {
		t.Fatal(err)
	}
	wire, err := fsm.Encode(reply)
	if err != nil {
		t.Fatal(err)
	}
	have := n.shared.Load()
	if bytes.Contains(wire, have.active().Key) || bytes.Contains(wire, have.ring[0]) {
		t.Error("a secret that all share goes to whoever holds a TLS key")
	}
	thief, err := newIdentity() // all it has of the member is the TLS key
	if err != nil {
		t.Fatal(err)
	}
	thief.Role = fsm.RoleCoordinator
	if _, err := thief.openReply(reply); err == nil {
		t.Error("another encryption key than that on record opened the secrets")
	}
	if word, err := n.id.openReply(reply); err != nil || len(word.set.cas[0].Key) == 0 || !bytes.Equal(word.set.ring[0], have.ring[0]) {
		t.Errorf("the member itself cannot open them: %v", err)
	}
	c.wantEvent(0, typeKeysTold, audit.LevelHigh, "to", n.id.NodeID, "over", "door", "secrets", "2")
	// A state that is older than what this node held before it was restarted knows
	// neither the keys nor who may have them: what the node wrote down does.
	n.sharing.Lock()
	n.shared.Store(&sharedSet{asOf: 1 << 40, cas: have.cas, ring: have.ring})
	set, _, err := n.sharedFor(n.id.NodeID)
	if err != nil || set.asOf != 1<<40 || set.active().id() != have.active().id() {
		t.Errorf("after a restart without a leader: %+v, %v", set, err)
	}
	n.shared.Store(have)
	n.sharing.Unlock()
	if _, _, err := n.sharedFor(ghostID); code(err) != client.CodeForbidden {
		t.Errorf("a stranger: %v", err)
	}
	for range knockBurst {
		_, err = n.serveKnock(t.Context(), n.id.NodeID, returnRequest{TLSPublic: public})
	}
	if code(err) != client.CodeOverloaded {
		t.Errorf("knock %d in a row: %v", knockBurst+1, err)
	}
}

// TestOpenReply: an answer whose parts do not fit each other is refused whole.
func TestOpenReply(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	_, good := lie(t, n, n.id, 1)
	_, other := lie(t, n, n.id, 1)
	if _, err := n.id.openReply(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(r *sharedReply){
		"no CA":                 func(r *sharedReply) { r.CAs = nil },
		"too many CAs":          func(r *sharedReply) { r.CAs = slices.Repeat(r.CAs, maxShared+1) },
		"too many keys":         func(r *sharedReply) { r.Sealed = slices.Repeat(r.Sealed, maxShared+1) },
		"no certificate":        func(r *sharedReply) { r.CAs[0].Cert = []byte{1} },
		"another's key":         func(r *sharedReply) { r.Sealed = other.Sealed },
		"another's leaf":        func(r *sharedReply) { r.Peer = other.Peer },
		"another's face":        func(r *sharedReply) { r.Face = other.Face },
		"another signer":        func(r *sharedReply) { r.Signer = crypto.PublicKey{} },
		"a key under a name":    func(r *sharedReply) { r.Sealed[0].ID = crypto.Hash{} },
		"a key of another kind": func(r *sharedReply) { r.Sealed[0].Kind = fsm.SubjectCA },
		"not sealed":            func(r *sharedReply) { r.Sealed[0].Text = []byte("{}") },
	} {
		r := good
		r.CAs, r.Sealed = slices.Clone(good.CAs), slices.Clone(good.Sealed)
		change(&r)
		if _, err := n.id.openReply(r); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestFollowTakesWhatTheStateNames: a key that the state names is taken from whoever
// has it, whatever index it says; a key that it does not name from nobody.
func TestFollowTakesWhatTheStateNames(t *testing.T) {
	id := &identity{Role: fsm.RoleCoordinator}
	first, second, liars := freshCA(t), freshCA(t), freshCA(t)
	oldKey, newKey, liarsKey := bytes.Repeat([]byte{1}, poolKeyBytes), bytes.Repeat([]byte{2}, poolKeyBytes), bytes.Repeat([]byte{3}, poolKeyBytes)
	have := &sharedSet{asOf: 20, cas: []authority{first}, ring: [][]byte{oldKey}}
	told := &sharedSet{asOf: 3, cas: []authority{liars, second}, ring: [][]byte{liarsKey, newKey}}
	w := wanted{asOf: 20, cas: []wantedKey{{id: second.id(), data: second.Cert}, {id: first.id(), retiring: true}},
		gossip: []wantedKey{{id: poolKeyID(newKey)}, {id: poolKeyID(oldKey)}}}
	next, lacks := id.follow(have, told, w)
	if len(lacks) > 0 || len(next.cas) != 2 || next.active().id() != second.id() || len(next.active().Key) == 0 || !slices.EqualFunc(next.ring, [][]byte{newKey, oldKey}, bytes.Equal) {
		t.Errorf("it lacks %v, and goes by %d CAs and %d gossip keys", lacks, len(next.cas), len(next.ring))
	}
	if next, _ := id.follow(have, told, wanted{asOf: 20}); !next.equal(have) {
		t.Error("keys that no state names were taken")
	}
}

// TestLieAtTheDoorPasses: a stranded node goes by a liar's word beside what it held,
// for a moment; nothing of it is saved, and once a leader is there nothing counts.
// While it is stranded it tells others no secret itself.
func TestLieAtTheDoorPasses(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 2)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	stays, away := c.nodes[0], c.nodes[1]
	awayID := away.id
	public, err := tlsPublic(awayID.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	set, reply := lie(t, away, stays.id, 1<<62)
	_ = away.shutdown()
	c.nodes[1] = nil
	c.eventually("nobody leads", stays.isStranded)
	r, err := stays.serveKnock(t.Context(), awayID.NodeID, returnRequest{TLSPublic: public})
	if err != nil || len(r.Sealed) > 0 || len(r.CAs) != 1 || len(r.Peer) == 0 {
		t.Errorf("one that may be behind told %d secrets, %d CAs: %v", len(r.Sealed), len(r.CAs), err)
	}
	have := stays.shared.Load()
	if done, err := stays.takeReply(t.Context(), awayID.NodeID, reply, true); err != nil || !done {
		t.Fatalf("%t, %v", done, err)
	}
	trusts := func(cas ...authority) bool {
		var certs [][]byte
		for _, a := range cas {
			certs = append(certs, a.Cert)
		}
		return bytes.Equal(stays.creds.trusted.Load().bundle, certPEM(certs...))
	}
	if !stays.shared.Load().equal(have) || !trusts(set.active(), have.active()) {
		t.Error("what was told does not stand beside what was held")
	}
	saved, err := loadIdentity(stays.cfg.DataDir, stays.cfg.Passphrase)
	if err != nil || !saved.shared().equal(have) {
		t.Errorf("what was told is in the key file: %v", err)
	}
	if pem, err := os.ReadFile(filepath.Join(stays.cfg.DataDir, fileCA)); err != nil || !bytes.Equal(pem, certPEM(have.certs()...)) {
		t.Error("clients are told to trust what one coordinator told")
	}
	if err := stays.forgetTold(t.Context()); err != nil || !trusts(have.active()) {
		t.Errorf("it does not go back to its own: %v", err)
	}
	if done, err := stays.takeReply(t.Context(), awayID.NodeID, reply, true); err != nil || !done {
		t.Fatalf("%t, %v", done, err)
	}
	c.start(1)
	c.eventually("it serves again, and goes by nobody's word", func() bool {
		return stays.Ready() == nil && c.nodes[1].Ready() == nil && stays.toldSet() == nil && trusts(have.active())
	})
}

// TestCAFileIsWrittenInTheEnd: a disk that was full for a moment does not leave
// clients the CAs of before.
func TestCAFileIsWrittenInTheEnd(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	file := filepath.Join(n.cfg.DataDir, fileCA)
	n.sharing.Lock()
	err := os.Remove(file)
	if err == nil {
		err = os.MkdirAll(filepath.Join(file, "in the way"), 0o755) // a rename over it fails
	}
	if err != nil {
		t.Fatal(err)
	}
	n.caFileDue = true
	if err := n.writeCAFile(n.shared.Load()); err == nil {
		t.Error("a file was written over a directory")
	}
	err = os.RemoveAll(file)
	n.sharing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("the file is there", func() bool {
		pem, err := os.ReadFile(file)
		return err == nil && bytes.Equal(pem, certPEM(n.shared.Load().certs()...))
	})
}
