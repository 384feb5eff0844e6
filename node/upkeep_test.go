package node

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// keepFew has raft keep few entries behind a snapshot.
func keepFew(t *testing.T, n *Node) {
	t.Helper()
	conf := n.raft.ReloadableConfig()
	conf.TrailingLogs = 1
	if err := n.raft.ReloadConfig(conf); err != nil {
		t.Fatal(err)
	}
}

func (c *trio) add(name string) *Node {
	c.t.Helper()
	cfg := testConfig(c.t, name)
	from := c.leader()
	cfg.Join, cfg.JoinToken = []string{c.cfgs[from].GossipAddr}, c.tokenAt(from, "coordinator")
	c.adjust.apply(len(c.cfgs), &cfg)
	c.cfgs = append(c.cfgs, cfg)
	c.start(len(c.cfgs) - 1)
	return c.nodes[len(c.nodes)-1]
}

func (c *trio) peer(at int, id string) client.Peer {
	c.t.Helper()
	got, err := c.client(at, c.admin).Peers(c.t.Context())
	if err != nil {
		return client.Peer{}
	}
	at = slices.IndexFunc(got.Peers, func(p client.Peer) bool { return p.ID == id })
	if at < 0 {
		return client.Peer{}
	}
	return got.Peers[at]
}

// TestDeadCoordinatorIsCleanedUp: of three voters nobody goes, however long one
// is dead. Once a fourth votes the dead one goes for ever, with an event; and of
// the three that are left again nobody does.
func TestDeadCoordinatorIsCleanedUp(t *testing.T) {
	t.Parallel()
	heavy(t)
	var passed, silence atomic.Int64 // every clock is ahead by so much, and every silence that much longer
	var full atomic.Bool             // all disks are
	c := &trio{t: t, adjust: func(_ int, cfg *Config) {
		cfg.Now, cfg.silence = shifted(&passed), func() time.Duration { return time.Duration(silence.Load()) }
		cfg.disk.statfs = func(string) (free, size int64, err error) {
			if full.Load() {
				return 0, 1 << 30, nil
			}
			return 1 << 29, 1 << 30, nil
		}
	}}
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(c.stopAll)
	c.grow(3)
	dead := c.nodes[2].id.NodeID
	_ = c.nodes[2].shutdown()
	c.nodes[2] = nil
	passed.Store(int64(25 * time.Hour))
	silence.Store(int64(25 * time.Hour))
	c.eventually("its silence is seen", func() bool {
		p := c.peer(0, dead)
		return p.Health == healthSilent && p.LastContactMs != nil && *p.LastContactMs > 0
	})
	passes := func(what string) {
		t.Helper()
		before, _ := c.nodes[0].machine.Index()
		c.eventually(what, func() bool { now, _ := c.nodes[0].machine.Index(); return c.leader() >= 0 && now > before+2 })
	}
	passes("many a look of the leader")
	if p := c.peer(0, dead); p.State != "active" || p.Suffrage != "voter" {
		t.Fatalf("one of three was removed: %+v", p)
	}
	silence.Store(0)
	fourth := c.add("n4")
	c.eventually("the fourth votes", func() bool { return isVoter(c.nodes[0].servers(), fourth.id.NodeID) })
	full.Store(true)
	c.eventually("the leader knows of full disks", func() bool { l := c.leader(); return l >= 0 && c.nodes[l].lead.Load().full.Load() })
	configured := func() uint64 { return c.nodes[0].raft.GetConfiguration().Index() }
	before := configured()
	silence.Store(int64(25 * time.Hour))
	passes("many a look of a leader that could not record it")
	if now := configured(); now != before {
		t.Errorf("on full disks the configuration went from %d to %d", before, now)
	}
	full.Store(false)
	c.eventually("the dead one is cleaned up", func() bool { return c.peer(0, dead).State == "removed" })
	if p := c.peer(0, dead); p.Reason != "silent" {
		t.Errorf("removed because of %q, want silent", p.Reason)
	}
	c.eventually("three vote, the fourth among them", func() bool {
		ids := voters(c.nodes[0].servers())
		return len(ids) == 3 && slices.Contains(ids, fourth.id.NodeID) && !slices.Contains(ids, dead)
	})
	c.eventually("an event tells of it", func() bool {
		got, err := c.client(0, c.admin).AuditEvents(t.Context(), client.AuditQuery{Type: "member_clean_up"})
		return err == nil && len(got.Events) > 0 && got.Events[0].Details["node"] == dead
	})
	second := c.nodes[1].id.NodeID
	_ = c.nodes[1].shutdown()
	c.nodes[1] = nil
	c.eventually("another is silent, and a leader is there", func() bool { return c.leader() >= 0 && c.peer(0, second).Health == healthSilent })
	passes("many a look at it")
	if p := c.peer(0, second); p.State != "active" {
		t.Errorf("one of the last three was removed: %+v", p)
	}
}

// TestStable: a server is counted on once it has been healthy without a break for
// three pings; a new leader takes it as it is.
func TestStable(t *testing.T) {
	l := newLoneState(t)
	n := l.node()
	n.cfg.Timing.Ping = time.Second
	servers := []raft.Server{{ID: "n1", Suffrage: raft.Nonvoter}}
	answers := func(h health) { h.at = time.Now(); n.health = peersHealth{last: map[string]health{"n1": h}} }
	lead := &leadership{since: time.Now().Add(-time.Minute)}
	want := func(what string, yes bool) {
		t.Helper()
		n.watchHealth(lead, servers)
		if got := n.stable(lead, "n1"); got != yes {
			t.Errorf("%s: stable %t, want %t", what, got, yes)
		}
	}
	want("never heard of", false)
	answers(health{applied: 9})
	want("healthy now", false)
	lead.healthy["n1"] = time.Now().Add(-4 * time.Second)
	want("healthy for long", true)
	answers(health{applied: 9, lag: maxLag + 1})
	want("behind", false)
	answers(health{applied: 9})
	want("healthy again", false)
	lead.since = time.Now()
	want("healthy, and the leader is new", true)
	answers(health{applied: 9, stuck: true})
	want("its disk hangs", false)
}

// TestNodeCutOffForADay: a node comes back after the others have dropped the log
// that it would need, and gets a snapshot with the whole history.
func TestNodeCutOffForADay(t *testing.T) {
	t.Parallel()
	heavy(t)
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	away := (c.leader() + 1) % 3
	had, _ := c.nodes[away].machine.Index()
	_ = c.nodes[away].shutdown()
	c.nodes[away] = nil
	c.eventually("a leader without it", func() bool { return c.leader() >= 0 })
	ban := c.ban(c.leader(), "banned-meanwhile")
	for i, n := range c.nodes {
		if i == away {
			continue
		}
		keepFew(t, n)
		c.eventually("a snapshot that the log ends behind", func() bool {
			first, err := n.store.Logs.FirstIndex()
			if err == nil && first > had+1 {
				return true
			}
			_ = n.raft.Snapshot().Error() // none when nothing is new
			return false
		})
	}
	c.start(away)
	c.eventually("it has caught up", func() bool { return c.leader() >= 0 && c.nodes[away].Ready() == nil })
	got, err := c.client(away, c.admin).BanOn(t.Context(), "banned-meanwhile", client.Strong())
	if err != nil || got.EventID != ban.EventID {
		t.Errorf("what happened meanwhile: %+v, %v", got, err)
	}
	if records, err := c.nodes[away].Records(fsm.StreamBlacklist, 1, 10); err != nil || len(records) != 1 {
		t.Errorf("%d records of the chain, want 1: %v", len(records), err)
	}
	if p := c.peer(c.leader(), c.nodes[away].id.NodeID); p.Suffrage != "voter" {
		t.Errorf("it came back as %q, want a voter", p.Suffrage)
	}
}

// TestTwoClustersNeverMerge: two clusters whose seeds name each other's members
// stay two.
func TestTwoClustersNeverMerge(t *testing.T) {
	t.Parallel()
	one, two := newTrio(t, 1), newTrio(t, 1)
	for _, pair := range [][2]*trio{{one, two}, {two, one}} {
		self, other := pair[0], pair[1]
		self.stopAll()
		self.cfgs[0].Bootstrap, self.cfgs[0].Join = false, []string{other.cfgs[0].GossipAddr}
		self.start(0)
		self.eventually("serving", self.allReady)
	}
	for _, pair := range [][2]*trio{{one, two}, {two, one}} {
		n, other := pair[0].nodes[0], pair[1].nodes[0]
		if !slices.Contains(n.seeds(), other.cfg.GossipAddr) {
			t.Fatalf("seeds %v: want the other cluster's", n.seeds())
		}
		for range 3 {
			if reached, err := n.pool.Join(n.seeds()); err == nil || reached != 0 {
				t.Fatalf("joined %d members of another cluster's pool", reached)
			}
		}
		if members := n.Members(); len(members) != 1 {
			t.Errorf("members %+v: want this node alone", members)
		}
		var reply pingReply
		n.book.hear(other.id.NodeID, peerAddress{Raft: other.cfg.RaftAddr})
		if err := n.call(t.Context(), other.id.NodeID, rpcPing, pingRequest{}, &reply); err == nil || !strings.Contains(err.Error(), "not of this cluster's CA") {
			t.Errorf("a node of another cluster answered, or does not say who it is: %v", err)
		}
	}
}

// TestFewSayRemoved: it takes most of the coordinators on record, and none of
// their word is for ever.
func TestFewSayRemoved(t *testing.T) {
	var e expulsion
	known := []string{"a", "b", "c", "d"}
	for i, step := range []struct {
		id      string
		removed bool
		by      int
	}{{"a", true, 0}, {"x", true, 0}, {"y", true, 0}, {"b", true, 0}, {"c", true, 3}, {"a", false, 0}, {"d", true, 3}} {
		e.hear(step.id, step.removed)
		if by, enough := e.majority(known); len(by) != step.by || enough != (step.by > 0) {
			t.Errorf("step %d: %v say so, enough %t, want %d", i, by, enough, step.by)
		}
	}
	if by, enough := e.majority([]string{"b"}); len(by) != 1 || enough {
		t.Errorf("one other on record: %v say so, enough %t", by, enough)
	}
	if by, enough := new(expulsion).majority(nil); by != nil || enough {
		t.Errorf("nobody on record, and %v say so", by)
	}
}
