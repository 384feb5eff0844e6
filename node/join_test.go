package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// tryJoin starts a fresh node with a token and returns the refusal.
func (c *trio) tryJoin(name, token string) error {
	c.t.Helper()
	cfg := testConfig(c.t, name)
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, token
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	n, err := Start(ctx, cfg)
	if err == nil {
		c.t.Cleanup(func() { _ = n.shutdown() })
	}
	return err
}

// TestP8JoinIsRefused: whoever has no valid join token stays outside, and
// nothing changes.
func TestP8JoinIsRefused(t *testing.T) {
	t.Parallel()
	c, other := newTrio(t, 1), newTrio(t, 1)
	short, err := c.client(0, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "coordinator", TTLMs: 5000})
	if err != nil {
		t.Fatal(err)
	}
	used := c.token("coordinator", 1)
	if err := c.tryJoin("joined", used); err != nil {
		t.Fatalf("a valid token: %v", err)
	}
	c.eventually("the short token expires", func() bool {
		got, err := c.client(0, c.admin).Tokens(t.Context())
		for _, tk := range got.Tokens {
			if err == nil && tk.ID == short.ID {
				return tk.State == "expired"
			}
		}
		return false
	})
	forged := c.token("coordinator", 1)
	last := forged[len(forged)-70:]
	forged = strings.Replace(forged, last[:4], "0000", 1)
	for name, tt := range map[string]struct{ token, says string }{
		"used up":         {used, "used"},
		"expired":         {short.Token, "expired"},
		"another cluster": {other.token("coordinator", 1), "the token is of another cluster"},
		"forged":          {forged, ""},
		"wrong role":      {c.token("verifier", -1), "pins no CA"},
		"enrolment":       {c.token("agent", 1), "opens no join"},
		"no token":        {"let me in", "join token"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.tryJoin("intruder", tt.token); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v: want a refusal that says %q", err, tt.says)
			} else {
				t.Log(err)
			}
		})
	}
	c.nodes[0].machine.Read(func(s *fsm.State) {
		if n := len(s.Coordinators()); n != 2 {
			t.Errorf("%d coordinators, want 2", n)
		}
	})
}

// TestBootstrapBesideAClusterIsRefused: two clusters are never made by mistake.
func TestBootstrapBesideAClusterIsRefused(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	cfg := testConfig(t, "second")
	cfg.Bootstrap, cfg.Join = true, []string{c.cfgs[0].GossipAddr}
	if n, err := Start(t.Context(), cfg); err == nil {
		_ = n.shutdown()
		t.Fatal("a second cluster was made")
	} else if !strings.Contains(err.Error(), c.nodes[0].id.ClusterID) {
		t.Errorf("the refusal does not name the cluster: %v", err)
	}
}

// TestWipedNodeComesBackAsANewOne: the name is taken over only once the old id
// is dead, and the old id stays refused for ever.
func TestWipedNodeComesBackAsANewOne(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	victim := (c.leader() + 1) % 3
	oldID, oldDir := c.nodes[victim].id.NodeID, c.cfgs[victim].DataDir
	if err := c.tryJoin(c.cfgs[victim].Name, c.token("coordinator", 1)); err == nil {
		t.Fatal("a living node's name was taken")
	}
	if err := c.nodes[victim].shutdown(); err != nil {
		t.Logf("stop: %v", err)
	}
	c.nodes[victim] = nil
	fresh := c.cfgs[victim]
	fresh.DataDir = t.TempDir()
	fresh.Bootstrap = false
	fresh.Join, fresh.JoinToken = []string{c.cfgs[(victim+1)%3].GossipAddr}, c.tokenAt((victim+1)%3, "coordinator")
	c.cfgs[victim] = fresh
	c.eventually("the old id counts as dead", func() bool {
		n, err := Start(t.Context(), fresh)
		if err == nil {
			c.nodes[victim] = n
		}
		return err == nil
	})
	c.eventually("the new id votes and the old one is gone", func() bool {
		ids := voters(c.nodes[victim].servers())
		for _, id := range ids {
			if id == oldID {
				return false
			}
		}
		return len(ids) == 3 && c.allReady()
	})
	stale := fresh
	stale.DataDir, stale.APIAddr, stale.GossipAddr, stale.RaftAddr = oldDir, freeAddr(t), freeAddr(t), freeAddr(t)
	old, err := Start(t.Context(), stale)
	if err != nil {
		t.Fatalf("the old data still opens: %v", err)
	}
	defer func() { _ = old.shutdown() }()
	var e *client.Error
	_, err = old.reads.get(t.Context())
	if !errors.As(err, &e) || e.Code != client.CodeUnavailable {
		t.Errorf("the removed node got a read point: %v", err)
	}
}

func (c *trio) tokenAt(i int, role string) string {
	c.t.Helper()
	got, err := c.client(i, c.admin).CreateToken(c.t.Context(), client.TokenRequest{Role: role})
	if err != nil {
		c.t.Fatalf("token: %v", err)
	}
	return got.Token
}

// transferWithoutEnd has a node ask every leader to hand over, until it is
// stopped; then it looks how often that was heeded.
func (c *trio) transferWithoutEnd(liar *Node) (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var heeded atomic.Int64
	var all sync.WaitGroup
	start := time.Now()
	for range 8 {
		all.Go(func() {
			for pause(ctx, time.Millisecond) {
				var none struct{}
				if _, leader := liar.leaderNow(); leader != "" && liar.call(ctx, string(leader), rpcTransfer, transferRequest{}, &none) == nil {
					heeded.Add(1)
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		took := time.Since(start)
		c.t.Logf("%d transfers in %v", heeded.Load(), took)
		if most := 1 + int64(took/transferPause); heeded.Load() > most {
			c.t.Errorf("%d transfers in %v, at most %d", heeded.Load(), took, most)
		}
	}
}

// TestRemovedCoordinatorIsCutOff: after peers remove, the node is no voter and
// reaches nobody, although its process still runs. Until then it has leadership
// transferred as often as it can, which does not save it.
func TestRemovedCoordinatorIsCutOff(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	victim := (lead + 1) % 3
	id := c.nodes[victim].id.NodeID
	stop := c.transferWithoutEnd(c.nodes[victim])
	for i := range 10 {
		c.eventually("a write", func() bool { return c.createToken(lead) == nil })
		if i == 0 {
			c.eventually("the first transfer", func() bool { return c.nodes[lead].lead.Load() == nil })
		}
	}
	c.eventually("the removal", func() bool {
		_, err := c.client(lead, c.admin).RemovePeer(t.Context(), id, false)
		return err == nil
	})
	stop()
	c.eventually("two voters", func() bool { return len(voters(c.nodes[lead].servers())) == 2 })
	c.eventually("the removed node reaches nobody", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var reply pingReply
		return c.nodes[victim].call(ctx, c.nodes[lead].id.NodeID, rpcPing, pingRequest{}, &reply) != nil
	})
	c.eventually("the removed node knows that it was", func() bool {
		e := (*client.Error)(nil)
		return errors.As(c.nodes[victim].Ready(), &e) && e.Reason == reasonRemoved && strings.Contains(e.Detail, "2 of its coordinators")
	})
	if _, err := c.client(victim, c.admin).Bans(t.Context()); code(err) != client.CodeUnavailable {
		t.Errorf("it answers from its past: %v", err)
	}
	for _, path := range []string{rpcReadIndex, rpcMember, rpcCertify, rpcFields} {
		var reply any
		err := c.nodes[victim].call(t.Context(), c.nodes[lead].id.NodeID, path, struct{}{}, &reply)
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Reason != reasonRemoved {
			t.Errorf("%s answered a removed node: %v %v", path, reply, err)
		}
	}
	a := c.enroll(lead, "after-removal")
	if got, err := c.client(lead, c.tokenAt(lead, "verifier")).Admit(t.Context(), a.request(t, "n")); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("the others go on: %+v %v", got, err)
	}
}
