//go:build planted

package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/store"
)

func divergingTrio(t *testing.T) (*trio, *syncedLog) {
	log := &syncedLog{}
	c := &trio{t: t, adjust: func(_ int, cfg *Config) {
		cfg.Timing.Mark = time.Second
		cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	}}
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(c.stopAll)
	c.grow(3)
	return c, log
}

// marksOf counts the marks that a node has made so far, by their newest index.
func newestMark(n *Node) (index uint64) {
	n.machine.Read(func(s *fsm.State) {
		if m := s.Marks(); len(m) > 0 {
			index = m[len(m)-1].Index
		}
	})
	return index
}

// A replica whose state differs is found within two marks, stops serving, loses
// its vote, and comes back with the others' state; they serve on.
func TestP4AgreementDivergedReplicaStopsAndReturns(t *testing.T) {
	for _, who := range []string{"follower", "leader"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			c, log := divergingTrio(t)
			c.eventually("a leader", func() bool { return c.leader() >= 0 })
			bad := c.leader()
			if who == "follower" {
				bad = (bad + 1) % 3
			}
			n := c.nodes[bad]
			start := newestMark(n)
			n.machine.PlantDivergence("planted")
			c.eventually("it stops serving", func() bool { return n.Serving() != nil || isDone(n) })
			d := n.diverged.Load()
			if d == nil {
				t.Fatal("it stopped for another reason")
			}
			marks := 0
			for _, other := range c.nodes {
				other.machine.Read(func(s *fsm.State) {
					k := 0
					for _, m := range s.Marks() {
						if m.Index > start && m.Index <= d.Mark {
							k++
						}
					}
					marks = max(marks, k)
				})
			}
			if marks > 2 {
				t.Errorf("found after %d marks", marks)
			}
			if err := n.Err(); !errors.Is(err, ErrResync) {
				t.Fatalf("it ended with %v", err)
			}
			if text := log.String(); !strings.Contains(text, "CRITICAL") || !strings.Contains(text, "bans") {
				t.Error("the alarm does not name the tenant")
			}
			c.nodes[bad] = nil
			healthy := (bad + 1) % 3
			c.eventually("the others serve", func() bool {
				_, err := c.client(healthy, c.admin).Policy(t.Context(), client.Strong())
				return err == nil
			})
			c.start(bad)
			c.eventually("it votes again with the others' state", func() bool {
				return len(voters(c.nodes[healthy].servers())) == 3 && c.allReady() && sameMark(c)
			})
			if !hasFile(filepath.Join(c.cfgs[bad].DataDir, store.EvidenceDir)) {
				t.Error("nothing was kept as evidence")
			}
			found := false
			c.nodes[bad].machine.Read(func(s *fsm.State) { _, found = s.Ban("planted", 0) })
			if found {
				t.Error("what was planted is still there")
			}
		})
	}
}

// With no majority for any state nobody serves.
func TestP4AgreementNoMajorityAllStop(t *testing.T) {
	t.Parallel()
	c, _ := divergingTrio(t)
	for i, name := range []string{"a", "b", "c"} {
		c.nodes[i].machine.PlantDivergence(name)
	}
	c.eventually("all stop", func() bool {
		for _, n := range c.nodes {
			if n.Serving() == nil {
				return false
			}
		}
		return true
	})
	for i := range c.nodes {
		_, err := c.client(i, c.admin).Policy(t.Context())
		if e := (*client.Error)(nil); !errors.As(err, &e) || e.Reason != reasonDiverged {
			t.Errorf("node %d answered %v", i, err)
		}
		if st, err := c.client(i, c.admin).Status(t.Context()); err != nil || st.Digest == "" {
			t.Errorf("node %d tells nothing of itself: %v", i, err)
		}
	}
}

func isDone(n *Node) bool {
	select {
	case <-n.Done():
		return true
	default:
		return false
	}
}

// sameMark tells whether all nodes have one digest at one recent mark.
func sameMark(c *trio) bool {
	seen := map[fsm.Mark]int{}
	for _, n := range c.nodes {
		n.machine.Read(func(s *fsm.State) {
			for _, m := range s.Marks() {
				seen[m]++
			}
		})
	}
	for _, k := range seen {
		if k == len(c.nodes) {
			return true
		}
	}
	return false
}

func hasFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
