package judge

import (
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/client"
)

// checkLimits holds P6: counted over all nodes on the cluster clock, no window
// of an agent's admissions is fuller than its limit. While a policy change may
// have been in force, the more generous of both counts.
func checkLimits(c *court) {
	policies := c.run.policies()
	byAgent := map[string][]*Op{}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind == KindClaim && op.Outcome == OK && op.Claim.admitted() && !op.Claim.Repeated {
			byAgent[op.Claim.Agent] = append(byAgent[op.Claim.Agent], op)
			c.Examined++
		}
	}
	if policies == nil {
		if c.Examined > 0 {
			c.doubt(nil, "the policy at the start was not recorded")
		}
		return
	}
	for _, agent := range slices.Sorted(maps.Keys(byAgent)) {
		checkAgentLimit(c, agent, byAgent[agent], policies)
	}
}

func checkAgentLimit(c *court, agent string, ops []*Op, policies policyHistory) {
	slices.SortFunc(ops, func(a, b *Op) int { return int(a.Claim.ClockMs - b.Claim.ClockMs) })
	for i, op := range ops {
		var broken *client.RateLimit
		used, kept := 0, false
		policies.during(op, func(p Policy) {
			limit := p.limitOf(agent)
			// An admission exactly one window old still counts.
			n := countSince(ops[:i+1], op.Claim.ClockMs-limit.WindowMs)
			if int64(n) <= limit.Requests {
				kept = true
			} else {
				broken, used = &limit, n
			}
		})
		if broken != nil && !kept {
			c.fail(ops[max(0, i+1-used):i+1], "%s was admitted %d times within %d ms, at most %d were allowed",
				agent, used, broken.WindowMs, broken.Requests)
			return // the next windows tell the same
		}
	}
}

// countSince counts from the back the admissions at or after oldestMs.
func countSince(ops []*Op, oldestMs int64) int {
	n := 0
	for i := len(ops) - 1; i >= 0 && ops[i].Claim.ClockMs >= oldestMs; i-- {
		n++
	}
	return n
}
