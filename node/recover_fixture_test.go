package node

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// lostTrio is a cluster of three with traffic on it, stopped.
type lostTrio struct {
	*trio
	agent    agent
	verifier string
	used     client.AdmissionRequest // admitted before the stop
	ban      client.BlacklistChange
	trusted  checkpoint.SignedSet // that somebody trusts since before the stop
}

func newLostTrio(t *testing.T) *lostTrio {
	t.Helper()
	c := &lostTrio{trio: &trio{t: t, adjust: func(_ int, cfg *Config) { cfg.Timing.Mark = 500 * time.Millisecond }}}
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(c.stopAll)
	c.grow(3)
	c.agent, c.verifier = c.enroll(0, "agent-1"), c.token("verifier", -1)
	c.used = c.agent.request(t, "used")
	got, err := c.client(1, c.verifier).Admit(t.Context(), c.used)
	if err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("admit: %+v %v", got, err)
	}
	c.trio.ban(1, "outlaw")
	c.ban = c.trio.ban(2, "bandit")
	c.settled()
	sets := c.nodes[0].sets()
	c.trusted = sets[len(sets)-1]
	c.stopAll()
	clear(c.nodes)
	return c
}

// settled waits until every log tells that its last change of members is
// committed, and all replicas are at the same index.
func (c *lostTrio) settled() {
	c.t.Helper()
	c.eventually("two marks on every node after the last change of members", func() bool {
		for _, n := range c.nodes {
			marks, last := 0, c.ban.Index
			n.machine.Read(func(s *fsm.State) {
				for _, m := range s.Marks() {
					if m.Index > last {
						marks++
					}
				}
			})
			if marks < 3 {
				return false
			}
		}
		return true
	})
}

// once returns a client of one node that does not ask again.
func (c *lostTrio) once(i int) *client.Client {
	c.t.Helper()
	cl, err := client.New(client.Config{Addrs: []string{"https://" + c.cfgs[i].APIAddr}, CAFile: filepath.Join(c.dir(i), fileCA), Token: c.admin, Attempts: 1})
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// again returns the stopped cluster anew, from copies of its directories. The
// addresses stay, so only one may run at a time.
func (c *lostTrio) again(t *testing.T) *lostTrio {
	t.Helper()
	d := *c
	d.trio = &trio{t: t, admin: c.admin, cfgs: slices.Clone(c.cfgs), nodes: make([]*Node, 3)}
	home := t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(d.stopAll)
	for i := range d.cfgs {
		d.cfgs[i].DataDir = filepath.Join(home, d.cfgs[i].Name)
		copyDir(t, c.dir(i), d.dir(i))
	}
	return &d
}

func (c *lostTrio) dir(i int) string { return c.cfgs[i].DataDir }

func (c *lostTrio) options(nodes ...int) RecoveryOptions {
	o := RecoveryOptions{Log: testLog(c.t), Reason: "the test lost it"}
	for _, i := range nodes {
		o.Dirs = append(o.Dirs, RecoveryDir{DataDir: c.dir(i), Passphrase: c.cfgs[i].Passphrase})
	}
	return o
}

// open opens a recovery that is closed with the test, if not before.
func open(t *testing.T, o RecoveryOptions) *Recovery {
	t.Helper()
	r, err := OpenRecovery(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// execute recovers and lets go of the directories.
func execute(t *testing.T, o RecoveryOptions) RecoveryDone {
	t.Helper()
	r := open(t, o)
	done, err := r.Execute()
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return done
}

func refusedFor(p RecoveryPlan, flag string) bool {
	for _, f := range p.Refusals {
		if f.Flag == flag {
			return true
		}
	}
	return false
}

// checkRecovered holds the one node that runs against what was before.
func (c *lostTrio) checkRecovered(i int) {
	c.t.Helper()
	n := c.nodes[i]
	c.eventually("it leads alone", func() bool { return n.lead.Load() != nil && n.Ready() == nil && len(n.servers()) == 1 })
	if st := n.Status(); st.Epoch != 2 || st.ClusterID != n.id.ClusterID {
		c.t.Errorf("epoch %d of cluster %s", st.Epoch, st.ClusterID)
	}
	for _, id := range []string{"outlaw", "bandit"} {
		if _, err := c.client(i, c.admin).BanOn(c.t.Context(), id, client.Strong()); err != nil {
			c.t.Errorf("the ban on %s: %v", id, err)
		}
	}
	page, err := c.client(i, c.admin).ChainEvents(c.t.Context(), 1, 100)
	if err != nil || page.Size != 2 || page.ChainHead != c.ban.ChainHead || len(page.Events) != 2 {
		c.t.Errorf("the chain: %+v %v, want the head %s", page, err, c.ban.ChainHead)
	}
	peers, err := c.client(i, c.admin).Peers(c.t.Context())
	removed := 0
	for _, p := range peers.Peers {
		if p.State == "removed" {
			removed++
		}
	}
	if err != nil || removed != 2 {
		c.t.Errorf("%d members removed, want 2: %v", removed, err)
	}
}

// checkPaused: nothing is admitted before the pause is over. What was used is
// known to be, or so old that its time is closed.
func (c *lostTrio) checkPaused(i int) {
	c.t.Helper()
	got, err := c.client(i, c.verifier).Admit(c.t.Context(), c.used)
	if e := (*client.Error)(nil); got.Code != client.VerdictReplay && (!errors.As(err, &e) || e.Reason != "recovery") {
		c.t.Errorf("a used nonce after the recovery: %+v %v", got, err)
	}
	_, err = c.client(i, c.verifier).Admit(c.t.Context(), c.agent.request(c.t, "fresh"))
	if e := (*client.Error)(nil); !errors.As(err, &e) || e.Code != client.CodeUnavailable || e.Reason != "recovery" {
		c.t.Errorf("during the pause: %v", err)
	}
	c.nodes[i].machine.Read(func(s *fsm.State) {
		if floor := s.Meta().NonceFloorMs; floor < time.Now().UnixMilli() {
			c.t.Errorf("the nonce floor is %d, before now", floor)
		}
	})
}
