package judge

import (
	"fmt"
	"slices"
	"strings"
)

// sighting is a status of a node, from the history or from the final word.
type sighting struct {
	node   string
	status *Status
	op     *Op
}

func (r *Run) sightings() []sighting {
	var out []sighting
	for i := range r.Ops {
		if op := &r.Ops[i]; op.Kind == KindStatus && op.Outcome == OK {
			out = append(out, sighting{op.Node, op.Status, op})
		}
	}
	for i := range r.Finals {
		if r.Finals[i].Status != nil {
			out = append(out, sighting{r.Finals[i].Node, r.Finals[i].Status, nil})
		}
	}
	return out
}

func (s sighting) ops() []*Op {
	if s.op == nil {
		return nil
	}
	return []*Op{s.op}
}

// checkDigests holds P4: a mark of the log has one digest wherever it was ever
// shown, and after healing all nodes share a mark.
func checkDigests(c *court) {
	type mark struct{ epoch, index uint64 }
	type shown struct {
		digest string
		by     sighting
	}
	seen := map[mark]shown{}
	nodes := map[mark]map[string]bool{}
	for _, s := range c.run.sightings() {
		for _, m := range s.status.Digests {
			at := mark{s.status.Epoch, m.Index}
			if nodes[at] == nil {
				nodes[at] = map[string]bool{}
			}
			nodes[at][s.node] = true
			first, had := seen[at]
			switch {
			case !had:
				seen[at] = shown{m.Digest, s}
			case first.digest != m.Digest:
				c.fail(append(s.ops(), first.by.ops()...), "at mark %d %s has digest %.16s, %s has %.16s",
					m.Index, first.by.node, first.digest, s.node, m.Digest)
			}
		}
	}
	for _, who := range nodes {
		if len(who) > 1 {
			c.Examined++ // a mark that was really compared
		}
	}
	if c.Examined == 0 && len(c.run.About.replicas()) > 1 {
		c.doubt(nil, "no mark was seen on two nodes, so nothing was compared")
	}
	checkSharedMark(c)
}

func checkSharedMark(c *court) {
	if !c.run.About.Healed || len(c.run.About.replicas()) < 2 {
		return // checkEnough doubts a cluster that did not heal
	}
	shared := map[string]int{}
	var with []string
	for _, f := range c.run.Finals {
		if f.Status == nil {
			continue
		}
		with = append(with, f.Node)
		for _, m := range f.Status.Digests {
			shared[fmt.Sprint(f.Status.Epoch, "/", m.Index, "/", m.Digest)]++
		}
	}
	for _, n := range shared {
		if n == len(c.run.About.replicas()) {
			return
		}
	}
	slices.Sort(with)
	c.doubt(nil, "after healing no mark is shared by all nodes; a final status came from: %s", strings.Join(with, ", "))
}

// checkLeaders holds that no two nodes ever led in the same term.
func checkLeaders(c *court) {
	leader := map[uint64]sighting{}
	for _, s := range c.run.sightings() {
		if s.status.State != "leader" {
			continue
		}
		c.Examined++
		first, had := leader[s.status.Term]
		if !had {
			leader[s.status.Term] = s
		} else if first.status.NodeID != s.status.NodeID {
			c.fail(append(s.ops(), first.ops()...), "%s and %s both led in term %d", first.node, s.node, s.status.Term)
		}
	}
}
