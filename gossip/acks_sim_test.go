package gossip_test

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/gossip"
)

// TestSimAcksToSome: what is told to some stays there, and the newest counts; too many are refused.
func TestSimAcksToSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := simPool(t, simNet(), 3)
		defer end(nodes...)
		held, next := gossip.AckID{7}, gossip.AckID{8}
		for _, ids := range [][]gossip.AckID{{held}, {held, next}} {
			if err := nodes[2].AcknowledgeTo(ids, "id-n0", "id-nobody"); err != nil {
				t.Fatal(err)
			}
			until(t, time.Second, "it is there", func() bool { return slices.Equal(holds(nodes[0], "n2"), ids) })
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Minute)
		if got := holds(nodes[1], "n2"); got != nil {
			t.Errorf("another heard %v", got)
		}
		if err := nodes[2].AcknowledgeTo(make([]gossip.AckID, 17), "id-n0"); err == nil {
			t.Error("more acknowledgements than fit were taken")
		}
	})
}

// acksEnv is how many members TestSimAcksCost has: make spread sets a hundred.
const acksEnv = "EDGECODER_ACKS"

// TestSimAcksCost says what it costs when all members acknowledge a key within ten seconds, as they do when it is rotated: to all, as coordinators
// do, or to three, as edges do.
func TestSimAcksCost(t *testing.T) {
	members, err := strconv.Atoi(os.Getenv(acksEnv))
	if err != nil || members < 4 || members > gossip.MaxMembers {
		t.Skipf("measures, a minute of processor for a hundred members: set %s to how many, as make spread does", acksEnv)
	}
	synctest.Test(t, func(t *testing.T) {
		network := simNet()
		nodes := simPool(t, network, members)
		defer end(nodes...)
		over := func(lasts time.Duration, do func()) float64 {
			sent := network.Sent()
			do()
			time.Sleep(lasts)
			return float64(network.Sent()-sent) / float64(members)
		}
		ids := []gossip.AckID{{1}, {2}, {3}}
		each := func(say func(*node) error) {
			for _, n := range nodes {
				if err := say(n); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Second / time.Duration(members))
			}
		}
		idle := over(190*time.Second, func() {})
		some := over(180*time.Second, func() {
			each(func(n *node) error { return n.AcknowledgeTo(ids, "id-n0", "id-n1", "id-n2") })
		})
		all := over(180*time.Second, func() {
			each(func(n *node) error { return n.Acknowledge(ids) })
		})
		heard := 0
		for _, m := range nodes[0].Members() {
			if slices.Equal(m.Holds, ids) {
				heard++
			}
		}
		t.Logf("%d members, three minutes, bytes a member: idle %.0f; each tells three once %.0f; each tells all %.0f, of which one had heard %d", members, idle, some, all, heard)
	})
}
