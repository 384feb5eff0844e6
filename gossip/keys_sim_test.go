package gossip_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
	"github.com/edgecoder/edgecoder/gossip/gossiptest"
)

// TestSimKeyRotation rotates the pool key under loss, each step at another time on each member and in another order: nobody loses
// anybody, and everybody hears who is ready.
func TestSimKeyRotation(t *testing.T) {
	for _, c := range []struct {
		members int
		loss    float64
	}{{3, 0}, {3, 0.2}, {10, 0.1}, {30, 0.05}} {
		t.Run(fmt.Sprintf("%d members, loss %v", c.members, c.loss), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { keyRotation(t, c.members, c.loss) })
		})
	}
}

func keyRotation(t *testing.T, members int, loss float64) {
	network := simNet()
	network.SetLoss(loss)
	nodes := simPool(t, network, members)
	random := rand.New(rand.NewPCG(uint64(members), 8))
	keys := [][]byte{poolKey, bytes.Repeat([]byte{8}, 32), bytes.Repeat([]byte{9}, 32)}
	for i, next := range keys[1:] {
		old := keys[i]
		id := gossip.AckID{byte(i + 1)}
		step := func(ring ...[]byte) {
			t.Helper()
			for _, j := range random.Perm(members) {
				if err := nodes[j].SetKeys(ring); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
				wantTogether(t, nodes)
			}
		}
		step(old, next)
		for _, n := range nodes {
			if err := n.Acknowledge([]gossip.AckID{id}); err != nil {
				t.Fatal(err)
			}
		}
		until(t, 5*time.Minute, "everybody hears that everybody holds the key", func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool { return !allHold(n, members, id) })
		})
		step(next, old)
		step(next)
	}
	if err := nodes[0].Broadcast([]byte("under the last key")); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "news under the last key", func() bool { return nodes[members-1].newsCount("under the last key") == 1 })
	end(nodes...)
}

// TestSimAckOfLateMember: who was not there when keys were acknowledged hears it all the same, and one that stopped holds nothing any more.
func TestSimAckOfLateMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		nodes := simPool(t, network, 3)
		held := gossip.AckID{7}
		if err := nodes[0].Acknowledge([]gossip.AckID{held}); err != nil {
			t.Fatal(err)
		}
		late := start(t, "late", on(network.Host("10.0.0.200:7946"), "10.0.0.1:7946"))
		until(t, 5*time.Minute, "the late one hears", func() bool { return slices.Contains(holds(late, "n0"), held) })
		if err := nodes[0].Acknowledge([]gossip.AckID{}); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Minute, "it holds it no more", func() bool { return !slices.Contains(holds(late, "n0"), held) })
		if err := nodes[0].Acknowledge(make([]gossip.AckID, 17)); err == nil {
			t.Error("more acknowledgements than fit were taken")
		}
		end(append(nodes, late)...)
	})
}

// TestSimMemberWithoutTheNewKey: one that missed a key loses the pool when the others stop using the old one, and finds it once it has it.
func TestSimMemberWithoutTheNewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		nodes := simPool(t, network, 4)
		next := bytes.Repeat([]byte{8}, 32)
		for _, n := range nodes[:3] {
			if err := n.SetKeys([][]byte{next, poolKey}); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range nodes[:3] {
			if err := n.SetKeys([][]byte{next}); err != nil {
				t.Fatal(err)
			}
		}
		until(t, 5*time.Minute, "it is lost", func() bool { return nodes[0].stateOf("n3") == gossip.StateDead })
		if err := nodes[3].SetKeys([][]byte{next}); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Minute, "it is back", func() bool {
			return nodes[0].stateOf("n3") == gossip.StateAlive && nodes[3].stateOf("n0") == gossip.StateAlive
		})
		end(nodes...)
	})
}

// simPool starts members on a simulated network and waits until all know all.
func simPool(t *testing.T, network *gossiptest.Network, members int) []*node {
	t.Helper()
	var nodes []*node
	for i := range members {
		nodes = append(nodes, start(t, fmt.Sprintf("n%d", i), on(network.Host(fmt.Sprintf("10.0.0.%d:7946", i+1)), "10.0.0.1:7946")))
	}
	until(t, 10*time.Minute, "all are listed", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return len(n.Members()) < members })
	})
	return nodes
}

// wantTogether fails if any member takes another for gone. A suspicion under loss is refuted.
func wantTogether(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		for _, m := range n.Members() {
			if m.State != gossip.StateAlive && m.State != gossip.StateSuspect {
				t.Fatalf("%s lists %s as %s", n.name, m.Card.Name, m.State)
			}
		}
	}
}

func holds(n *node, name string) []gossip.AckID {
	for _, m := range n.Members() {
		if m.Card.Name == name {
			return m.Holds
		}
	}
	return nil
}

func allHold(n *node, members int, id gossip.AckID) bool {
	count := 0
	for _, m := range n.Members() {
		if slices.Contains(m.Holds, id) {
			count++
		}
	}
	return count == members
}

// TestSimWhoMissedARotationIsBackAtOnce: whoever was away while the pool key was rotated reaches nobody until it gets the new one, and
// does not wait for its next round to look for the others then.
func TestSimWhoMissedARotationIsBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		nodes := simPool(t, network, 2)
		next := bytes.Repeat([]byte{8}, 32)
		for _, n := range nodes {
			if err := n.SetKeys([][]byte{next}); err != nil {
				t.Fatal(err)
			}
		}
		late := start(t, "late", on(network.Host("10.0.0.200:7946"), "10.0.0.1:7946"))
		nodes = append(nodes, late)
		time.Sleep(5 * time.Second) // virtual: its first round is over, the next one is 20 s away
		if len(late.Members()) != 1 {
			t.Fatalf("with the old key it lists %d members", len(late.Members()))
		}
		if err := late.SetKeys([][]byte{next}); err != nil {
			t.Fatal(err)
		}
		until(t, 5*time.Second, "all are listed", func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool { return len(n.Members()) < 3 })
		})
		end(nodes...)
	})
}

// TestSimFullRingIsReplacedByAnother: a member that was away comes from one full ring to another.
func TestSimFullRingIsReplacedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := simPool(t, simNet(), 1)
		ring := func(first byte) (keys [][]byte) {
			for i := range byte(8) {
				keys = append(keys, bytes.Repeat([]byte{first + i}, gossip.KeyBytes))
			}
			return keys
		}
		for _, first := range []byte{20, 40, 44, 36} {
			if err := nodes[0].SetKeys(ring(first)); err != nil {
				t.Fatalf("ring of %d: %v", first, err)
			}
		}
		end(nodes...)
	})
}
