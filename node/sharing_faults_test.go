package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// underLoad has agents sign requests until the test stops it: each must be
// admitted, at whichever node answers, within a client's patience.
func (c *trio) underLoad() (stop func()) {
	c.t.Helper()
	verifier := c.token("verifier", -1)
	var agents []agent
	for i := range 8 { // each has its rate limit
		agents = append(agents, c.enroll(0, fmt.Sprintf("agent-%d", i)))
	}
	var addrs []string
	for _, cfg := range c.cfgs {
		addrs = append(addrs, "https://"+cfg.APIAddr)
	}
	// The CA file of a node that will not be stopped first: a stopped one's is stale.
	file := filepath.Join(c.cfgs[(max(c.leader(), 0)+1)%len(c.cfgs)].DataDir, fileCA)
	cl, err := client.New(client.Config{Addrs: addrs, CAFile: file, Token: verifier, Timeout: 2 * time.Minute, Attempts: 100})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	var done sync.WaitGroup
	admitted := 0
	done.Go(func() {
		for i := 0; pause(ctx, 300*time.Millisecond); i++ {
			r := agents[i%len(agents)].request(c.t, fmt.Sprintf("load-%d", i))
			got, err := cl.Admit(ctx, r)
			if ctx.Err() != nil {
				return
			}
			if err != nil || got.Verdict != client.VerdictAdmitted {
				c.t.Errorf("a legitimate request during a rotation: %+v, %v", got, err)
			}
			admitted++
		}
	})
	return func() {
		cancel()
		done.Wait()
		c.t.Logf("%d requests admitted meanwhile", admitted)
	}
}

// stopLeader stops whoever leads, as a kill would: nothing is handed over.
func (c *trio) stopLeader() int {
	c.t.Helper()
	i := -1
	c.eventually("a leader", func() bool { i = c.leader(); return i >= 0 })
	_ = c.nodes[i].shutdown()
	c.nodes[i] = nil
	return i
}

// TestP5RotationSurvivesItsLeader: the leader goes between the steps of a
// rotation of both keys, the next one goes on, no legitimate request is refused,
// and who was away comes back with what counts.
func TestP5RotationSurvivesItsLeader(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	stop := c.underLoad()
	before := map[fsm.Subject]crypto.Hash{}
	for _, of := range []fsm.Subject{caSubject, gossipSubject} {
		c.overlapOf(of, 10*time.Second)
		before[of] = c.activeKey(of)
		if res := c.asAdmin(fsm.KeyRotate{Subject: of.String()}); !res.OK() {
			t.Fatalf("rotate %s: %+v", of, res)
		}
	}
	away := c.stopLeader() // asked for, perhaps prepared, perhaps more
	for of, key := range before {
		c.rotated(of, key)
	}
	c.start(away)
	for of, key := range before {
		c.rotated(of, key) // on the one that was away, too
	}
	again := c.stopLeader() // switched to, and the old keys still count
	for of, key := range before {
		c.forgotten(of, key)
	}
	c.start(again) // after the overlap
	c.eventually("all serve", c.allReady)
	for of, key := range before {
		c.rotated(of, key)
		c.forgotten(of, key)
	}
	stop()
	c.allGossip(t)
}

// allGossip: every node lists every node as alive.
func (c *trio) allGossip(t *testing.T) {
	t.Helper()
	c.eventually("everybody is in the pool", func() bool {
		for _, n := range c.live() {
			alive := 0
			for _, m := range n.pool.Members() {
				if m.State == gossip.StateAlive {
					alive++
				}
			}
			if alive != len(c.live()) {
				return false
			}
		}
		return true
	})
}

// TestP5RevokedCAIsRefusedEverywhere: from the next index on, on every node that
// has applied it, and one that was away comes back all the same.
func TestP5RevokedCAIsRefusedEverywhere(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	stop := c.underLoad()
	away := (c.leader() + 2) % 3
	_ = c.nodes[away].shutdown()
	stale := c.nodes[away].creds // certificate, key and trust of before
	dialer := &peerDialer{book: c.nodes[(away+1)%3].book, creds: stale, net: machineNetwork{}}
	c.nodes[away] = nil
	for _, of := range []fsm.Subject{gossipSubject, caSubject} {
		if of == caSubject {
			stop() // clients that know no other CA are refused from here on, as they should
		}
		before := c.activeKey(of)
		ref := crypto.PublicKey(before).Fingerprint()
		if res := c.asAdmin(fsm.KeyRevoke{Subject: of.String(), Key: ref, Reason: "test"}); !res.OK() {
			t.Fatalf("revoke %s: %+v", of, res)
		}
		c.rotated(of, before)
		c.forgotten(of, before)
	}
	for _, n := range c.live() {
		for _, proto := range []string{protoRaft, protoRPC} {
			if err := offers(t, dialer, proto, n); err == nil {
				t.Errorf("%s took a certificate of the revoked CA for %s", n.cfg.Name, proto)
			}
		}
	}
	c.start(away)
	c.eventually("all serve", c.allReady)
	c.eventually("the one that was away has what counts", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	c.allGossip(t)
}

// offers tells whether a node goes on after it saw our certificate. With TLS 1.3
// a client learns of the refusal with its first read.
func offers(t *testing.T, d *peerDialer, proto string, to *Node) error {
	t.Helper()
	creds := &credentials{clusterID: d.creds.clusterID, check: func(peerName) error { return nil }, now: time.Now}
	creds.cert.Store(d.creds.cert.Load())
	creds.trusted.Store(to.creds.trusted.Load()) // only the other side's word counts here
	conn, err := (&peerDialer{book: d.book, creds: creds, net: d.net}).dial(t.Context(), proto, to.id.NodeID)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	if e := interface{ Timeout() bool }(nil); errors.As(err, &e) && e.Timeout() {
		return nil // it waits for what we say
	}
	return err
}

// TestCompromisedPeerLosesEverything: the keys that it held count nowhere from the
// index of its removal on.
func TestCompromisedPeerLosesEverything(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	victim := c.leader() // the worst case: it made the keys that count
	other := (victim + 1) % 3
	c.isNotTold(t, victim, other)
	thief := *c.nodes[victim].shared.Load() // what it took away
	gone := c.nodes[victim].id.NodeID
	ca, pool := c.activeKey(caSubject), c.activeKey(gossipSubject)
	c.removeCompromised(other, gone)
	out := c.nodes[victim]
	_ = out.shutdown()
	c.nodes[victim] = nil
	c.rotated(caSubject, ca)
	c.rotated(gossipSubject, pool)
	c.forgotten(caSubject, ca)
	c.forgotten(gossipSubject, pool)
	for _, n := range c.live() {
		if now := n.shared.Load(); len(now.cas) != 1 || len(now.ring) != 1 {
			t.Errorf("%s counts %d CAs and %d gossip keys", n.cfg.Name, len(now.cas), len(now.ring))
		}
		n.machine.Read(func(s *fsm.State) {
			for _, of := range []fsm.Subject{caSubject, gossipSubject} {
				ring, _ := s.KeyRing(of)
				for _, p := range ring[len(ring)-1].Shared.Copies {
					if p.NodeID == gone {
						t.Errorf("the next key of %s was sealed to the node that was removed", of)
					}
				}
			}
		})
	}
	// Who had no answer asks again, and no key is changed again.
	ca, pool = c.activeKey(caSubject), c.activeKey(gossipSubject)
	if again, _ := c.removeCompromised(other, gone); again.Ended != nil {
		t.Errorf("a removal that was made ends more: %+v", again.Ended)
	}
	if c.activeKey(caSubject) != ca || c.activeKey(gossipSubject) != pool || c.pending(caSubject) || c.pending(gossipSubject) {
		t.Error("a removal that was made changes keys again")
	}
	// It mints a certificate in the name of a member, with a key of its own.
	member := c.live()[0]
	forger := identity{ClusterID: member.id.ClusterID, NodeID: member.id.NodeID, CACert: thief.active().Cert}
	var err error
	if forger.TLSKey, err = newTLSKey(); err != nil {
		t.Fatal(err)
	}
	signer, err := parseSigner(forger.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	if forger.TLSCert, err = thief.active().issueLeaf(forger.ClusterID, forger.NodeID, fsm.RoleCoordinator, signer.Public(), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	creds, err := newCredentials(&forger, func(peerName) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	at := c.live()[1]
	for _, proto := range []string{protoRaft, protoRPC, protoReturn} {
		if err := offers(t, &peerDialer{book: member.book, creds: creds, net: machineNetwork{}}, proto, at); err == nil {
			t.Errorf("a certificate that it minted was taken for %s", proto)
		}
	}
}

// pending tells whether a key waits to come next, as the first live node has it.
func (c *trio) pending(of fsm.Subject) bool {
	k, _ := c.live()[0].standing(of)
	return k.Pending >= 0
}

// removeCompromised asks a node until the answer is certain. The first answer alone
// tells what the removal ended; it may be lost.
func (c *trio) removeCompromised(at int, id string) (out client.PeerRemoved, first bool) {
	c.t.Helper()
	tries := 0
	c.eventually("it is removed", func() bool {
		var err error
		tries++
		out, err = c.client(at, c.admin).RemovePeer(c.t.Context(), id, true)
		if err != nil && code(err) != client.CodeUnknownOutcome && code(err) != client.CodeUnavailable {
			c.t.Fatal(err)
		}
		return err == nil
	})
	return out, tries == 1 && !out.Repeated
}

// isNotTold: what is prepared for all but one is not told to that one either,
// while it still is a member.
func (c *trio) isNotTold(t *testing.T, lead, victim int) {
	t.Helper()
	n, out := c.nodes[lead], c.nodes[victim]
	l := n.lead.Load()
	token, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		t.Fatal(err)
	}
	l.rotating.Lock()
	defer l.rotating.Unlock()
	if _, err := n.replaceHeld(t.Context(), l, fsm.Actor{TokenID: token.ID}, out.id.NodeID); err != nil {
		t.Fatal(err)
	}
	c.eventually("the leader has the next keys", func() bool { s := n.shared.Load(); return len(s.cas) == 2 && len(s.ring) == 2 })
	r, err := out.askShared(t.Context(), n.id.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	word, err := out.id.openReply(r)
	if err != nil {
		t.Fatal(err)
	}
	if s := word.set; len(s.ring) != 1 || len(s.cas) != 2 || len(s.cas[0].Key) == 0 || len(s.cas[1].Key) != 0 {
		t.Errorf("a node about to be removed was told %d gossip keys, a next CA key of %d bytes", len(s.ring), len(s.cas[1].Key))
	}
}
