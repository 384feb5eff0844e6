package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// TestThirdVoterCosignsFirst: of three voters one may be lost at once, so the set of two has grown before the third votes.
func TestThirdVoterCosignsFirst(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 2)
	c.allHave(0, 2)
	lead := c.leader()
	n := c.nodes[lead]
	c.cfgs = append(c.cfgs, testConfig(t, "n3"))
	c.cfgs[2].Join, c.cfgs[2].JoinToken = []string{c.cfgs[lead].GossipAddr}, c.tokenAt(lead, "coordinator")
	seen := make(chan int, 1)
	go func() {
		for len(voters(n.servers())) < 3 && pause(t.Context(), 200*time.Microsecond) { // the set would follow in a few milliseconds
		}
		seen <- len(n.epochNow().set.Cosigners)
	}()
	c.start(2)
	if cosigners := <-seen; cosigners != 3 {
		t.Errorf("three vote, and %d cosign", cosigners)
	}
	c.allHave(0, 3)
}

// TestCompromisedHolderOfTheSetIsRemoved: who alone could vouch for the next set and does not goes all the same, if it is
// removed as compromised; a root of those that are left follows.
func TestCompromisedHolderOfTheSetIsRemoved(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.allHave(0, 3)
	lead := c.leader()
	n := c.nodes[lead]
	holders := []int{(lead + 1) % 3, (lead + 2) % 3}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// A leader of before left the set as small as it could: the present one and one other.
	n.members.Lock()
	next, err := n.nextCosigners("", c.nodes[holders[1]].id.NodeID)
	if err == nil {
		err = n.moveCosigners(ctx, n.lead.Load(), n.epochNow(), next)
	}
	if err != nil {
		t.Fatal(err)
	}
	gone := c.nodes[holders[0]]
	if err := gone.shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[holders[0]] = nil
	n.members.Unlock()
	_, err = c.client(lead, c.admin).RemovePeer(ctx, gone.id.NodeID, false)
	if code(err) != client.CodeConflict || !strings.Contains(err.Error(), "compromised") {
		t.Errorf("its plain removal: %v", err)
	}
	if _, err := c.client(lead, c.admin).RemovePeer(ctx, gone.id.NodeID, true); err != nil {
		t.Fatal(err)
	}
	c.eventually("those that are left begin anew", func() bool {
		sets := n.sets()
		last := sets[len(sets)-1]
		return last.Root() && len(last.Cosigners) == 2 && !last.Has(gone.id.publicKey())
	})
	c.ban(lead, "agent-1")
	c.eventually("checkpoints go on", func() bool {
		_, final, ok := n.logs.named[checkpoint.LogBlacklist].Newest(n.epochNow().origin(checkpoint.LogBlacklist))
		return ok && final.Size == 1
	})
}
