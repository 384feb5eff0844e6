package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// observer adds an observer to the cluster.
func (c *trio) observer() *Node {
	c.t.Helper()
	cfg := testConfig(c.t, "watcher")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("observer", 1)
	n, err := Start(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatalf("observer: %v", err)
	}
	c.t.Cleanup(func() { _ = n.shutdown() })
	c.cfgs, c.nodes = append(c.cfgs, cfg), append(c.nodes, n)
	c.eventually("the observer serves", func() bool { return n.Ready() == nil })
	return n
}

func code(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// TestP8ObserverStaysAnObserver: it replicates and answers reads; it gets no CA
// key, not by its own join asked again as a coordinator either, and speaks for
// nobody.
func TestP8ObserverStaysAnObserver(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.observer()
	if len(n.id.CAKey) != 0 {
		t.Error("an observer holds the CA key")
	}
	token, err := crypto.ParseTokenText(n.cfg.JoinToken)
	if err != nil {
		t.Fatal(err)
	}
	req, err := newJoinRequest(n.cfg, n.id, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := joinAt(t.Context(), c.cfgs[0], n.id, c.cfgs[0].GossipAddr, token, req); err != nil {
		t.Errorf("the same join asked again: %v", err)
	}
	for _, change := range []func(*joinRequest){
		func(r *joinRequest) { r.Coordinator.Role = fsm.RoleCoordinator },
		func(r *joinRequest) { r.Coordinator.TLSKey = crypto.Sum([]byte("other")) },
	} {
		forged := req
		change(&forged)
		parts, err := forged.parts()
		if err != nil {
			t.Fatal(err)
		}
		forged.Proof = crypto.SignText(n.id.signingKey(), joinLabel, parts...)
		if reply, err := joinAt(t.Context(), c.cfgs[0], n.id, c.cfgs[0].GossipAddr, token, forged); err == nil {
			t.Errorf("a changed join was answered, CA key of %d bytes", len(reply.CAKey))
		}
	}
	leader := c.nodes[0].id.NodeID
	admin, _ := crypto.ParseTokenText(c.admin)
	for _, body := range []any{
		fsm.TokenCreate{ID: "0123456789abcdef", Role: fsm.RoleAdmin, Uses: -1},
		fsm.Tick{Term: 1 << 60},
		fsm.AdmitBatch{},
	} {
		cmd, err := fsm.New(fsm.Actor{TokenID: admin.ID}, body)
		if err != nil {
			t.Fatal(err)
		}
		var res fsm.Result
		if err := n.call(t.Context(), leader, rpcPropose, cmd, &res); err == nil {
			t.Errorf("an observer proposed %T: %+v", body, res)
		}
	}
	var reply admitReply
	if err := n.call(t.Context(), leader, rpcAdmit, fsm.AdmitBatch{}, &reply); code(err) != client.CodeForbidden {
		t.Errorf("an observer asked for admissions: %v", err)
	}
	if _, err := c.client(1, c.admin).Policy(t.Context(), client.Strong()); err != nil {
		t.Errorf("a strong read at the observer: %v", err)
	}
	if _, err := c.client(1, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); code(err) != client.CodeUnavailable {
		t.Errorf("a write at the observer: %v", err)
	}
	moved, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, fsm.CoordinatorUpdate{ID: n.id.NodeID, API: "victim.example.com:443", Raft: n.cfg.raftAddr(), Gossip: n.cfg.GossipAddr, Level: n.cfg.supports(), Version: n.cfg.Version})
	if err != nil {
		t.Fatal(err)
	}
	var refused int
	for range 20 * updateBurst {
		var res fsm.Result
		if err := n.call(t.Context(), leader, rpcPropose, moved, &res); code(err) == client.CodeOverloaded {
			refused++
		}
	}
	if refused < 10*updateBurst { // or 100 s went by
		t.Errorf("an observer describes itself %d times: %d refused", 20*updateBurst, refused)
	}
	long, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, fsm.CoordinatorUpdate{ID: n.id.NodeID, Version: strings.Repeat("v", maxUpdateBytes)})
	if err != nil {
		t.Fatal(err)
	}
	var res fsm.Result
	if err := n.call(t.Context(), leader, rpcPropose, long, &res); code(err) != client.CodeTooLarge {
		t.Errorf("a description of more than %d bytes: %v", maxUpdateBytes, err)
	}
	var cert []byte
	if err := n.call(t.Context(), leader, rpcCertify, certifyRequest{NodeID: n.id.NodeID, TLSPublic: req.TLSPublic}, &cert); err != nil {
		t.Fatal(err)
	}
	if leaf, err := x509.ParseCertificate(cert); err != nil || leaf.VerifyHostname("victim.example.com") == nil {
		t.Errorf("an observer got a certificate for a host that it did not join with: %v", err)
	}
	var member memberReply
	if err := n.call(t.Context(), leader, rpcMember, memberRequest{ID: strings.Repeat("x", maxTalkBytes)}, &member); code(err) != client.CodeInvalid {
		t.Errorf("a question of more than %d bytes: %v", maxTalkBytes, err)
	}
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raftPort := raft.NewNetworkTransport(&streamLayer{Listener: unused, self: n.id.NodeID, dialer: n.dialer}, 1, 5*time.Second, io.Discard)
	t.Cleanup(func() { _ = raftPort.Close() })
	own := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id.NodeID), Addr: []byte(n.id.NodeID)}
	before := c.nodes[0].raft.CurrentTerm()
	var appended raft.AppendEntriesResponse
	if err := raftPort.AppendEntries(raft.ServerID(leader), raft.ServerAddress(leader), &raft.AppendEntriesRequest{RPCHeader: own, Term: before + 1}, &appended); err == nil {
		t.Errorf("an observer appends entries: %+v", appended)
	}
	if now := c.nodes[0].raft.CurrentTerm(); now != before || c.nodes[0].raft.State() != raft.Leader {
		t.Errorf("an observer deposed the leader: term %d, then %d", before, now)
	}
}

// TestP8CoordinatorForwardsOnlyWhatCallersMayAsk: ticks, genesis and batches
// are the leader's own.
func TestP8CoordinatorForwardsOnlyWhatCallersMayAsk(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead, other := c.nodes[c.leader()], c.nodes[1-c.leader()]
	for _, body := range []any{fsm.Tick{Term: 1 << 60}, fsm.Genesis{}, fsm.AdmitBatch{}} {
		cmd, err := fsm.New(fsm.Actor{NodeID: other.id.NodeID}, body)
		if err != nil {
			t.Fatal(err)
		}
		var res fsm.Result
		if err := other.call(t.Context(), lead.id.NodeID, rpcPropose, cmd, &res); code(err) != client.CodeForbidden {
			t.Errorf("%T was taken: %+v %v", body, res, err)
		}
	}
}

// TestP8MintedCertificatesAreWorthless: a coordinator that was removed still
// holds the CA key; what it signs with it opens nothing.
func TestP8MintedCertificatesAreWorthless(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	lead := c.nodes[0]
	for name, nodeID := range map[string]string{"unknown id": "deadbeef-0000-4000-8000-000000000000", "a living node's id": c.nodes[1].id.NodeID} {
		forger := *lead.identityNow()
		forger.NodeID = nodeID
		var err error
		if forger.TLSKey, err = newTLSKey(); err != nil {
			t.Fatal(err)
		}
		signer, err := parseSigner(forger.TLSKey)
		if err != nil {
			t.Fatal(err)
		}
		if forger.TLSCert, err = forger.shared().active().issueLeaf(forger.ClusterID, nodeID, fsm.RoleCoordinator, signer.Public(), nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		creds, err := newCredentials(&forger, func(peerName) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		intruder := &Node{rpc: newRPCClient(&peerDialer{book: lead.book, creds: creds, net: machineNetwork{}}, LocalTiming().Peer)}
		lead.book.hear(lead.id.NodeID, peerAddress{Raft: lead.cfg.RaftAddr})
		var reply pingReply
		if err := intruder.call(t.Context(), lead.id.NodeID, rpcPing, pingRequest{}, &reply); err == nil {
			t.Errorf("%s: a minted certificate was accepted", name)
		}
	}
}

// TestP8AVouchEndsWithItsWitness: what a coordinator said of a stranger is void
// once the coordinator is removed.
func TestP8AVouchEndsWithItsWitness(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	liar, victim := c.nodes[(lead+1)%3], c.nodes[(lead+2)%3]
	const stranger = "deadbeef-0000-4000-8000-000000000000"
	lie := memberReply{Coordinator: fsm.Coordinator{ID: stranger, Role: fsm.RoleCoordinator}, Since: 1 << 60}
	victim.trust.mu.Lock()
	victim.trust.vouched[stranger] = vouch{memberReply: lie, witness: liar.id.NodeID, at: time.Now()}
	victim.trust.mu.Unlock()
	if victim.unwelcome(peerName{id: stranger}) {
		t.Fatal("a vouch of a member does not count")
	}
	moved := netip.MustParseAddr("127.0.0.9")
	if !victim.isMemberAt(netip.MustParseAddr("127.0.0.1")) || victim.isMemberAt(moved) {
		t.Error("members are not known by their addresses")
	}
	from := peerDialer{book: liar.book, creds: liar.creds, net: fromNetwork{addr: moved}}
	conn, err := from.dial(t.Context(), protoRPC, victim.id.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c.eventually("an address that a member proved is known", func() bool { return victim.isMemberAt(moved) })
	c.removeCompromised(lead, liar.id.NodeID)
	c.eventually("the stranger is unwelcome", func() bool { return victim.unwelcome(peerName{id: stranger}) })
	if victim.isMemberAt(moved) {
		t.Error("the address of a removed node is a member's")
	}
	if _, err := c.nodes[lead].vouchFor(stranger); err == nil {
		t.Error("a leader asked about a stranger")
	}
	c.removedHoldsNothing(liar, victim)
}

// removedHoldsNothing: a removed node that stalls in the middle of its calls keeps
// no connection.
func (c *trio) removedHoldsNothing(gone, at *Node) {
	_ = gone.shutdown() // by itself it goes on asking whether it is a member
	m := at.face.muxes[len(at.face.muxes)-1]
	for range 2 * maxFarewellsOfOne {
		conn, err := tls.Dial("tcp", at.cfg.RaftAddr, gone.creds.dial(protoRPC, at.id.NodeID))
		if err != nil {
			continue
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "POST /ping HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nx") // and nothing more, for ever
	}
	c.eventually("it holds none", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for p := range m.peers {
			if p.nodeID == gone.id.NodeID {
				return false
			}
		}
		return true
	})
}

// TestJoinSurvivesACrashBeforeItsAnswer: the identity is on disk before the
// join is asked for, so the same token and name serve the second try.
func TestJoinSurvivesACrashBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	cfg := testConfig(t, "crasher")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
	id, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := id.save(cfg.DataDir, cfg.Passphrase); err != nil {
		t.Fatal(err)
	}
	if _, err := join(t.Context(), cfg, id); err != nil { // committed; the process dies here
		t.Fatal(err)
	}
	n, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("second try: %v", err)
	}
	defer func() { _ = n.shutdown() }()
	if n.id.NodeID != id.NodeID {
		t.Errorf("another id: %s, %s before", n.id.NodeID, id.NodeID)
	}
	c.eventually("it votes", func() bool { return len(voters(n.servers())) == 2 })
}
