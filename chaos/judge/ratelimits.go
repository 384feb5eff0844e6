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
	for _, agent := range slices.Sorted(maps.Keys(c.uses)) {
		known := c.uses[agent].known
		c.Examined += len(known)
		if c.policies == nil && len(known) > 0 {
			c.doubt(nil, "the policy at the start was not recorded")
			return
		}
		checkAgentLimit(c, agent, known)
	}
}

func checkAgentLimit(c *court, agent string, known []admission) {
	for i, a := range known {
		var broken *client.RateLimit
		used, kept := 0, false
		c.policies.during(a.asked.StartNS, a.answer.EndNS, func(p Policy) {
			limit := p.limitOf(agent)
			// An admission exactly one window old still counts.
			n := countSince(known[:i+1], a.clockMs()-limit.WindowMs)
			if int64(n) <= limit.Requests {
				kept = true
			} else {
				broken, used = &limit, n
			}
		})
		if broken != nil && !kept {
			c.fail(answersOf(known[max(0, i+1-used):i+1]), "%s was admitted %d times within %d ms, at most %d were allowed",
				agent, used, broken.WindowMs, broken.Requests)
			return // the next windows tell the same
		}
	}
}

// countSince counts from the back the admissions at or after oldestMs.
func countSince(known []admission, oldestMs int64) int {
	n := 0
	for i := len(known) - 1; i >= 0 && known[i].clockMs() >= oldestMs; i-- {
		n++
	}
	return n
}

func answersOf(known []admission) []*Op {
	ops := make([]*Op, len(known))
	for i, a := range known {
		ops[i] = a.answer
	}
	return ops
}
