package node

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// tlsRingOf is the TLS keys of a node as node i has them, and the clock there.
func (c *trio) tlsRingOf(i int, nodeID string) (ring fsm.Ring, clock int64) {
	c.nodes[i].machine.Read(func(s *fsm.State) {
		ring, _ = s.KeyRing(fsm.CertificateSubject(nodeID))
		clock = s.ClockMs()
	})
	return ring, clock
}

// shownKey names the key of the certificate that a node shows.
func (n *Node) shownKey() crypto.Hash {
	return crypto.Sum(n.creds.cert.Load().Leaf.RawSubjectPublicKeyInfo)
}

// impostor speaks as a node by what that held at a time.
func (c *trio) impostor(of *Node) *Node {
	c.t.Helper()
	id := of.identityNow()
	id.LaterTLS = slices.Clone(id.LaterTLS)
	creds, err := newCredentials(id, func(peerName) error { return nil })
	if err != nil {
		c.t.Fatal(err)
	}
	dialer := &peerDialer{book: of.book, creds: creds, net: machineNetwork{}}
	return &Node{id: id, creds: creds, book: of.book, dialer: dialer, rpc: newRPCClient(dialer, LocalTiming().Peer)}
}

// pings tells whether a node is answered by another as itself. Each call has a
// connection of its own.
func (n *Node) pings(t *testing.T, at *Node) bool {
	t.Helper()
	n.book.hear(at.id.NodeID, peerAddress{Raft: at.cfg.RaftAddr})
	n.rpc.CloseIdleConnections()
	var reply pingReply
	return n.call(t.Context(), at.id.NodeID, rpcPing, pingRequest{}, &reply) == nil
}

// rotateTLS asks a node for its next TLS key and waits until it shows it.
func (c *trio) rotateTLS(by int, n *Node) (was crypto.Hash) {
	c.t.Helper()
	was = n.shownKey()
	if _, err := c.client(by, c.admin).RotateKey(c.t.Context(), "certificate/"+n.id.NodeID, client.RotateRequest{}); err != nil {
		c.t.Fatal(err)
	}
	c.eventually("it shows its next key", func() bool { return n.shownKey() != was })
	return was
}

func (c *trio) revokeTLS(by int, nodeID string, key crypto.Hash) {
	c.t.Helper()
	if _, err := c.client(by, c.admin).RevokeKey(c.t.Context(), "certificate/"+nodeID, client.RevokeKeyRequest{KeyID: crypto.PublicKey(key).KeyID(), Reason: "copied"}); err != nil {
		c.t.Fatal(err)
	}
}

// TestP5CertificateKeysRotateUnderLoad: all nodes change their TLS keys while clients
// sign and bans are made, the leader is stopped in the middle, and nothing is refused.
// The old key counts in the overlap, at every node, and not after it.
func TestP5CertificateKeysRotateUnderLoad(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newTrio(t, 3)
	c.quickKeys(c.client(0, c.admin))
	overlap := int64(fsm.MinOverlapMs)
	if _, err := c.client(0, c.admin).SetKeySchedule(t.Context(), "certificate", 0, client.KeyScheduleUpdate{OverlapMs: &overlap}); err != nil {
		t.Fatal(err)
	}
	load := c.loadOf(c.enroll(0, "agent-1"))
	c.eventually("load runs", func() bool { return load.admitted.Load() > 5 && load.banned.Load() > 2 })
	lead := c.leader()
	one, two := (lead+1)%3, (lead+2)%3
	before := map[int]crypto.Hash{}
	for i, n := range c.nodes {
		before[i] = n.shownKey()
		if _, err := c.client(one, c.admin).RotateKey(t.Context(), "certificate/"+n.id.NodeID, client.RotateRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	old := c.impostor(c.nodes[two])
	if !old.pings(t, c.nodes[one]) {
		t.Error("the older key is refused before its overlap is over")
	}
	if err := c.nodes[lead].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[lead] = nil
	c.eventually("the others show new keys without it", func() bool { return c.nodes[one].shownKey() != before[one] && c.nodes[two].shownKey() != before[two] })
	c.start(lead)
	c.eventually("so does it, and every old key retires at every node", func() bool {
		for i := range c.nodes {
			for j, n := range c.nodes {
				ring, clock := c.tlsRingOf(i, n.id.NodeID)
				if len(ring) != 2 || ring.StateOf(0, clock) != fsm.KeyRetired || n.shownKey() != crypto.Hash(ring[1].Public) || before[j] == n.shownKey() {
					return false
				}
			}
		}
		return true
	})
	c.eventually("old keys leave the files", func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *Node) bool { return len(n.creds.held()) != 1 })
	})
	for _, i := range []int{lead, one} {
		if old.pings(t, c.nodes[i]) {
			t.Errorf("node %d takes a key whose overlap is over", i)
		}
	}
	admitted := load.admitted.Load()
	c.eventually("load goes on", func() bool { return load.admitted.Load() > admitted+5 })
	c.eventually("all serve", c.allReady)
	load.end()
}

// TestP5RevokedCertificateKeyIsRefused: from the index of its revocation on no node
// takes it, overlap or not, and connections that are open end. Who has it alone orders
// no successor.
func TestP5RevokedCertificateKeyIsRefused(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newTrio(t, 3)
	lead := c.leader()
	n := c.nodes[(lead+1)%3]
	others := []*Node{c.nodes[lead], c.nodes[(lead+2)%3]}
	thief := c.impostor(n)
	c.thiefOrdersNothing(thief, n, c.nodes[lead])
	was := c.rotateTLS(lead, n)
	var open []net.Conn
	for _, at := range others {
		if !thief.pings(t, at) {
			t.Error("the key is refused in its overlap")
		}
		conn, err := thief.dialer.dial(t.Context(), protoRaft, at.id.NodeID)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	c.revokeTLS(lead, n.id.NodeID, was)
	for _, at := range others {
		c.eventually("the entry is applied", func() bool {
			ring, _ := c.tlsRingOf(slices.Index(c.nodes, at), n.id.NodeID)
			return ring[0].RevokedAt != 0
		})
		if thief.pings(t, at) {
			t.Error("a revoked key is taken")
		}
	}
	for _, conn := range open {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 1)); err == nil || timedOut(err) {
			t.Errorf("a connection of a revoked key goes on: %v", err)
		}
	}
	c.eventually("nobody has a connection under it", func() bool {
		for _, at := range c.nodes {
			for _, m := range at.face.muxes {
				m.mu.Lock()
				has := false
				for p := range m.peers {
					has = has || p.peer.tlsKey == was
				}
				m.mu.Unlock()
				if has {
					return false
				}
			}
			at.dialer.mu.Lock()
			has := false
			for conn := range at.dialer.open {
				has = has || conn.peer.tlsKey == was
			}
			at.dialer.mu.Unlock()
			if has {
				return false
			}
		}
		return true
	})
	if _, err := c.client(lead, c.admin).RevokeKey(t.Context(), "certificate/"+n.id.NodeID, client.RevokeKeyRequest{KeyID: crypto.PublicKey(n.shownKey()).KeyID(), Reason: "copied"}); code(err) != client.CodeConflict {
		t.Errorf("the last key is revoked: %v", err)
	}
	c.eventually("all serve", c.allReady)
	if keys, err := c.client(lead, c.admin).Keys(t.Context(), "certificate/"+n.id.NodeID); err != nil || len(keys.Keys) != 2 || keys.Keys[0].State != "revoked" || keys.Keys[1].State != "active" || keys.Keys[0].PublicKey != "" {
		t.Errorf("as it is shown: %+v, %v", keys, err)
	}
}

func timedOut(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // of a connection, as it is
	return ok && e.Timeout()
}

// thiefOrdersNothing: the TLS key opens connections as the node, but its successor is
// ordered by the signing key.
func (c *trio) thiefOrdersNothing(thief, of, lead *Node) {
	t := c.t
	own := newTestKey(t)
	st, clock := of.standing(fsm.CertificateSubject(of.id.NodeID))
	b := st.NextOrder(crypto.PublicKey(crypto.Sum([]byte("thief"))), clock, of.clockMs())
	b.Signer = crypto.PublicOf(own)
	b.Order = b.Succession(of.id.ClusterID).Order(own)
	asOwner := b
	asOwner.Signer = of.publicKey() // whose signature it is not
	for name, body := range map[string]fsm.KeyPrepare{"by a key of its own": b, "by the owner's": asOwner} {
		cmd, err := fsm.New(fsm.Actor{NodeID: of.id.NodeID}, body)
		if err != nil {
			t.Fatal(err)
		}
		var res fsm.Result
		thief.book.hear(lead.id.NodeID, peerAddress{Raft: lead.cfg.RaftAddr})
		if err := thief.call(t.Context(), lead.id.NodeID, rpcPropose, cmd, &res); err == nil && res.OK() {
			t.Errorf("an order %s: %+v", name, res)
		}
	}
	if ring, _ := c.tlsRingOf(c.leader(), of.id.NodeID); len(ring) != 1 {
		t.Errorf("%+v", ring)
	}
}

// TestTLSKeySurvivesACrash: a key that was made and never announced is found again,
// announced, and shown after another restart.
func TestTLSKeySurvivesACrash(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	st, _ := n.standing(fsm.CertificateSubject(n.id.NodeID))
	made, err := n.nextTLSKey(st)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.nextTLSKey(st); err != nil || again.name != made.name {
		t.Fatalf("%v, %v, want %v", again.name, err, made.name)
	}
	restart := func() {
		if err := n.shutdown(); err != nil {
			t.Fatal(err)
		}
		c.start(0)
		c.eventually("it is back", c.allReady)
		n = c.nodes[0]
	}
	restart()
	if n.shownKey() == made.name {
		t.Error("it shows a key that nobody knows")
	}
	c.rotateTLS(0, n)
	if n.shownKey() != made.name {
		t.Error("another key than that of before the crash is announced")
	}
	restart()
	c.eventually("it shows the key, and how it came", func() bool {
		p, err := nameOf(n.creds.cert.Load().Leaf)
		return err == nil && p.tlsKey == made.name && p.proof != nil
	})
	if _, err := c.client(0, c.admin).Ban(t.Context(), client.BanRequest{AgentID: "x", ReasonCode: crypto.ReasonManualReview, Reason: "seen to misbehave",
		EvidenceSHA256: crypto.Sum(nil).String(), ReporterID: "operator"}); err != nil {
		t.Errorf("a client does not take the new certificate: %v", err)
	}
}

// TestReturnAfterMissedCertificateRotations: a node that was away while all others
// changed their TLS keys and the old ones were revoked, and while its own was revoked
// with the next one announced, comes back.
func TestReturnAfterMissedCertificateRotations(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newTrio(t, 3)
	watcher := c.observer()
	lead := c.leader()
	away := (lead + 1) % 3
	gone := []*Node{c.nodes[away], watcher}
	hour, lead59, overlap := int64(3_600_000), int64(3_600_000-1_000), int64(60_000)
	old := map[string]crypto.Hash{}
	for _, n := range gone {
		old[n.id.NodeID] = n.shownKey()
		if _, err := c.client(lead, c.admin).SetKeySchedule(t.Context(), "certificate/"+n.id.NodeID, 0, client.KeyScheduleUpdate{PeriodMs: &hour, LeadMs: &lead59, OverlapMs: &overlap}); err != nil {
			t.Fatal(err)
		}
		c.eventually("its next key is announced, for an hour on", func() bool {
			ring, clock := c.tlsRingOf(lead, n.id.NodeID)
			return len(ring) == 2 && ring.StateOf(1, clock) == fsm.KeyNext
		})
		_ = n.shutdown()
	}
	c.nodes[away], c.nodes[3] = nil, nil
	for _, n := range gone {
		c.revokeTLS(lead, n.id.NodeID, old[n.id.NodeID])
	}
	for i, n := range c.nodes {
		if n != nil {
			c.revokeTLS(lead, n.id.NodeID, c.rotateTLS(lead, c.nodes[i]))
		}
	}
	c.start(away)
	c.start(3)
	for _, i := range []int{away, 3} {
		n := c.nodes[i]
		c.eventually("it serves again under its new key", func() bool { return n.Ready() == nil && n.shownKey() != old[n.id.NodeID] && !n.uncertified.Load() })
	}
	c.eventually("all serve", c.allReady)
}

// TestObserverWithoutACertificate: an observer whose key was revoked while it runs gets
// a certificate for the next one at the door.
func TestObserverWithoutACertificate(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newTrio(t, 1)
	n := c.observer()
	hour, lead59, overlap := int64(3_600_000), int64(3_600_000-1_000), int64(60_000)
	if _, err := c.client(0, c.admin).SetKeySchedule(t.Context(), "certificate/"+n.id.NodeID, 0, client.KeyScheduleUpdate{PeriodMs: &hour, LeadMs: &lead59, OverlapMs: &overlap}); err != nil {
		t.Fatal(err)
	}
	c.eventually("its next key is announced", func() bool { ring, _ := c.tlsRingOf(0, n.id.NodeID); return len(ring) == 2 })
	was := n.shownKey()
	c.revokeTLS(0, n.id.NodeID, was)
	c.eventually("it serves again under its next key", func() bool {
		ring, _ := c.tlsRingOf(0, n.id.NodeID)
		return n.Ready() == nil && n.shownKey() == crypto.Hash(ring[1].Public) && !n.uncertified.Load() && n.pings(t, c.nodes[0])
	})
}

// TestCertificateSuccessions: what a certificate says of its key counts against an
// older record, and for nothing else.
func TestCertificateSuccessions(t *testing.T) {
	const cluster = "0a1b2c3d-0000-4000-8000-000000000000"
	first, second, thief := newTestKey(t), newTestKey(t), newTestKey(t)
	tlsName := func(text string) crypto.PublicKey { return crypto.PublicKey(crypto.Sum([]byte(text))) }
	link := func(of fsm.Subject, by crypto.PublicKey, next crypto.PublicKey, signer crypto.PrivateKey, signedMs int64) *fsm.Succession {
		st := crypto.Succession{ClusterID: cluster, Subject: of.String(), Predecessor: by, Successor: next, SignedMs: signedMs}
		return &fsm.Succession{Predecessor: by, SignedMs: signedMs, Signature: st.Order(signer)}
	}
	was := fsm.Coordinator{ID: "n0", TLSKey: crypto.Hash(tlsName("a")), SigningKey: crypto.PublicOf(first)}
	now := was
	now.Keys = fsm.Ring{{Public: crypto.PublicOf(first)}, {Public: crypto.PublicOf(second), Succession: link(fsm.CoordinatorSubject("n0"), crypto.PublicOf(first), crypto.PublicOf(second), first, 10)}}
	order := link(fsm.CertificateSubject("n0"), tlsName("a"), tlsName("b"), second, 20)
	order.Signer = crypto.PublicOf(second)
	now.TLSKeys = fsm.Ring{{Public: tlsName("a")}, {Public: tlsName("b"), Succession: order}}
	good, ok := proofOf(now, crypto.Hash(tlsName("b")))
	if !ok {
		t.Fatal("no proof")
	}
	key := crypto.Hash(tlsName("b"))
	if !good.proves(cluster, was, key, 10) {
		t.Fatal("who was away does not know the node again")
	}
	if _, ok := proofOf(now, crypto.Hash(tlsName("a"))); ok {
		t.Error("the key that it joined with is proved by the record alone")
	}
	stolen := link(fsm.CertificateSubject("n0"), tlsName("a"), tlsName("b"), thief, 20)
	stolen.Signer = crypto.PublicOf(thief)
	revoked, newer, known := was, was, now
	revoked.Keys = fsm.Ring{{Public: crypto.PublicOf(first), RevokedAt: 7}}
	newer.TLSKeys = fsm.Ring{{Public: tlsName("c"), Succession: &fsm.Succession{SignedMs: 20}}}
	known.TLSKeys = fsm.Ring{{Public: tlsName("b"), RevokedAt: 9}}
	for name, tc := range map[string]struct {
		change func(p *tlsProof)
		have   fsm.Coordinator
		key    crypto.Hash
	}{
		"another key":                  {func(*tlsProof) {}, was, crypto.Hash(tlsName("c"))},
		"ordered by a thief":           {func(p *tlsProof) { p.TLS = linkOf(fsm.Key{Public: tlsName("b"), Succession: stolen}) }, was, key},
		"a signer that is not the one": {func(p *tlsProof) { p.TLS.Signer = crypto.PublicOf(first) }, was, key},
		"no way from what is known":    {func(p *tlsProof) { p.Signing = nil }, was, key},
		"a way by a forged link":       {func(p *tlsProof) { p.Signing[0].Signature = p.TLS.Signature }, was, key},
		"of another node":              {func(*tlsProof) {}, fsm.Coordinator{ID: "n1", TLSKey: was.TLSKey, SigningKey: was.SigningKey}, key},
		"a revoked signing key":        {func(*tlsProof) {}, revoked, key},
		"an order before the last":     {func(*tlsProof) {}, newer, key},
		"a key that was revoked":       {func(*tlsProof) {}, known, key},
	} {
		p := *(&good).clone()
		if tc.change(&p); p.proves(cluster, tc.have, tc.key, 10) {
			t.Errorf("%s proves", name)
		}
	}
	if p := *(&good).clone(); p.proves(cluster, was, key, 11) {
		t.Error("orders that the record would know of prove")
	}
	if (*tlsProof)(nil).proves(cluster, was, key, 10) {
		t.Error("nothing proves")
	}
	e := &Edge{id: &identity{ClusterID: cluster}}
	told := peerAddress{TLSKey: was.TLSKey, SigningKey: was.SigningKey}
	if !e.knows(peerName{id: "n0", tlsKey: key, proof: &good}, told) || !e.knows(peerName{id: "n0", tlsKey: was.TLSKey}, told) || e.knows(peerName{id: "n0", tlsKey: key}, told) {
		t.Error("an edge goes by something else than what it was told and what follows from that")
	}
	kept := peerAddress{TLSKey: key, OtherTLSKeys: tlsTexts(now.TLSRing(), key, 0), TLSSignedMs: lastSigned(now.TLSRing())}
	if ring := kept.tlsRing(); len(ring) != 2 || !inRing(ring, was.TLSKey) || !inRing(ring, key) || lastSigned(ring) != 20 {
		t.Errorf("as the member file has it: %+v", ring)
	}
}

func (p *tlsProof) clone() *tlsProof {
	return &tlsProof{Signing: slices.Clone(p.Signing), TLS: p.TLS}
}

// FuzzTLSProof: whatever stands in a certificate, reading it ends, and it proves
// nothing unless it was signed.
func FuzzTLSProof(f *testing.F) {
	name, err := (tlsProof{Signing: make([]keyLink, 2), TLS: keyLink{Signature: []byte("x")}}).uri()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(name.Opaque)
	f.Add("")
	f.Add("oA")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProof(text)
		if err != nil {
			return
		}
		key := crypto.Hash(p.TLS.Public)
		if p.proves("cluster", fsm.Coordinator{ID: "n0", TLSKey: crypto.Sum(nil), SigningKey: crypto.PublicKey{1}}, key, 0) {
			t.Errorf("%q proves", text)
		}
	})
}

// TestRetiredSignerProvesNothing: a signing key whose window is over orders no TLS key,
// neither as of today nor as of then; and one without a predecessor, ordered by the key
// that was revoked, is followed.
func TestRetiredSignerProvesNothing(t *testing.T) {
	const cluster, at, day = "0a1b2c3d-0000-4000-8000-000000000000", int64(1_800_000_000_000), int64(86_400_000)
	old, now, orphan := newTestKey(t), newTestKey(t), newTestKey(t)
	have := fsm.Coordinator{ID: "n0", TLSKey: crypto.Sum([]byte("a")), SigningKey: crypto.PublicOf(old), Keys: fsm.Ring{
		{Public: crypto.PublicOf(old), NotAfterMs: at - 400*day}, {Public: crypto.PublicOf(now), NotBeforeMs: at - 402*day}}}
	key := crypto.Sum([]byte("b"))
	link := func(of fsm.Subject, by, next crypto.PublicKey, signer crypto.PrivateKey, signedMs int64) keyLink {
		st := crypto.Succession{ClusterID: cluster, Subject: of.String(), Predecessor: by, Successor: next, SignedMs: signedMs}
		return keyLink{Public: next, Predecessor: by, Signer: crypto.PublicOf(signer), SignedMs: signedMs, Signature: st.Order(signer)}
	}
	ordered := func(signer crypto.PrivateKey, signedMs int64) keyLink {
		return link(fsm.CertificateSubject("n0"), crypto.PublicKey(have.TLSKey), crypto.PublicKey(key), signer, signedMs)
	}
	brought := link(fsm.CoordinatorSubject("n0"), crypto.PublicKey{}, crypto.PublicOf(orphan), now, at)
	revoked := have
	revoked.Keys = slices.Clone(have.Keys)
	revoked.Keys[1].RevokedAt = 9
	for name, tc := range map[string]struct {
		p    tlsProof
		have fsm.Coordinator
		want bool
	}{
		"the signer of today":                    {tlsProof{TLS: ordered(now, at)}, have, true},
		"one that retired, today":                {tlsProof{TLS: ordered(old, at)}, have, false},
		"one that retired, in its time":          {tlsProof{TLS: ordered(old, at-401*day)}, have, false},
		"one that came without a predecessor":    {tlsProof{Signing: []keyLink{brought}, TLS: ordered(orphan, at)}, have, true},
		"the same where its orderer is revoked":  {tlsProof{Signing: []keyLink{brought}, TLS: ordered(orphan, at)}, revoked, false},
		"the same without what says how it came": {tlsProof{TLS: ordered(orphan, at)}, have, false},
	} {
		if tc.p.proves(cluster, tc.have, key, at-day) != tc.want {
			t.Errorf("%s: %t", name, !tc.want)
		}
	}
}

// TestFullDiskCutsNobodyOff: a certificate is shown though the key file cannot be
// written, no key that the file needs leaves it, and it is saved once that is possible.
func TestFullDiskCutsNobodyOff(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	n := c.nodes[0]
	st, _ := n.standing(fsm.CertificateSubject(n.id.NodeID))
	if _, err := n.nextTLSKey(st); err != nil { // it is in the file before the disk is full
		t.Fatal(err)
	}
	n.idMu.Lock()
	pass, saved := n.cfg.Passphrase, n.id.TLSCert
	n.cfg.Passphrase = nil // so it cannot be written
	n.idMu.Unlock()
	c.rotateTLS(0, n)
	n.idMu.Lock()
	if !bytes.Equal(n.id.TLSCert, saved) {
		t.Error("it is saved: this shows nothing")
	}
	n.cfg.Passphrase = pass
	n.idMu.Unlock()
	shown := n.creds.cert.Load().Certificate[0]
	c.eventually("it is saved", func() bool {
		id, err := loadIdentity(c.cfgs[0].DataDir, pass)
		return err == nil && bytes.Equal(id.TLSCert, shown)
	})
}
