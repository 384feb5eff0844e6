package node

import (
	"os"
	"slices"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// TestObserverThatMissedItsKeyAndTheCA: it was away while the key that it announced began, the one before was revoked,
// and so was the CA. Nobody but the door gives it a certificate, which is of a CA that it does not know.
func TestObserverThatMissedItsKeyAndTheCA(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() })
	n := c.observer()
	hour, lead, overlap := int64(3_600_000), int64(3_600_000-1_000), int64(60_000)
	old := n.shownKey()
	if _, err := c.client(0, c.admin).SetKeySchedule(t.Context(), "certificate/"+n.id.NodeID, 0, client.KeyScheduleUpdate{PeriodMs: &hour, LeadMs: &lead, OverlapMs: &overlap}); err != nil {
		t.Fatal(err)
	}
	c.eventually("its next key is announced", func() bool {
		ring, clock := c.tlsRingOf(0, n.id.NodeID)
		return len(ring) == 2 && ring.StateOf(1, clock) == fsm.KeyNext
	})
	if err := n.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[1] = nil
	c.revokeTLS(0, n.id.NodeID, old)
	before := c.activeKey(caSubject)
	if res := c.asAdmin(fsm.KeyRevoke{Subject: caSubject.String(), Key: crypto.PublicKey(before).Fingerprint(), Reason: "a test"}); !res.OK() {
		t.Fatalf("%+v", res)
	}
	c.rotated(caSubject, before)
	c.start(1)
	n = c.nodes[1]
	c.eventually("it serves again", func() bool { return n.Ready() == nil && n.shownKey() != old && !n.uncertified.Load() })
}

// TestAWordLeavesAnObserver: an observer cannot sign a certificate of its own CA to go back to. A false word counts
// for its time all the same, and when the leader is back it is over.
func TestAWordLeavesAnObserver(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 1)
	n, lead := c.observer(), c.nodes[0]
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() })
	_, reply := lie(t, lead, n.id, 1<<40)
	reply.Sealed = slices.DeleteFunc(reply.Sealed, func(k sealedKey) bool { return k.Kind == fsm.SubjectCA })
	if err := lead.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[0] = nil
	c.eventually("it is stranded", n.isStranded)
	if done, err := n.takeReply(t.Context(), lead.id.NodeID, reply, true); !done || err != nil {
		t.Fatalf("%t, %v", done, err)
	}
	c.eventually("the word's time is over", func() bool { return n.toldSet() == nil })
	c.start(0)
	c.eventually("it hears the leader again", func() bool { return n.Ready() == nil && !n.isStranded() && n.toldSet() == nil })
}

// joinedOnly is the directory of a node that joined and ended before it had a state.
func (c *trio) joinedOnly(name string) Config {
	c.t.Helper()
	cfg := testConfig(c.t, name)
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	id, err := newIdentity()
	if err != nil {
		c.t.Fatal(err)
	}
	n := &Node{cfg: cfg, log: cfg.Log, book: openAddressBook(cfg.DataDir, cfg.Log)}
	if id, err = n.joinIdentity(c.t.Context(), id); err == nil {
		err = id.save(cfg.DataDir, cfg.Passphrase)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

// TestJoinerWhoseSeedHasAnotherKey: before it has a state a joiner knows its seed by the key of the join alone. By now
// that one is revoked.
func TestJoinerWhoseSeedHasAnotherKey(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.cfgs = append(c.cfgs, c.joinedOnly("n2"))
	c.revokeTLS(0, c.nodes[0].id.NodeID, c.rotateTLS(0, c.nodes[0]))
	c.start(1)
	c.eventually("the joiner caught up", func() bool { return c.nodes[1].Ready() == nil })
}

// TestJoinAnswerLost: the join is on record, and the joiner never heard. It asks again, perhaps from another address, or
// with another token because the first one ended.
func TestJoinAnswerLost(t *testing.T) {
	for name, change := range map[string]func(*trio, *Config){
		"the same":      func(*trio, *Config) {},
		"moved":         func(c *trio, cfg *Config) { cfg.APIAddr = freeAddr(c.t) },
		"another token": func(c *trio, cfg *Config) { cfg.JoinToken = c.token("coordinator", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTrio(t, 1)
			cfg := testConfig(t, "n2")
			cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
			if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			id, err := newIdentity()
			if err == nil {
				err = id.save(cfg.DataDir, cfg.Passphrase)
			}
			if err == nil {
				_, err = join(t.Context(), cfg, id)
			}
			if err != nil {
				t.Fatal(err)
			}
			change(c, &cfg)
			c.cfgs = append(c.cfgs, cfg)
			c.start(1)
			c.eventually("both vote, and it is where it says", func() bool {
				at, _ := c.nodes[0].onRecord(id.NodeID)
				return c.nodes[1].Ready() == nil && len(voters(c.nodes[0].servers())) == 2 && at.API == cfg.APIAddr
			})
		})
	}
}
