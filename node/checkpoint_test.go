package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto/checkpoint"
	"github.com/edgecoder/edgecoder/fsm"
)

// sets returns the cosigner sets that a node knows.
func (n *Node) sets() (out []checkpoint.SignedSet) {
	n.machine.Read(func(s *fsm.State) {
		for _, v := range s.CosignerSets(1, 1000) {
			out = append(out, v.Signed(s.Meta().ClusterID))
		}
	})
	return out
}

// newestCheckpoint returns a node's final checkpoint, verified from the first set on as a stranger would.
func (c *trio) newestCheckpoint(i int) (checkpoint.Opened, []byte, bool) {
	c.t.Helper()
	n := c.nodes[i]
	sets := n.sets()
	if len(sets) == 0 {
		return checkpoint.Opened{}, nil, false
	}
	if err := sets[0].VerifyRoot(); err != nil {
		c.t.Fatal(err)
	}
	set, err := sets[0].Follow(sets)
	if err != nil {
		c.t.Fatal(err)
	}
	e := n.epochNow()
	note, _, ok := n.logs.named[checkpoint.LogBlacklist].Newest(e.origin(checkpoint.LogBlacklist))
	if !ok {
		return checkpoint.Opened{}, nil, false
	}
	o, err := set.OpenFinal(note)
	return o, note, err == nil
}

func (c *trio) allHave(size uint64, cosigners int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("a checkpoint of %d records by %d of %d at every node", size, cosigners, len(c.nodes)), func() bool {
		for i, n := range c.nodes {
			if n == nil {
				continue
			}
			o, _, ok := c.newestCheckpoint(i)
			sets := n.sets()
			if !ok || o.Size != size || len(sets) == 0 || len(sets[len(sets)-1].Cosigners) != cosigners {
				return false
			}
		}
		return true
	})
}

func TestCheckpointsAreCosignedAndSpread(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	c.allHave(0, 3)
	for i := range 5 {
		c.ban(i%3, fmt.Sprintf("agent-%d", i))
	}
	began := time.Now()
	c.allHave(5, 3)
	t.Logf("final everywhere %s after the last ban", time.Since(began))
}
