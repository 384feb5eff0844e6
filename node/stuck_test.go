package node

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestStuckVoterCarriesNoMajority: it answers pings while raft hangs in a write.
// A leader that gave up its only other partner could commit nothing any more. And
// if a change of members waits for such a majority, the other duties go on.
func TestStuckVoterCarriesNoMajority(t *testing.T) {
	heavy(t)
	c, disks := newTrioOnBadDisks(t, 3, LocalTiming().Stall)
	lead := c.leader()
	n := c.nodes[lead]
	hung, good := (lead+1)%3, (lead+2)%3
	id, partner := c.nodes[hung].id.NodeID, c.nodes[good].id.NodeID
	if err := n.canLose(partner); err != nil {
		t.Fatal(err)
	}
	disks[hung].hang()
	c.eventually("the leader knows", func() bool { return !n.works(id) })
	if !n.fresh(id) || n.canLose(partner) == nil || n.canLose(id) != nil {
		t.Errorf("fresh %t; without the partner: %v; without the hung one: %v", n.fresh(id), n.canLose(partner), n.canLose(id))
	}
	if slices.ContainsFunc(n.successors(mostApplied), func(s successor) bool { return s.id == id }) {
		t.Error("leadership would go to a node that takes no entries")
	}
	waits := make(chan error, 1)
	go func() { // what a leader that did not know did
		n.members.Lock()
		defer n.members.Unlock()
		waits <- n.raft.DemoteVoter(raft.ServerID(partner), 0, time.Second).Error()
	}()
	c.eventually("it waits", func() bool { return !isVoter(n.servers(), partner) })
	l := n.lead.Load()
	l.clock.Store(nil)
	c.eventually("the clock is judged", func() bool { return l.clock.Load() != nil })
	disks[hung].goOn()
	if err := <-waits; err != nil {
		t.Error(err)
	}
	c.eventually("it votes again", func() bool { return len(voters(n.servers())) == 3 })
}

// TestDutiesDoNotWaitForMembers: a change of members that no majority takes lasts
// until the term ends.
func TestDutiesDoNotWaitForMembers(t *testing.T) {
	heavy(t)
	c, disks := newTrioOnBadDisks(t, 3, time.Minute) // nobody notices the hang
	lead := c.leader()
	n := c.nodes[lead]
	hung, away := (lead+1)%3, (lead+2)%3
	out := c.nodes[away].id.NodeID
	in := func() bool {
		return slices.ContainsFunc(n.servers(), func(s raft.Server) bool { return string(s.ID) == out })
	}
	n.members.Lock()
	err := n.raft.RemoveServer(raft.ServerID(out), 0, time.Second).Error()
	disks[hung].hang()
	n.members.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("it is to come back", in) // the two that are left are no majority with one of them
	l := n.lead.Load()
	for range 3 {
		l.clock.Store(nil)
		c.eventually("the clock is judged", func() bool { return l.clock.Load() != nil })
	}
	disks[hung].goOn()
	c.eventually("all go on", func() bool { return len(voters(n.servers())) == 3 && c.allReady() })
}
