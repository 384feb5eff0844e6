package gossip_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/gossip"
)

const cluster = "c-test"

var poolKey = bytes.Repeat([]byte{7}, gossip.KeyBytes)

// keyOf derives a fixed key for a name.
func keyOf(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte(name))
	return crypto.PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
}

func cardOf(t testing.TB, name string, issuedMs int64) gossip.Card {
	t.Helper()
	c := gossip.Card{NodeID: "id-" + name, Name: name, Role: "coordinator", API: "127.0.0.1:1", IssuedMs: issuedMs, ClusterID: cluster}
	if err := c.Sign(keyOf(name)); err != nil {
		t.Fatal(err)
	}
	return c
}

// node is a pool under test and what its handlers were told.
type node struct {
	*gossip.Pool
	name string

	mu    sync.Mutex
	news  map[string]int    // by payload
	heads map[string]string // by origin
}

func (n *node) newsCount(payload string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.news[payload]
}

// start runs a pool on loopback, or as change says, and shuts it down with the test.
func start(t testing.TB, name string, change func(*gossip.Config)) *node {
	t.Helper()
	n := &node{name: name, news: map[string]int{}, heads: map[string]string{}}
	cfg := gossip.Config{
		ClusterID: cluster, Card: cardOf(t, name, 1000), BindAddr: "127.0.0.1:0", PoolKeys: [][]byte{poolKey}, Profile: gossip.ProfileLocal,
		OnNews: func(_ string, b []byte) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.news[string(b)]++
			return true
		},
		OnHead: func(from string, h []byte) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.heads[from] = string(h)
			return true
		},
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil)).With("at", name)
	}
	if change != nil {
		change(&cfg)
	}
	p, err := gossip.Start(cfg)
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	n.Pool = p
	t.Cleanup(func() { p.Shutdown() })
	return n
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// stateOf is how n lists another.
func (n *node) stateOf(name string) string {
	for _, m := range n.Members() {
		if m.Card.Name == name {
			return m.State
		}
	}
	return "absent"
}

func (n *node) headOf(name string) string {
	for _, m := range n.Members() {
		if m.Card.Name == name {
			return string(m.Head)
		}
	}
	return ""
}

// until polls, in real or virtual time.
func until(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

const patience = 20 * time.Second

// together starts n pools on loopback that know each other.
func together(t testing.TB, count int) []*node {
	t.Helper()
	nodes := make([]*node, count)
	for i := range nodes {
		nodes[i] = start(t, fmt.Sprintf("n%d", i), nil)
		if i > 0 {
			if _, err := nodes[i].Join([]string{nodes[0].LocalAddr()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	meet(t, nodes)
	return nodes
}

func meet(t testing.TB, nodes []*node) {
	t.Helper()
	until(t, patience, "everybody sees everybody alive", func() bool {
		for _, a := range nodes {
			for _, b := range nodes {
				if a.stateOf(b.name) != gossip.StateAlive {
					return false
				}
			}
		}
		return true
	})
}

func TestThreeMembersFindEachOther(t *testing.T) {
	t.Parallel()
	nodes := together(t, 3)
	ms := nodes[2].Members()
	if len(ms) != 3 || ms[0].Card.Name != "n0" || ms[2].Card.Name != "n2" {
		t.Fatalf("members: %+v", ms)
	}
	for i, m := range ms {
		if !m.Card.Verify() || m.Addr != nodes[i].LocalAddr() || m.ChangedMs == 0 {
			t.Errorf("member %+v", m)
		}
	}
	if s := nodes[0].Stats(); s.Alive != 3 || s.Members != 3 {
		t.Errorf("stats: %+v", s)
	}
}

func TestSeedsAreJoinedWithoutJoin(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	b := start(t, "b", func(c *gossip.Config) {
		c.RejoinEvery = 100 * time.Millisecond
		c.Seeds = func() []string { return []string{"not an address", a.LocalAddr(), "127.0.0.1:1"} }
	})
	meet(t, []*node{a, b})
}

// apart checks that two nodes do not list each other after one tried to join the other.
func apart(t *testing.T, a, b *node) {
	t.Helper()
	if n, err := b.Join([]string{a.LocalAddr()}); err == nil {
		t.Errorf("join reached %d", n)
	}
	if s := a.stateOf(b.name); s != "absent" {
		t.Errorf("a lists b as %s", s)
	}
	if s := b.stateOf(a.name); s != "absent" {
		t.Errorf("b lists a as %s", s)
	}
}

func TestWrongPoolKeyIsRefused(t *testing.T) {
	t.Parallel()
	apart(t, start(t, "a", nil), start(t, "b", func(c *gossip.Config) { c.PoolKeys = [][]byte{bytes.Repeat([]byte{8}, 32)} }))
}

func TestOtherClusterIsRefused(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	apart(t, a, start(t, "b", func(c *gossip.Config) {
		c.ClusterID, c.Card.ClusterID = "c-other", "c-other"
		if err := c.Card.Sign(keyOf("b")); err != nil {
			t.Fatal(err)
		}
	}))
	until(t, patience, "the stream is refused at the door", func() bool { return a.Stats().StreamsRefused > 0 })
}

func TestUntrustedMemberIsListedAndNotHeard(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	enrolled := map[string]bool{"a": true, "b": true}
	trust := func(c *gossip.Config) {
		c.Trust = func(c gossip.Card) bool {
			mu.Lock()
			defer mu.Unlock()
			return enrolled[c.Name] && c.Key == crypto.PublicOf(keyOf(c.Name))
		}
	}
	a, b, x := start(t, "a", trust), start(t, "b", trust), start(t, "x", nil)
	for _, n := range []*node{b, x} {
		if _, err := n.Join([]string{a.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, patience, "x is listed as untrusted", func() bool {
		return a.stateOf("x") == gossip.StateUntrusted && b.stateOf("x") == gossip.StateUntrusted
	})
	if err := x.SetHead([]byte("head of x")); err != nil {
		t.Fatal(err)
	}
	if err := x.Broadcast([]byte("news of x")); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "a heard x and did not listen", func() bool { return a.Stats().NewsUntrusted >= 2 })
	if a.newsCount("news of x") != 0 || a.headOf("x") != "" {
		t.Error("a listened to a stranger")
	}

	mu.Lock()
	enrolled["x"] = true
	mu.Unlock()
	a.Recheck()
	until(t, patience, "x is trusted after enrolment", func() bool { return a.stateOf("x") == gossip.StateAlive })
	until(t, patience, "its head comes by push/pull", func() bool { return a.headOf("x") == "head of x" })
	mu.Lock()
	enrolled["x"] = false
	mu.Unlock()
	a.Recheck()
	until(t, patience, "x is untrusted after removal", func() bool { return a.stateOf("x") == gossip.StateUntrusted })
}

func TestNewsReachesEveryMemberOnce(t *testing.T) {
	t.Parallel()
	nodes := together(t, 5)
	const messages = 20
	for i := range messages {
		if err := nodes[i%5].Broadcast(fmt.Appendf(nil, "news %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	all := func(ok func(n *node, i, count int) bool) bool {
		for _, n := range nodes {
			for i := range messages {
				if nodes[i%5] != n && !ok(n, i, n.newsCount(fmt.Sprintf("news %d", i))) {
					return false
				}
			}
		}
		return true
	}
	until(t, patience, "all have all", func() bool { return all(func(_ *node, _, c int) bool { return c > 0 }) })
	until(t, patience, "all is said", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return n.Stats().Queued > 0 })
	})
	if !all(func(n *node, i, c int) bool { return c == 1 }) {
		t.Error("a message was handled twice")
	}
	for i := range messages {
		if nodes[i%5].newsCount(fmt.Sprintf("news %d", i)) != 0 {
			t.Error("a node was told its own news")
		}
	}
}

// TestNewsStopsWhereItIsNotNew: only a handler's true passes a message on.
func TestNewsStopsWhereItIsNotNew(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	b := start(t, "b", func(c *gossip.Config) { c.OnNews = func(string, []byte) bool { return false } })
	if _, err := b.Join([]string{a.LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	meet(t, []*node{a, b})
	if err := a.Broadcast([]byte("old")); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "b received it", func() bool { return b.Stats().NewsReceived > 0 })
	if s := b.Stats(); s.NewsNew != 0 || s.Queued != 0 {
		t.Errorf("b passed it on: %+v", s)
	}
}

func TestHeadsSpreadByBroadcastAndPushPull(t *testing.T) {
	t.Parallel()
	nodes := together(t, 3)
	if err := nodes[0].SetHead([]byte("head 1")); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "others have the head", func() bool {
		return nodes[1].headOf("n0") == "head 1" && nodes[2].headOf("n0") == "head 1"
	})
	// Who comes later did not hear the broadcast, and gets it from somebody who is not its owner.
	late := start(t, "late", nil)
	if _, err := late.Join([]string{nodes[2].LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the late one has it by push/pull", func() bool { return late.headOf("n0") == "head 1" })
}

func TestLimitsAreErrorsToTheCaller(t *testing.T) {
	t.Parallel()
	a := start(t, "a", nil)
	for _, size := range []int{0, gossip.MaxNews + 1} {
		if a.Broadcast(make([]byte, size)) == nil {
			t.Errorf("news of %d bytes taken", size)
		}
	}
	for _, size := range []int{0, gossip.MaxHead + 1} {
		if a.SetHead(make([]byte, size)) == nil {
			t.Errorf("head of %d bytes taken", size)
		}
	}
	if err := a.Broadcast(make([]byte, gossip.MaxNews)); err != nil {
		t.Error(err)
	}
}

// TestLargestNewsArrives: what Broadcast accepts fits a datagram, or memberlist would drop it without a word.
func TestLargestNewsArrives(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("c", gossip.MaxClusterID)
	var nodes []*node
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, start(t, name, func(c *gossip.Config) {
			c.ClusterID, c.Card.ClusterID = long, long
			c.Card.NodeID = strings.Repeat(name, 128)
			if err := c.Card.Sign(keyOf(name)); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if _, err := nodes[1].Join([]string{nodes[0].LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	meet(t, nodes)
	news, head := strings.Repeat("n", gossip.MaxNews), strings.Repeat("h", gossip.MaxHead)
	if err := nodes[0].Broadcast([]byte(news)); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].SetHead([]byte(head)); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the largest of both arrive", func() bool {
		return nodes[1].newsCount(news) == 1 && nodes[1].headOf("a") == head
	})
}

func TestUpdateCard(t *testing.T) {
	t.Parallel()
	nodes := together(t, 2)
	c := cardOf(t, "n0", 2000)
	c.Raft = "10.1.1.1:9"
	if err := c.Sign(keyOf("n0")); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].UpdateCard(c); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the new card is seen", func() bool { return nodes[1].Members()[0].Card.Raft == "10.1.1.1:9" })
	if nodes[0].Members()[0].Card.Raft != "10.1.1.1:9" {
		t.Error("not by ourselves")
	}
	if nodes[0].UpdateCard(c) == nil {
		t.Error("the same issue time was taken twice")
	}
	c.IssuedMs = 3000
	if nodes[0].UpdateCard(c) == nil {
		t.Error("a card changed after signing was taken")
	}
	if nodes[0].UpdateCard(cardOf(t, "n1", 5000)) == nil {
		t.Error("somebody else's card was taken")
	}
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	nodes := together(t, 2)
	next, other := bytes.Repeat([]byte{9}, 32), bytes.Repeat([]byte{10}, 32)
	do := func(f func(n *node) error) {
		t.Helper()
		for _, n := range nodes {
			if err := f(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, k := range [][]byte{next, other, next} {
		do(func(n *node) error { return n.InstallKey(k) })
	}
	do(func(n *node) error { return n.UseKey(next) })
	do(func(n *node) error { return n.RemoveKey(poolKey) })
	do(func(n *node) error { return n.RemoveKey(poolKey) })
	if nodes[0].RemoveKey(next) == nil || nodes[0].UseKey(poolKey) == nil || nodes[0].InstallKey([]byte("short")) == nil {
		t.Error("a wrong key operation was taken")
	}
	if err := nodes[0].Broadcast([]byte("under the new key")); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "news under the new key", func() bool { return nodes[1].newsCount("under the new key") == 1 })
	apart(t, nodes[0], start(t, "late", nil)) // still has the old key only
}
