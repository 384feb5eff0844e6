package gossip_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/edgecoder/edgecoder/gossip"
)

func TestLeaveIsNotDeath(t *testing.T) {
	t.Parallel()
	nodes := together(t, 4)
	if err := nodes[1].Leave(patience); err != nil {
		t.Fatal(err)
	}
	if s := nodes[1].stateOf("n1"); s != gossip.StateLeft {
		t.Errorf("the one that left lists itself as %s", s)
	}
	if err := nodes[1].Broadcast([]byte("x")); err == nil {
		t.Error("broadcast after leave")
	}
	if err := nodes[1].UpdateCard(cardOf(t, "n1", 9000)); err == nil {
		t.Error("card update after leave")
	}
	if err := nodes[1].Leave(time.Second); err != nil {
		t.Errorf("second leave: %v", err)
	}
	nodes[1].Shutdown()
	nodes[2].Shutdown()
	for _, n := range []*node{nodes[0], nodes[3]} {
		until(t, patience, "left and dead are told apart", func() bool {
			return n.stateOf("n1") == gossip.StateLeft && n.stateOf("n2") == gossip.StateDead
		})
	}
	if err := nodes[2].Leave(time.Second); err == nil {
		t.Error("leave after shutdown")
	}
}

func TestSuspect(t *testing.T) {
	t.Parallel()
	nodes := together(t, 2)
	nodes[1].Shutdown()
	var saw []string
	until(t, patience, "suspect, then dead", func() bool {
		if s := nodes[0].stateOf("n1"); len(saw) == 0 || saw[len(saw)-1] != s {
			saw = append(saw, s)
		}
		return saw[len(saw)-1] == gossip.StateDead
	})
	if !slices.Contains(saw, gossip.StateSuspect) {
		t.Errorf("states: %v; memberlist's log line may have changed", saw)
	}
}

func TestShutdownLeavesNothingBehind(t *testing.T) {
	// Not parallel: it counts goroutines.
	before := runtime.NumGoroutine()
	for range 3 {
		nodes := together(t, 3)
		idle, err := net.Dial("tcp", nodes[0].LocalAddr())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(func() { n.Shutdown() })
			wg.Go(func() { n.Shutdown() })
		}
		wg.Wait()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		idle.Close()
	}
	until(t, patience, "goroutines end", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func TestBothPortsAreTheSame(t *testing.T) {
	t.Parallel()
	for range 20 {
		s, err := gossip.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if s.Listener.Addr().String() != s.Packets.LocalAddr().String() {
			t.Errorf("%v and %v", s.Listener.Addr(), s.Packets.LocalAddr())
		}
		s.Listener.Close()
		s.Packets.Close()
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	good := gossip.Config{ClusterID: cluster, Card: cardOf(t, "a", 1), BindAddr: "127.0.0.1:0", PoolKeys: [][]byte{poolKey}}
	for name, change := range map[string]func(*gossip.Config){
		"no cluster":       func(c *gossip.Config) { c.ClusterID = "" },
		"foreign card":     func(c *gossip.Config) { c.ClusterID = "other" },
		"unsigned card":    func(c *gossip.Config) { c.Card.Signature = nil },
		"altered card":     func(c *gossip.Config) { c.Card.Name = "b" },
		"no key":           func(c *gossip.Config) { c.PoolKeys = nil },
		"short key":        func(c *gossip.Config) { c.PoolKeys = [][]byte{make([]byte, 16)} },
		"no address":       func(c *gossip.Config) { c.BindAddr = "" },
		"bad advertise":    func(c *gossip.Config) { c.AdvertiseAddr = "nowhere" },
		"unknown profile":  func(c *gossip.Config) { c.Profile = "moon" },
		"negative rejoin":  func(c *gossip.Config) { c.RejoinEvery = -1 },
		"address in use":   func(c *gossip.Config) { c.BindAddr = start(t, "x", nil).LocalAddr() },
		"foreign bind":     func(c *gossip.Config) { c.BindAddr = "192.0.2.1:0" },
		"too long cluster": func(c *gossip.Config) { c.ClusterID = strings.Repeat("c", 65); c.Card.ClusterID = c.ClusterID },
	} {
		c := good
		change(&c)
		if p, err := gossip.Start(c); err == nil {
			p.Shutdown()
			t.Errorf("%s: started", name)
		}
	}
}

// TestForeignTransport: Config.Transport replaces ours, and everything but OnStream works.
func TestForeignTransport(t *testing.T) {
	t.Parallel()
	a := start(t, "a", func(c *gossip.Config) {
		mt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: log.New(io.Discard, "", 0)})
		if err != nil {
			t.Fatal(err)
		}
		c.Transport, c.BindAddr = mt, ""
	})
	b := start(t, "b", nil)
	if _, err := b.Join([]string{a.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	meet(t, []*node{a, b})
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this kernel has no IPv6 loopback address: ", err)
	}
	l.Close()
	v6 := func(c *gossip.Config) { c.BindAddr = "[::1]:0" }
	a, b := start(t, "a", v6), start(t, "b", v6)
	if _, err := b.Join([]string{a.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	meet(t, []*node{a, b})
}

// TestCallbacksMayUseThePool: handlers call back without a deadlock, also while the pool shuts down.
func TestCallbacksMayUseThePool(t *testing.T) {
	t.Parallel()
	var pool atomic.Pointer[node]
	use := func() {
		if n := pool.Load(); n != nil {
			n.Members()
			n.Stats()
			n.Recheck()
			n.Broadcast([]byte("answer"))
			n.SetHead([]byte("head"))
			n.UpdateCard(cardOf(t, "a", time.Now().UnixMilli()))
			n.InstallKey(poolKey)
		}
	}
	a := start(t, "a", func(c *gossip.Config) {
		c.Trust = func(gossip.Card) bool { use(); return true }
		c.OnNews = func(string, []byte) bool { use(); return true }
		c.OnHead = func(string, []byte) bool { use(); return true }
	})
	pool.Store(a)
	b := start(t, "b", nil)
	if _, err := b.Join([]string{a.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		b.Broadcast(fmt.Appendf(nil, "question %d", i))
		b.SetHead(fmt.Appendf(nil, "head %d", i))
	}
	until(t, patience, "an answer", func() bool { return b.newsCount("answer") == 1 && b.headOf("a") == "head" })
	a.Shutdown()
}
