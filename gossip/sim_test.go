package gossip_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// on puts a node on a host in memory, under the timings of production.
func on(h *gossiptest.Host, seeds ...string) func(*gossip.Config) {
	return func(c *gossip.Config) {
		c.Profile = gossip.ProfileLAN
		c.Sockets = &gossip.Sockets{Listener: h.Listener(), Packets: h.PacketConn(), Dial: h.Dial}
		c.Seeds = func() []string { return seeds }
		c.Log = nil
	}
}

// end shuts nodes down and lets memberlist's goroutines run out: a bubble's time stands still once its test returns.
func end(nodes ...*node) {
	for _, n := range nodes {
		n.Shutdown()
	}
	time.Sleep(time.Minute)
}

func simNet() *gossiptest.Network {
	network := gossiptest.New(1)
	network.SetDelay(func(_, _ string) time.Duration { return 3 * time.Millisecond })
	network.SetLoss(0.02)
	return network
}

func TestSimLongPartitionHeals(t *testing.T) {
	for _, c := range []struct {
		away   time.Duration
		seeded bool
	}{{10 * time.Second, true}, {45 * time.Second, true}, {2 * time.Hour, true}, {45 * time.Second, false}, {10 * time.Minute, false}} {
		t.Run(fmt.Sprintf("%v seeded %v", c.away, c.seeded), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { partitionHeals(t, c.away, c.seeded) })
		})
	}
}

func partitionHeals(t *testing.T, away time.Duration, seeded bool) {
	network := simNet()
	var addrs, seeds []string
	for i := range 5 {
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d:7946", i+1))
	}
	if seeded {
		seeds = addrs
	}
	var nodes []*node
	for i, a := range addrs {
		nodes = append(nodes, start(t, fmt.Sprintf("n%d", i), on(network.Host(a), seeds...)))
	}
	for _, n := range nodes[1:] {
		if _, err := n.Join(addrs[:1]); err != nil {
			t.Fatal(err)
		}
	}
	meet(t, nodes)
	network.Partition(addrs[:2], addrs[2:])
	time.Sleep(away)
	if away > 30*time.Second {
		if s := nodes[0].stateOf("n4"); s != gossip.StateDead {
			t.Fatalf("across the partition a member is %s", s)
		}
	}
	if s := nodes[0].stateOf("n1"); s != gossip.StateAlive {
		t.Fatalf("on the same side a member is %s", s)
	}
	if err := nodes[4].SetHead([]byte("said while apart")); err != nil {
		t.Fatal(err)
	}
	network.Heal()
	until(t, 3*time.Minute, "the halves meet again", func() bool {
		for _, a := range nodes {
			for _, b := range nodes {
				if s := a.stateOf(b.name); s != gossip.StateAlive && s != gossip.StateSuspect {
					return false
				}
			}
		}
		return true
	})
	until(t, time.Minute, "the head gets across", func() bool { return nodes[0].headOf("n4") == "said while apart" })
	end(nodes...)
}

func TestSimMovedNodeIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		var nodes []*node
		for i := range 3 {
			nodes = append(nodes, start(t, fmt.Sprintf("n%d", i), on(network.Host(fmt.Sprintf("10.0.0.%d:7946", i+1)), "10.0.0.1:7946")))
		}
		meet(t, nodes)
		nodes[2].Shutdown()
		moved := start(t, "n2", func(c *gossip.Config) {
			on(network.Host("10.0.0.77:7946"), "10.0.0.1:7946")(c)
			c.Card = cardOf(t, "n2", 2000)
		})
		where := func(n *node) string {
			i := slices.IndexFunc(n.Members(), func(m gossip.Member) bool { return m.Card.Name == "n2" && m.State == gossip.StateAlive })
			if i < 0 {
				return ""
			}
			return n.Members()[i].Addr
		}
		until(t, 5*time.Minute, "the others find it at its new address", func() bool {
			return where(nodes[0]) == "10.0.0.77:7946" && where(nodes[1]) == "10.0.0.77:7946"
		})
		if ms := nodes[0].Members(); len(ms) != 3 || ms[2].Card.IssuedMs != 2000 {
			t.Errorf("members: %+v", ms)
		}
		// It stays, and is heard.
		time.Sleep(5 * time.Minute)
		if err := moved.Broadcast([]byte("here I am")); err != nil {
			t.Fatal(err)
		}
		until(t, time.Minute, "its news arrive", func() bool { return nodes[0].newsCount("here I am") == 1 })
		end(nodes[0], nodes[1], moved)
	})
}

// TestSimQuickRestart: the same node at the same address is back before anybody missed it, with a new card.
func TestSimQuickRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		a := start(t, "a", on(network.Host("10.0.0.1:7946")))
		b := start(t, "b", on(network.Host("10.0.0.2:7946"), a.LocalAddr()))
		meet(t, []*node{a, b})
		b.Shutdown()
		b = start(t, "b", func(c *gossip.Config) {
			on(network.Host("10.0.0.2:7946"), a.LocalAddr())(c)
			c.Card = cardOf(t, "b", 2000)
		})
		until(t, 2*time.Minute, "a sees the new card", func() bool {
			ms := a.Members()
			return len(ms) == 2 && ms[1].Card.IssuedMs == 2000 && ms[1].State == gossip.StateAlive
		})
		end(a, b)
	})
}

func TestSimNewsUnderLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		network.SetLoss(0.2)
		var nodes []*node
		for i := range 5 {
			nodes = append(nodes, start(t, fmt.Sprintf("n%d", i), on(network.Host(fmt.Sprintf("10.0.0.%d:7946", i+1)), "10.0.0.1:7946")))
		}
		until(t, 5*time.Minute, "all are listed", func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool { return len(n.Members()) < 5 })
		})
		for i := range 50 {
			if err := nodes[i%5].Broadcast(fmt.Appendf(nil, "news %d", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		missed := 0
		for _, n := range nodes {
			for i := range 50 {
				if c := n.newsCount(fmt.Sprintf("news %d", i)); c > 1 {
					t.Errorf("news %d handled %d times", i, c)
				} else if c == 0 && nodes[i%5] != n {
					missed++
				}
			}
		}
		if missed > 2 { // of 200; news are hints and may be lost
			t.Errorf("%d deliveries missed", missed)
		}
		end(nodes...)
	})
}
