package node

import (
	"bytes"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// belowKeys is a cluster below fsm.LevelKeys: its state does not say what is shared.
func belowKeys(t *testing.T, size int) *trio {
	t.Helper()
	t.TempDir() // first, so that it is removed last
	c := &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.level = fsm.LevelUpgrades }}
	t.Cleanup(c.stopAll)
	c.grow(size)
	return c
}

// takeOver has a node go by a set that no state speaks of.
func (n *Node) takeOver(t *testing.T, set *sharedSet) {
	t.Helper()
	n.sharing.Lock()
	defer n.sharing.Unlock()
	shown, err := n.chainsOf(t.Context(), set)
	if err == nil {
		err = n.adopt(set, shown)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReturnAfterAMissedRotation: a node that was away while CA and gossip key were
// revoked, so that neither side takes the other's certificate, comes back by the
// keys on record, and ends with what the log says. Nobody leads until it has: the
// others are restarted, and one of them does not come back for a while.
func TestReturnAfterAMissedRotation(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	lead := c.leader()
	away, stays := (lead+1)%3, (lead+2)%3
	_ = c.nodes[away].shutdown()
	old := c.nodes[away].creds
	c.nodes[away] = nil
	for _, of := range []fsm.Subject{caSubject, gossipSubject} {
		before := c.activeKey(of)
		if res := c.asAdmin(fsm.KeyRevoke{Subject: of.String(), Key: crypto.PublicKey(before).Fingerprint(), Reason: "a test"}); !res.OK() {
			t.Fatalf("%+v", res)
		}
		c.rotated(of, before)
	}
	stale := &Node{rpc: newRPCClient(&peerDialer{book: c.nodes[lead].book, creds: old, net: machineNetwork{}}, LocalTiming().Peer)}
	var reply pingReply
	if err := stale.call(t.Context(), c.nodes[lead].id.NodeID, rpcPing, pingRequest{}, &reply); code(err) != client.CodeUnavailable {
		t.Fatalf("a certificate of a CA that does not count any more was taken: %v", err)
	}
	for _, i := range []int{lead, stays} {
		_ = c.nodes[i].shutdown()
		c.nodes[i] = nil
	}
	c.start(stays)
	c.start(away)
	n := c.nodes[away]
	c.eventually("it serves again, with what counts now, and by nobody's word", func() bool {
		return n.Ready() == nil && n.toldSet() == nil && n.shared.Load().equal(c.nodes[stays].shared.Load())
	})
	c.start(lead)
	c.eventually("all serve", c.allReady)
	c.eventually("gossip has it again", func() bool {
		for _, m := range c.nodes[lead].pool.Members() {
			if m.Card.NodeID == n.id.NodeID {
				return m.State == gossip.StateAlive
			}
		}
		return false
	})
	saved, err := loadIdentity(n.cfg.DataDir, n.cfg.Passphrase)
	if err != nil || !saved.shared().equal(n.shared.Load()) {
		t.Fatalf("what it goes by is not in its key file: %v", err)
	}

	gone := n.id.NodeID
	c.eventually("it is removed", func() bool { // not before the leader has heard of the one that was just started
		_, err := c.client(lead, c.admin).RemovePeer(t.Context(), gone, false)
		return err == nil
	})
	c.eventually("the removal is known", func() bool { return c.nodes[stays].isRemoved(gone) && c.nodes[lead].isRemoved(gone) })
	if r, err := n.knock(t.Context(), c.nodes[stays].id.NodeID, returnRequest{}); err == nil {
		t.Errorf("a removed node was told %d CAs", len(r.CAs))
	}
}

// TestReturnTellsObserversNoCAKey: and nobody the certificate of another.
func TestReturnTellsObserversNoCAKey(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.observer()
	public, err := tlsPublic(n.id.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	var r sharedReply
	c.eventually("the keys are on record", func() bool {
		r, err = n.knock(t.Context(), c.nodes[0].id.NodeID, returnRequest{TLSPublic: public})
		return err == nil && !c.activeKey(gossipSubject).IsZero()
	})
	word, err := n.id.openReply(r)
	if err != nil {
		t.Fatal(err)
	}
	if s := word.set; len(s.cas) != 1 || len(s.cas[0].Key) > 0 || len(s.ring) != 1 || len(r.Sealed) != 1 || len(r.Peer) == 0 {
		t.Errorf("an observer was told %+v", r)
	}
	other, err := tlsPublic(c.nodes[0].id.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.knock(t.Context(), c.nodes[0].id.NodeID, returnRequest{TLSPublic: other}); err == nil {
		t.Error("an observer got a certificate for another's key")
	}
}

// TestJoinDuringAnOverlap: a token from before the switch opens a join, and the
// joiner has everything that counts.
func TestJoinDuringAnOverlap(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := belowKeys(t, 1)
	before := c.token("coordinator", 1)
	lead := c.nodes[0]
	have := lead.shared.Load()
	first := have.active()
	first.Retiring = true
	pool, err := newPoolKey()
	if err != nil {
		t.Fatal(err)
	}
	lead.takeOver(t, &sharedSet{asOf: 1 << 40, cas: []authority{freshCA(t), first}, ring: [][]byte{pool, have.ring[0]}})
	for name, token := range map[string]string{"before": before, "after": c.token("coordinator", 1)} {
		cfg := testConfig(t, name)
		cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, token
		c.adjust.apply(0, &cfg)
		n, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatalf("token from %s the switch: %v", name, err)
		}
		t.Cleanup(func() { _ = n.shutdown() })
		if !n.shared.Load().equal(lead.shared.Load()) {
			t.Errorf("token from %s the switch: the joiner has other keys than the seed", name)
		}
	}
	if _, err := c.client(0, c.admin).Policy(t.Context()); err != nil { // with both CAs in its file
		t.Error(err)
	}
	c.oldFileStillWorks(t, certPEM(first.Cert))
}

// oldFileStillWorks calls the API as a client that has another CA file.
func (c *trio) oldFileStillWorks(t *testing.T, pem []byte) {
	t.Helper()
	cl, err := client.New(client.Config{Addrs: []string{"https://" + c.cfgs[0].APIAddr}, CAPEM: pem, Token: c.admin, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Policy(t.Context()); err != nil {
		t.Errorf("a client with the CA file of before: %v", err)
	}
}

// TestFollowShared: what a node holds is made of what the state says, what it has
// and what it can open.
func TestFollowShared(t *testing.T) {
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id.Role = fsm.RoleCoordinator
	leader, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	public, err := id.encryptionPublic()
	if err != nil {
		t.Fatal(err)
	}
	seal := func(name string, secret []byte) []byte {
		text, err := sealTo(leader.signingKey(), public, name, secret)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first, second := oldCA(t), freshCA(t)
	oldKey, newKey := bytes.Repeat([]byte{1}, poolKeyBytes), bytes.Repeat([]byte{2}, poolKeyBytes)
	have := &sharedSet{cas: []authority{first}, ring: [][]byte{oldKey}}
	caCopy := seal(sealingID("ca", second.id()), second.Key)
	keyCopy := seal(sealingID("gossip", poolKeyID(newKey)), newKey)
	want := func(ca, key []byte) wanted {
		return wanted{asOf: 9, senders: []crypto.PublicKey{leader.publicKey()},
			cas:    []wantedKey{{id: second.id(), data: second.Cert, sealed: ca}, {id: first.id(), retiring: true}},
			gossip: []wantedKey{{id: poolKeyID(newKey), sealed: key}, {id: poolKeyID(oldKey)}}}
	}
	next, lacks := id.follow(have, nil, want(caCopy, keyCopy))
	if len(lacks) > 0 || next.active().id() != second.id() || len(next.active().Key) == 0 || !next.cas[1].Retiring || !bytes.Equal(next.ring[0], newKey) || len(next.ring) != 2 {
		t.Fatalf("%+v, lacks %v", next, lacks)
	}
	if again, _ := id.follow(next, nil, want(nil, nil)); !again.equal(next) {
		t.Error("what a node has needs no copy")
	}
	for name, w := range map[string]wanted{
		"no copies":         want(nil, nil),
		"copies changed":    want(keyCopy, caCopy),
		"copies of another": want(seal("ca 00", second.Key), seal("gossip 00", newKey)),
		"another secret":    want(seal(sealingID("ca", second.id()), first.Key), seal(sealingID("gossip", poolKeyID(newKey)), oldKey)),
		"a stranger's":      {asOf: 9, cas: want(caCopy, keyCopy).cas, gossip: want(caCopy, keyCopy).gossip},
	} {
		next, lacks := id.follow(have, nil, w)
		if len(lacks) != 2 || len(next.cas) != 2 || len(next.ring) != 1 || !bytes.Equal(next.ring[0], oldKey) {
			t.Errorf("%s: lacks %v, %d CAs, %d gossip keys", name, lacks, len(next.cas), len(next.ring))
		}
	}
	id.Role = fsm.RoleObserver
	if next, lacks := id.follow(&sharedSet{cas: []authority{{Cert: first.Cert}}, ring: have.ring}, nil, want(nil, keyCopy)); len(lacks) > 0 || len(next.active().Key) > 0 {
		t.Errorf("an observer lacks %v", lacks)
	}
}
