package node

import (
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

var (
	caSubject     = fsm.Subject{Kind: fsm.SubjectCA}
	gossipSubject = fsm.Subject{Kind: fsm.SubjectGossip}
)

// asAdmin has a command decided on the word of the cluster's first token.
func (c *trio) asAdmin(body any) fsm.Result {
	c.t.Helper()
	token, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd, err := fsm.New(fsm.Actor{TokenID: token.ID}, body)
	if err != nil {
		c.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if i := c.leader(); i >= 0 {
			res, err := c.nodes[i].Propose(c.t.Context(), cmd)
			if err == nil {
				return res
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("%T: %v", body, err)
			}
		}
		pause(c.t.Context(), 50*time.Millisecond)
	}
}

// overlapOf has a subject rotated only when asked, with an overlap.
func (c *trio) overlapOf(of fsm.Subject, overlap time.Duration) {
	c.t.Helper()
	if res := c.asAdmin(fsm.KeyScheduleSet{Subject: of.String(), Schedule: fsm.Schedule{OverlapMs: overlap.Milliseconds(), LeadMs: 1000}}); !res.OK() {
		c.t.Fatalf("schedule of %s: %+v", of, res)
	}
}

func (c *trio) live() (out []*Node) {
	for _, n := range c.nodes {
		if n != nil {
			out = append(out, n)
		}
	}
	return out
}

// activeKey is the key of a subject that every live node goes by, zero while they differ.
func (c *trio) activeKey(of fsm.Subject) (id crypto.Hash) {
	for i, n := range c.live() {
		have := n.shared.Load()
		mine := have.active().id()
		if of == gossipSubject {
			mine = poolKeyID(have.ring[0])
		}
		k, _ := n.standing(of)
		if k.Active < 0 || crypto.Hash(k.Ring[k.Active].Public) != mine || i > 0 && mine != id {
			return crypto.Hash{}
		}
		id = mine
	}
	return id
}

// rotationPatience is several times switchWait, which passes for members that are
// slow, under -race on a busy machine too.
const rotationPatience = 5 * time.Minute

// rotated waits until every live node goes by another key than before.
func (c *trio) rotated(of fsm.Subject, before crypto.Hash) {
	c.t.Helper()
	c.within(rotationPatience, of.String()+" is rotated", func() bool { now := c.activeKey(of); return !now.IsZero() && now != before })
}

// forgotten waits until no live node counts a key any more, on disk either.
func (c *trio) forgotten(of fsm.Subject, old crypto.Hash) {
	c.t.Helper()
	c.within(rotationPatience, "nobody counts the old key of "+of.String(), func() bool {
		return !slices.ContainsFunc(c.live(), func(n *Node) bool { return n.shared.Load().holds(of.Kind, old, fsm.RoleObserver) })
	})
	for _, n := range c.live() {
		saved, err := loadIdentity(n.cfg.DataDir, n.cfg.Passphrase)
		if err != nil || saved.shared().holds(of.Kind, old, fsm.RoleObserver) {
			c.t.Errorf("%s still has the old key of %s in its key file (%v)", n.cfg.Name, of, err)
		}
	}
}

// TestP5SharedKeysRotate: gossip key and CA change on all nodes, an observer too,
// clients of before go on through the overlap, and nothing restarts.
func TestP5SharedKeysRotate(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 2)
	observer := c.observer()
	c.eventually("the keys are on record", func() bool { return !c.activeKey(caSubject).IsZero() && !c.activeKey(gossipSubject).IsZero() })
	oldFile := certPEM(c.nodes[0].shared.Load().active().Cert)
	old := c.client(0, c.admin) // with the CA file of before
	before := map[fsm.Subject]crypto.Hash{}
	for _, of := range []fsm.Subject{caSubject, gossipSubject} {
		c.overlapOf(of, time.Minute)
		before[of] = c.activeKey(of)
		if res := c.asAdmin(fsm.KeyRotate{Subject: of.String()}); !res.OK() {
			t.Fatalf("rotate %s: %+v", of, res)
		}
	}
	for of, key := range before {
		c.rotated(of, key)
	}
	if _, err := old.Policy(t.Context()); err != nil {
		t.Errorf("a client of before the switch: %v", err)
	}
	c.oldFileStillWorks(t, oldFile)
	if len(observer.shared.Load().active().Key) > 0 {
		t.Error("the observer holds a CA key")
	}
	if !c.allReady() {
		t.Error("some node does not serve")
	}
	if _, err := c.client(1, c.admin).Policy(t.Context()); err != nil {
		t.Errorf("with the CA file of now: %v", err)
	}
	for _, n := range c.nodes {
		for _, m := range n.pool.Members() {
			if m.State != "alive" {
				t.Errorf("%s lists %s as %s", n.cfg.Name, m.Card.Name, m.State)
			}
		}
	}
}
