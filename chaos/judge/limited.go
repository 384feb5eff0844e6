package judge

import (
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/client"
)

// uses are the admissions of one agent: those that were told, by their clocks,
// and the attempts that may have been one.
type uses struct {
	known []admission // ascending by clock
	maybe []*Op       // one for each nonce, ascending by start
}

func (r *Run) uses(entries []admission) map[string]*uses {
	all := map[string]*uses{}
	of := func(agent string) *uses {
		if all[agent] == nil {
			all[agent] = &uses{}
		}
		return all[agent]
	}
	known := map[string]bool{}
	for _, a := range entries {
		known[a.answer.Claim.nonceID()] = true
		u := of(a.answer.Claim.Agent)
		u.known = append(u.known, a)
	}
	first := map[string]*Op{}
	for i := range r.Ops {
		op := &r.Ops[i]
		if !op.mayAdmit() || known[op.Claim.nonceID()] {
			continue
		}
		if had := first[op.Claim.nonceID()]; had == nil || op.StartNS < had.StartNS {
			first[op.Claim.nonceID()] = op
		}
	}
	for _, op := range slices.SortedFunc(maps.Values(first), func(a, b *Op) int { return int(a.StartNS - b.StartNS) }) {
		u := of(op.Claim.Agent)
		u.maybe = append(u.maybe, op)
	}
	for _, u := range all {
		slices.SortFunc(u.known, func(a, b admission) int { return int(a.clockMs() - b.clockMs()) })
	}
	return all
}

// checkLimited holds that whoever was called rate limited may have used up the
// smallest limit in force: every admission that a client knows of counts, and
// every attempt that may have been one.
func checkLimited(c *court) {
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindClaim || op.Outcome != OK || op.Claim.Code != client.VerdictRateLimited {
			continue
		}
		if c.policies == nil {
			c.doubt(nil, "the policy at the start was not recorded")
			return
		}
		c.Examined++
		checkOneLimited(c, op, c.uses[op.Claim.Agent])
	}
}

func checkOneLimited(c *court, op *Op, u *uses) {
	most, least, justified := 0, int64(never), false
	c.policies.during(op.StartNS, op.EndNS, func(p Policy) {
		limit := p.limitOf(op.Claim.Agent)
		n := u.possible(op, op.Claim.ClockMs-limit.WindowMs, c.policies.maxSkewEver())
		most, least = max(most, n), min(least, limit.Requests)
		justified = justified || int64(n) >= limit.Requests
	})
	if !justified {
		c.fail([]*Op{op}, "%s was called rate limited after at most %d admissions in the window, %d are allowed", op.Claim.Agent, most, least)
	}
}

// possible counts what may stand in the window that began at oldestMs when op
// was denied. An admission exactly one window old still counts.
func (u *uses) possible(op *Op, oldestMs, maxSkewMs int64) int {
	if u == nil {
		return 0
	}
	n := 0
	for i := len(u.known) - 1; i >= 0 && u.known[i].clockMs() >= oldestMs; i-- {
		a := u.known[i]
		if a.asked.StartNS <= op.EndNS && (op.Claim.Index == 0 || a.index() <= op.Claim.Index) {
			n++
		}
	}
	for _, m := range u.maybe {
		if m.StartNS > op.EndNS {
			break
		}
		if m.Claim.TimestampMs+maxSkewMs >= oldestMs {
			n++
		}
	}
	return n
}
