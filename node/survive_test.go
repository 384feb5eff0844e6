package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
)

// TestLostRaftLogIsRefused: a node that forgot its votes must not come back
// under its old id, and the bootstrap node must not found the cluster again.
func TestLostRaftLogIsRefused(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	if err := c.nodes[0].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[0] = nil
	if err := os.Remove(filepath.Join(c.cfgs[0].DataDir, fileRaft)); err != nil {
		t.Fatal(err)
	}
	n, err := Start(t.Context(), c.cfgs[0])
	if err == nil {
		_ = n.shutdown()
		t.Fatal("the node founded its cluster again")
	}
	if !strings.Contains(err.Error(), fileRaft) {
		t.Errorf("the refusal does not name the file: %v", err)
	}
}

// TestRemovalKeepsAMajority: with one of three down, no other may be removed.
func TestRemovalKeepsAMajority(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	down, target := (lead+1)%3, (lead+2)%3
	id := c.nodes[target].id.NodeID
	gone := c.nodes[down]
	c.nodes[down] = nil
	if err := gone.shutdown(); err != nil {
		t.Logf("stop: %v", err)
	}
	c.eventually("its silence is noticed", func() bool { return !c.nodes[lead].fresh(gone.id.NodeID) })
	if _, err := c.client(lead, c.admin).RemovePeer(t.Context(), id, false); code(err) != client.CodeConflict {
		t.Fatalf("removed a voter that the majority needs: %v", err)
	}
	if err := c.nodes[lead].TransferLeadership(t.Context(), gone.id.NodeID); code(err) != client.CodeConflict || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a transfer to a node that is down: %v", err)
	}
	if n := len(voters(c.nodes[lead].servers())); n != 3 {
		t.Errorf("%d voters, want 3", n)
	}
}

// TestRemovingTheLeader: it hands over, leaves the configuration while its vote
// still counts, and only then the records; the one that is left serves on.
func TestRemovingTheLeader(t *testing.T) {
	t.Parallel()
	for range 3 {
		c := newTrio(t, 2)
		c.eventually("a leader", func() bool { return c.leader() >= 0 })
		lead := c.leader()
		left := 1 - lead
		if _, err := c.client(left, c.admin).RemovePeer(t.Context(), c.nodes[lead].id.NodeID, false); err != nil {
			t.Fatalf("remove the leader: %v", err)
		}
		c.eventually("the other leads alone", func() bool {
			n := c.nodes[left]
			return n.lead.Load() != nil && n.Ready() == nil && len(n.servers()) == 1
		})
		if _, err := c.client(left, c.admin).CreateToken(t.Context(), client.TokenRequest{Role: "viewer"}); err != nil {
			t.Errorf("a write afterwards: %v", err)
		}
		c.eventually("the removed one tells what the only other says", func() bool {
			err := c.nodes[lead].Ready()
			return err != nil && strings.Contains(err.Error(), onlyOtherSaysRemoved)
		})
		if err := c.nodes[lead].expelled(); err != nil {
			t.Errorf("it takes the word of one: %v", err)
		}
		c.stopAll()
	}
}

// TestFirstAdminTokenSurvivesACrash: it is shown at each start until somebody
// has it, and then no more.
func TestFirstAdminTokenSurvivesACrash(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	for range 2 {
		c.stopAll()
		c.start(0)
		n := c.nodes[0]
		c.eventually("the token is shown again", func() bool { return n.FirstAdminToken() == c.admin })
	}
	if err := c.nodes[0].ForgetAdminToken(); err != nil {
		t.Fatal(err)
	}
	c.stopAll()
	c.start(0)
	c.eventually("ready", c.allReady)
	if got := c.nodes[0].FirstAdminToken(); got != "" {
		t.Error("the token was shown after somebody had it")
	}
}

// TestAllAddressesChange: a stopped cluster comes back at other addresses.
func TestAllAddressesChange(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	ban := c.ban(0, "remembered")
	c.stopAll()
	var seeds []string
	for i := range c.cfgs {
		cfg := &c.cfgs[i]
		cfg.APIAddr, cfg.GossipAddr, cfg.RaftAddr = freeAddr(t), freeAddr(t), freeAddr(t)
		seeds = append(seeds, cfg.GossipAddr)
	}
	for i := range c.cfgs {
		c.cfgs[i].Bootstrap, c.cfgs[i].Join = false, seeds
		c.start(i)
	}
	c.eventually("the moved cluster serves", func() bool { return c.leader() >= 0 && c.allReady() })
	got, err := c.client(1, c.admin).BanOn(t.Context(), "remembered", client.Strong())
	if err != nil || got.EventID != ban.EventID {
		t.Fatalf("after the move: %+v %v", got, err)
	}
	c.eventually("the records follow", func() bool {
		p, err := c.client(0, c.admin).Peers(t.Context())
		moved := 0
		for _, peer := range p.Peers {
			for _, cfg := range c.cfgs {
				if strings.Contains(peer.API, cfg.APIAddr) {
					moved++
				}
			}
		}
		return err == nil && moved == 3
	})
}

// TestP9UnknownStaysUnknown: once a leader may have acted on a request, no later
// error makes it "certainly not done".
func TestP9UnknownStaysUnknown(t *testing.T) {
	call := &admitCall{ctx: t.Context(), done: make(chan struct{}), missing: 1,
		outcomes: make([]api.AdmitOutcome, 1), answered: make([]bool, 1), sent: make([]bool, 1)}
	a := &admission{call: call}
	n := &Node{admit: newAdmitter()}
	n.undecided(t.Context(), []*admission{a}, errUnknown())
	n.undecided(t.Context(), []*admission{a}, errNotLeader())
	if call.answered[0] {
		t.Fatalf("given up: %+v", call.outcomes[0].Err)
	}
	a.fail(errNotLeader())
	if got := call.outcomes[0].Err.Code; got != client.CodeUnknownOutcome {
		t.Errorf("answered %s, want %s", got, client.CodeUnknownOutcome)
	}
}
