package node

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestVoterKeepsItsLogUntilItsDemotionIsCommitted: with the third voter away the
// entry that takes a vote cannot be committed. Whoever forgot its log on an
// entry that is lost again could lose what only it and the leader hold.
func TestVoterKeepsItsLogUntilItsDemotionIsCommitted(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	victim, away := c.nodes[(lead+1)%3], (lead+2)%3
	if err := c.nodes[away].shutdown(); err != nil {
		t.Fatal(err)
	}
	c.nodes[away] = nil
	id := victim.id.NodeID
	demoted := make(chan error, 1)
	go func() { demoted <- c.nodes[lead].raft.DemoteVoter(raft.ServerID(id), 0, time.Second).Error() }()
	c.eventually("the victim hears of it", func() bool { return !isVoter(victim.servers(), id) })
	victim.diverged.Store(&fsm.Divergence{NodeID: id, Mark: 1})
	ring(victim.tripped)
	for end := time.Now().Add(2 * c.cfgs[0].Timing.Ping); time.Now().Before(end); pause(t.Context(), 10*time.Millisecond) {
		if c.nodes[lead].releases(id) {
			t.Fatal("the leader says that it has no vote, though that is not committed")
		}
		select {
		case <-victim.Done():
			t.Fatalf("it forgot its log: %v", victim.Err())
		default:
		}
	}
	victim.diverged.Store(nil)
	c.start(away)
	c.eventually("all vote again", func() bool { return len(voters(c.nodes[lead].servers())) == 3 && c.allReady() })
}
