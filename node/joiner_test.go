package node

import (
	"crypto/tls"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// anySeed is the TLS configuration of somebody who has no key and trusts anybody.
func anySeed() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{protoJoin}, InsecureSkipVerify: true}
}

// joinAsked is the join of a node, word by word as the seed saw it: signatures are
// deterministic.
func (c *trio) joinAsked(i int) (joinRequest, crypto.TokenText) {
	c.t.Helper()
	token, err := crypto.ParseTokenText(c.cfgs[i].JoinToken)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := newJoinRequest(c.cfgs[i], c.nodes[i].id, token)
	if err != nil {
		c.t.Fatal(err)
	}
	return req, token
}

// edgeAsked is the question of an edge in the same way.
func edgeAsked(t *testing.T, e *Edge) edgeJoinRequest {
	t.Helper()
	credential, err := crypto.ParseTokenText(e.id.Credential)
	if err != nil {
		t.Fatal(err)
	}
	req, err := e.joinRequest(credential)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestP8WhatASeedSawOpensNothing: a coordinator that was removed as compromised repeats the
// join of another, and the question of an edge, and is told none of the keys of now.
func TestP8WhatASeedSawOpensNothing(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	made, err := c.client(1, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "edge", Uses: 1})
	if err != nil {
		t.Fatal(err)
	}
	edgeCfg := edgeTestConfig(t, c, "e1", made.Token)
	edgeCfg.Join = []string{c.cfgs[1].GossipAddr} // it joins through a node that stays
	e := startEdge(t, edgeCfg)
	joined, _ := c.joinAsked(2)
	asked := edgeAsked(t, e)
	thief := c.nodes[0].id

	ca, pool := c.activeKey(caSubject), c.activeKey(gossipSubject)
	c.removeCompromised(1, thief.NodeID)
	_ = c.nodes[0].shutdown()
	c.nodes[0] = nil
	c.rotated(caSubject, ca)
	c.rotated(gossipSubject, pool)

	other, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := other.showing(anySeed())
	if err != nil {
		t.Fatal(err)
	}
	for who, config := range map[string]*tls.Config{"who shows no key": anySeed(), "who shows another key": shown} {
		for _, at := range []int{1, 2} {
			var r joinReply
			if _, err := postSeed(t.Context(), c.cfgs[1], c.cfgs[at].GossipAddr, config, joinPath, joined, &r); err == nil {
				t.Errorf("n%d answers the join of n3 to %s", at+1, who)
			}
			var er edgeJoinReply
			if _, err := postSeed(t.Context(), c.cfgs[1], c.cfgs[at].GossipAddr, config, edgeJoinPath, asked, &er); err == nil {
				t.Errorf("n%d answers the question of the edge to %s", at+1, who)
			}
		}
	}
	reply, err := e.rejoin(t.Context())
	if err != nil || string(reply.PoolKeys[0]) != string(c.nodes[1].shared.Load().ring[0]) {
		t.Errorf("the edge itself: %v", err)
	}
}

// TestP8JoinersAreToldInSeal: the answer to a joiner that shows its key holds no secret in
// clear, and opens to what the seed holds.
func TestP8JoinersAreToldInSeal(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	req, token := c.joinAsked(1)
	seed, id := c.nodes[0], c.nodes[1].id
	config, err := id.showing(joinDial(token))
	if err != nil {
		t.Fatal(err)
	}
	var r joinReply
	if _, err := postSeed(t.Context(), c.cfgs[1], c.cfgs[0].GossipAddr, config, joinPath, req, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.CAKey) > 0 || len(r.PoolKeys) > 0 || len(r.Sealed) != 2 {
		t.Fatalf("CA key of %d bytes and %d pool keys in clear, %d sealed", len(r.CAKey), len(r.PoolKeys), len(r.Sealed))
	}
	set, err := r.open(id, fsm.RoleCoordinator)
	if err != nil || !set.equal(seed.shared.Load()) {
		t.Errorf("it opens to other keys: %v", err)
	}
	if _, err := r.open(seed.id, fsm.RoleCoordinator); err == nil {
		t.Error("it opens to another node")
	}
	r.PoolKeys = set.ring
	if _, err := r.open(id, fsm.RoleCoordinator); err == nil {
		t.Error("secrets in clear beside sealed ones are taken")
	}
}

// TestP8WhatIsPreparedWithoutANodeIsNotToldAJoiner: nor when it asks for its join once more.
func TestP8WhatIsPreparedWithoutANodeIsNotToldAJoiner(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	seed, id := c.nodes[0], c.nodes[1].id
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	l := seed.lead.Load()
	l.rotating.Lock() // nothing is switched to meanwhile
	defer l.rotating.Unlock()
	for _, of := range []fsm.Subject{caSubject, gossipSubject} {
		if _, err := seed.prepareShared(t.Context(), l, of, 0, id.NodeID); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the seed holds both", func() bool { s := seed.shared.Load(); return len(s.cas) == 2 && len(s.ring) == 2 })
	req, token := c.joinAsked(1)
	r, err := joinAt(t.Context(), c.cfgs[1], id, c.cfgs[0].GossipAddr, token, req)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.set.ring) != 1 || len(r.set.cas) != 2 || len(r.set.cas[1].Key) > 0 {
		t.Errorf("it is told %d gossip keys, and a key of %d bytes of the next CA", len(r.set.ring), len(r.set.cas[1].Key))
	}
}

// TestOlderEdgesAreAnswered: an edge that shows no key is answered, as older ones read it, while
// nobody is there who would learn anything by it. Servers are not: older ones may not join any more.
func TestOlderEdgesAreAnswered(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	e := startEdge(t, edgeTestConfig(t, c, "e1", c.token("edge", 1)))
	joined, _ := c.joinAsked(1)
	var r joinReply
	if _, err := postSeed(t.Context(), c.cfgs[0], c.cfgs[0].GossipAddr, anySeed(), joinPath, joined, &r); code(err) != client.CodeConflict || len(r.Sealed)+len(r.PoolKeys)+len(r.CAKey) > 0 {
		t.Errorf("a joiner without its key: %v, %d keys", err, len(r.Sealed)+len(r.PoolKeys))
	}
	var er edgeJoinReply
	if _, err := postSeed(t.Context(), c.cfgs[0], c.cfgs[0].GossipAddr, anySeed(), edgeJoinPath, edgeAsked(t, e), &er); err != nil || len(er.PoolKeys) == 0 {
		t.Errorf("an older edge: %v", err)
	}
}
