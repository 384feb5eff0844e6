package node

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/fsm"
)

const ghostID = "deadbeef-0000-4000-8000-000000000000"

// minted is an identity of any node id under the CA key that every coordinator
// holds, removed ones too.
func minted(t *testing.T, by *Node, id string) *identity {
	t.Helper()
	forged := by.identityNow()
	forged.NodeID = id
	var err error
	if forged.TLSKey, err = newTLSKey(); err != nil {
		t.Fatal(err)
	}
	signer, err := parseSigner(forged.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	if forged.TLSCert, err = forged.shared().active().issueLeaf(forged.ClusterID, id, fsm.RoleCoordinator, signer.Public(), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	return forged
}

// identityNow copies what a node holds: it changes as keys are rotated.
func (n *Node) identityNow() *identity {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	id := *n.id
	return &id
}

// invented is the record of a coordinator that nobody took in.
func invented(t *testing.T, ghost *identity) peerAddress {
	t.Helper()
	public, err := tlsPublic(ghost.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	return peerAddress{Name: "ghost", API: "127.0.0.1:1", Raft: "127.0.0.1:1", Gossip: "127.0.0.1:1",
		Role: fsm.RoleCoordinator, TLSKey: crypto.Sum(public), SigningKey: ghost.publicKey()}
}

// dialerAs reaches one node under an identity.
func dialerAs(t *testing.T, id *identity, at *Node) *peerDialer {
	t.Helper()
	creds, err := newCredentials(id, func(peerName) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	book := openAddressBook(t.TempDir(), testLog(t))
	book.hear(at.id.NodeID, peerAddress{Raft: at.cfg.raftAddr()})
	return &peerDialer{book: book, creds: creds, net: machineNetwork{}}
}

// pingAs calls a node under an identity.
func pingAs(t *testing.T, id *identity, at *Node) error {
	t.Helper()
	caller := &Node{rpc: newRPCClient(dialerAs(t, id, at), LocalTiming().Peer)}
	var reply pingReply
	return caller.call(t.Context(), at.id.NodeID, rpcPing, pingRequest{}, &reply)
}

// knockAs asks at the door of those who come back, under an identity.
func knockAs(t *testing.T, id *identity, at *Node) error {
	t.Helper()
	_, err := (&Node{dialer: dialerAs(t, id, at)}).knock(t.Context(), at.id.NodeID, returnRequest{})
	return err
}

// lyingSeed serves joins of a coordinator, all honest but for the records.
func lyingSeed(t *testing.T, liar *Node, lie func(*memberFile)) (addr string) {
	t.Helper()
	routes := http.NewServeMux()
	routes.HandleFunc("POST "+joinPath, answerJoiner(liar, func(r *http.Request) (joinReply, error) {
		reply, err := liar.serveJoin(r)
		if err == nil {
			lie(&reply.Members)
		}
		return reply, err
	}))
	routes.HandleFunc("POST "+manifestPath, answerJoiner(liar, liar.serveManifest))
	l, err := tls.Listen("tcp", "127.0.0.1:0", liar.creds.joinServer())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: routes, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// TestP8ASeedLeavesNoBackDoor: what a seed that was taken over tells a joiner of
// other coordinators is forgotten once the joiner knows the cluster's own records. A
// joiner that then knows nobody but by address, and lacks the CA that came after the
// seed, still finds back: its log says who is who.
func TestP8ASeedLeavesNoBackDoor(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	liar := c.nodes[1]
	ghost := minted(t, liar, ghostID)
	seed := lyingSeed(t, liar, func(m *memberFile) {
		m.Index = 1 << 60
		m.Members[ghostID] = invented(t, ghost)
	})
	cfg := testConfig(t, "n3")
	cfg.Join, cfg.JoinToken = []string{seed, c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
	c.cfgs = append(c.cfgs, cfg)
	c.start(2)
	c.eventually("three vote", func() bool { return len(voters(c.nodes[0].servers())) == 3 && c.nodes[2].Ready() == nil })
	if pingAs(t, ghost, c.nodes[2]) == nil {
		t.Error("an invented coordinator talks to the joiner")
	}
	path := filepath.Join(cfg.DataDir, fileKeys)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.client(0, c.admin).RemovePeer(t.Context(), liar.id.NodeID, true); err != nil {
		t.Fatal(err)
	}
	c.eventually("the old CA is over", func() bool { return c.nodes[0].shared.Load().active().id() != crypto.Sum(ghost.CACert) })
	_ = liar.shutdown()
	c.nodes[1] = nil
	_ = c.nodes[2].shutdown()
	poison(t, cfg.DataDir, ghost)                             // as a binary from before this was mended left it
	if err := os.WriteFile(path, before, 0o600); err != nil { // it ended before it took the new CA up
		t.Fatal(err)
	}
	c.start(2)
	c.eventually("the joiner is back", func() bool { return c.nodes[2].Ready() == nil })
	if pingAs(t, ghost, c.nodes[2]) == nil {
		t.Error("an invented coordinator in a member file outlived the removal of whoever told it")
	}
}

// poison puts a lie into a member file.
func poison(t *testing.T, dir string, ghost *identity) {
	t.Helper()
	path := filepath.Join(dir, filePeers)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all memberFile
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	all.Index = 1 << 60
	all.Members[ghostID] = invented(t, ghost)
	if text, err = json.Marshal(all); err == nil {
		err = keyfile.WriteAtomic(path, text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestJoinerIsIntroduced: it takes addresses from a seed's word, who the seed is from
// its certificate, and who another coordinator is from that one's, met later.
func TestJoinerIsIntroduced(t *testing.T) {
	key := func(b byte) crypto.Hash { return crypto.Hash{b} }
	told := memberFile{Index: 1 << 60, Members: map[string]peerAddress{
		"seed":  {Raft: "h:1", Role: fsm.RoleCoordinator, TLSKey: key(9)},
		"other": {Raft: "h:2", Role: fsm.RoleCoordinator, TLSKey: key(9)},
		"ghost": {Raft: "h:3", Role: fsm.RoleCoordinator, TLSKey: key(9)},
	}}
	b := openAddressBook(t.TempDir(), testLog(t))
	b.record(introduced(told, peerName{id: "seed", role: fsm.RoleCoordinator, tlsKey: key(1)}))
	b.introduce(peerName{id: "other", role: fsm.RoleCoordinator, tlsKey: key(2)})
	b.introduce(peerName{id: "seed", role: fsm.RoleCoordinator, tlsKey: key(3)}) // it has another by now
	b.introduce(peerName{id: "stranger", role: fsm.RoleCoordinator, tlsKey: key(4)})
	for id, want := range map[string]crypto.Hash{"seed": key(3), "other": key(2), "ghost": {}, "stranger": {}} {
		if a, asOf, _ := b.recordOf(id); a.TLSKey != want || asOf != 0 {
			t.Errorf("%s has key %v as of %d", id, a.TLSKey, asOf)
		}
	}
	if got := b.raftAddresses("ghost"); len(got) != 1 {
		t.Errorf("addresses of one that was only told of: %v", got)
	}
	b.record(memberFile{Index: 7, Members: told.Members})
	b.doubt(7)
	if a, asOf, _ := b.recordOf("seed"); asOf != 7 || a.TLSKey != key(9) {
		t.Errorf("own records of the log's last index: %v as of %d", a.TLSKey, asOf)
	}
	b.doubt(6)
	if a, asOf, _ := b.recordOf("seed"); asOf != 0 || !a.TLSKey.IsZero() || a.Raft != "h:1" {
		t.Errorf("records beyond the log: %+v as of %d", a, asOf)
	}
}

// TestJoinerFindsAnotherWitness: the seed is gone before the joiner heard of anybody;
// a coordinator that the operator named vouches for the leader instead.
func TestJoinerFindsAnotherWitness(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	cfg := testConfig(t, "n4")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[1].GossipAddr, c.cfgs[2].GossipAddr}, c.token("coordinator", 1)
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: cfg, log: cfg.Log, book: openAddressBook(cfg.DataDir, cfg.Log)}
	if id, err = n.joinIdentity(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := id.save(cfg.DataDir, cfg.Passphrase); err != nil {
		t.Fatal(err)
	}
	_ = c.nodes[1].shutdown() // the seed, before the joiner has run
	c.nodes[1] = nil
	c.cfgs = append(c.cfgs, cfg)
	c.start(3)
	c.eventually("the joiner caught up", func() bool { return c.nodes[3].Ready() == nil })
}
