package node

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestDepartureWithoutABreak: a node that had a reason to stay in between begins
// to say anew that it leaves; once it is decided it does not go back.
func TestDepartureWithoutABreak(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	var d departure
	if got := d.note(at(0), false); !got.IsZero() {
		t.Errorf("it stays: %v", got)
	}
	if d.note(at(1), true); !d.note(at(2), true).Equal(at(1)) {
		t.Error("the first time counts")
	}
	d.note(at(3), false)
	if got := d.note(at(4), true); !got.Equal(at(4)) || d.decide(at(1), true) {
		t.Errorf("it had a reason to stay: %v", got)
	}
	if d.decide(at(4), false) || d.decide(time.Time{}, true) || !d.decide(at(4), true) {
		t.Error("decided without a reason, or not with one")
	}
	if got := d.note(at(5), false); !got.Equal(at(4)) {
		t.Errorf("decided, then %v", got)
	}
	if d.stay(); !d.note(at(6), false).IsZero() {
		t.Error("it was to stay")
	}
}

// TestReleaseThatCounts: a leader's word of before the notice, or of another
// term than the one in which it leads, may be out of date or a lie.
func TestReleaseThatCounts(t *testing.T) {
	from := time.Unix(1000, 0)
	for _, tt := range []struct {
		h    health
		want bool
	}{
		{health{released: true, term: 4, at: from.Add(1)}, true},
		{health{released: true, term: 5, at: from.Add(1)}, false},
		{health{released: true, term: 3, at: from.Add(1)}, false},
		{health{released: true, term: 4, at: from}, false},
		{health{term: 4, at: from.Add(1)}, false},
	} {
		if got := tt.h.releases(from, 4); got != tt.want {
			t.Errorf("%+v: %t", tt.h, got)
		}
	}
}

// TestNoVoteForOneThatLeaves: nor for one that was not heard lately.
func TestNoVoteForOneThatLeaves(t *testing.T) {
	n := &Node{cfg: DefaultConfig(), health: peersHealth{last: map[string]health{}}}
	l := &leadership{voteless: map[string]uint64{"it": 1}}
	for what, h := range map[string]health{"it leaves": {at: time.Now(), leaving: true}, "not heard": {}} {
		n.health.set("it", h)
		if err := n.grant(l, "it"); !errors.Is(err, errLeaves) || l.granting != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n.health.set("it", health{at: time.Now()}); !n.stays("it") {
		t.Error("a sound one gets none")
	}
}

// TestOneThatLeavesGetsNoVoteBack: the leader has nothing else against it and
// would give the vote back at once, while the node forgets its log.
func TestOneThatLeavesGetsNoVoteBack(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	watcher := c.observer()
	first := c.leader()
	lead, victim, third := c.nodes[first], c.nodes[(first+1)%3], c.nodes[(first+2)%3]
	id := victim.id.NodeID
	if since := victim.departure.note(time.Now(), true); !victim.departure.decide(since, true) {
		t.Fatal("not decided")
	}
	c.eventually("the leader hears that it leaves", func() bool { h, _ := lead.health.get(id); return h.leaving })
	if err := lead.raft.DemoteVoter(raft.ServerID(id), 0, time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	demoted := time.Now()
	c.eventually("it hears that it has no vote", func() bool { return victim.isReleased(demoted) })
	for again := time.Now(); !victim.isReleased(again); pause(t.Context(), 10*time.Millisecond) { // a round of pings and many of the leader's duties later
		if isVoter(lead.servers(), id) {
			t.Fatal("it got its vote back")
		}
	}
	for what, liar := range map[string]*Node{"an observer": watcher, "a voter that does not lead": third} {
		told, _ := victim.health.get(lead.id.NodeID)
		victim.health.set(liar.id.NodeID, health{at: time.Now().Add(time.Hour), released: true, term: told.term})
		if victim.isReleased(time.Now().Add(time.Minute)) {
			t.Errorf("the word of %s counts", what)
		}
	}
	victim.departure.stay()
	c.eventually("it may vote again", func() bool { return isVoter(lead.servers(), id) })
}
