package judge

import (
	"cmp"
	"slices"
	"strings"
)

// sweepKinds is what the last sweep asks of every node.
var sweepKinds = []Kind{KindClaim, KindBan, KindLift, KindPolicySet}

// sweepKinds adds what only some runs do.
func (r *Run) sweepKinds() []Kind {
	if slices.Contains(r.About.Expect, KindMove) {
		return append(slices.Clone(sweepKinds), KindMove, KindAccount)
	}
	return sweepKinds
}

// checkWorksAgain holds that a healed cluster does its work again: in the last
// sweep one fresh admission, ban, lift and policy change through every node
// must succeed; what is unknown, when it is asked again. A cluster all of whose servers run and which still does
// not come to agree breaks the same promise.
func checkWorksAgain(c *court) {
	done, settled := map[string]bool{}, c.run.settled()
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if !op.Sweep {
			continue
		}
		c.Examined++
		switch {
		case op.Outcome == Unknown && settled[op.identity()]: // asked again under the same id
		case op.Outcome != OK:
			c.fail([]*Op{op}, "after healing %s does not work through %s: %s", op.Kind, op.Node, op.Code)
		case op.Kind == KindClaim && !op.Claim.admitted():
			c.fail([]*Op{op}, "after healing a fresh request is denied through %s: %s", op.Node, cmp.Or(op.Claim.Code, "no code"))
		case op.Kind == KindMove && op.undecided():
			if !settled[op.identity()] {
				c.fail([]*Op{op}, "after healing money does not move through %s", op.Node)
			}
		default:
			done[op.Node+string(op.Kind)] = true
		}
	}
	if c.Examined > 0 && c.Result == Pass {
		for _, node := range c.run.About.Nodes {
			for _, kind := range c.run.sweepKinds() {
				if !done[node+string(kind)] {
					c.doubt(nil, "the last sweep asked no %s of %s", kind, node)
				}
			}
		}
	}
	if !c.run.About.Healed && c.run.waitedInVain() {
		c.Examined++
		c.fail(nil, "all servers run, but they do not come to agree: %s", c.run.About.HealDetail)
	}
	if why := c.run.endedByItself(); why != "" {
		c.Examined++
		c.fail(nil, "a server whose data nobody touched does not come up again: %s", why)
	}
}

// ended is how package cluster says that a server ended, other than by a signal.
const ended = "the server ended: exit status"

// endedByItself says which server gave up although no bits were flipped, or "".
func (r *Run) endedByItself() string {
	touched := slices.ContainsFunc(r.Timeline, func(e Event) bool { return e.What == "flip" })
	if r.About.Healed || r.About.Interrupted || touched {
		return ""
	}
	for line := range strings.Lines(r.About.HealDetail) {
		if strings.Contains(line, ended) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// identity names what an attempt asked for, whichever attempt it was.
func (op *Op) identity() string {
	if op.Kind == KindClaim {
		return op.Claim.sameNonce()
	}
	if op.Kind == KindMove {
		return op.Move.Entries[0].ID
	}
	return op.Key
}

// settled are the things that the last sweep asked for and got.
func (r *Run) settled() map[string]bool {
	all := map[string]bool{}
	for i := range r.Ops {
		if op := &r.Ops[i]; op.Sweep && op.Outcome == OK && (op.Kind != KindMove || !op.undecided()) {
			all[op.identity()] = true
		}
	}
	return all
}

// waitedInVain tells whether healing was waited for to its end, and every
// server answers.
func (r *Run) waitedInVain() bool {
	waited := slices.ContainsFunc(r.Timeline, func(e Event) bool { return e.What == "heal" && e.EndNS > 0 })
	if !waited || r.About.Interrupted {
		return false
	}
	for _, node := range r.About.Nodes {
		if !slices.ContainsFunc(r.Finals, func(f Final) bool { return f.Node == node && f.Status != nil }) {
			return false
		}
	}
	return true
}
