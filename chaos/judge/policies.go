package judge

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/edgecoder/edgecoder/client"
)

// policySpan is a policy and the widest time in which it may have been in force.
type policySpan struct {
	policy          Policy
	version         uint64
	fromNS, untilNS int64
}

// policyHistory is every policy that may ever have been in force; empty when
// it is not known what stood at the start.
type policyHistory []policySpan

func (r *Run) policies() policyHistory {
	if r.About.Policy == nil {
		return nil
	}
	h := policyHistory{{policy: r.About.Policy.Policy, version: r.About.Policy.Version, untilNS: never}}
	sets := proposals(r.Ops, KindPolicySet)
	for _, op := range sets {
		if op.Outcome != Refused {
			h = append(h, policySpan{policy: op.PolicySet.Policy, version: op.PolicySet.IfVersion + 1, fromNS: op.StartNS, untilNS: never})
		}
	}
	for i := range h {
		for _, op := range sets {
			if op.Outcome == OK && op.PolicySet.IfVersion+1 > h[i].version {
				h[i].untilNS = min(h[i].untilNS, op.EndNS)
			}
		}
	}
	return h
}

// during calls f for each policy that may have been in force at some time from
// one moment to another.
func (h policyHistory) during(fromNS, toNS int64, f func(Policy)) {
	for _, s := range h {
		if s.fromNS <= toNS && s.untilNS >= fromNS {
			f(s.policy)
		}
	}
}

func (h policyHistory) maxSkew(fromNS, toNS int64) (skew int64) {
	h.during(fromNS, toNS, func(p Policy) { skew = max(skew, p.MaxSkewMs) })
	return skew
}

func (h policyHistory) maxSkewEver() (skew int64) {
	for _, s := range h {
		skew = max(skew, s.policy.MaxSkewMs)
	}
	return skew
}

func (h policyHistory) minSkew() int64 {
	if len(h) == 0 {
		return 0
	}
	skew := h[0].policy.MaxSkewMs
	for _, s := range h {
		skew = min(skew, s.policy.MaxSkewMs)
	}
	return skew
}

// policyState is the register of the policy; its text stands for its content.
type policyState struct {
	version uint64
	text    string
}

// checkPolicy holds that the policy is one compare-and-set register: a change
// is made on the version it was meant for, and no change is lost. Strong reads
// take part; what a local read shows must have been proposed at that version.
func checkPolicy(c *court) {
	start := c.run.About.Policy
	var ops []*Op
	for _, op := range proposals(c.run.Ops, KindPolicySet) {
		if op.Outcome != Refused || op.Code == client.CodeConflict {
			ops = append(ops, op)
		}
	}
	for i := range c.run.Ops {
		if op := &c.run.Ops[i]; op.Kind == KindPolicyRead && op.Outcome == OK && op.Strong {
			ops = append(ops, op)
		}
	}
	c.Examined = len(ops)
	if start == nil {
		if len(ops) > 0 {
			c.doubt(nil, "the policy at the start was not recorded")
		}
		return
	}
	if len(ops) > 0 {
		judgePolicy(c, policyState{start.Version, start.Policy.text()}, ops)
	}
	checkLocalPolicies(c, start)
}

func judgePolicy(c *court, initial policyState, ops []*Op) {
	reg := register[policyState]{initial: initial, step: stepPolicy}
	switch reg.accepts(c, ops) {
	case porcupine.Illegal:
		reads := func(op *Op) bool { return op.Kind == KindPolicyRead || op.Outcome == Refused }
		c.fail(reg.smallest(c, ops, reads), "no order of these policy changes and strong reads explains their answers")
	case porcupine.Unknown:
		c.doubt(nil, "the policy's %d operations could not be ordered in time", len(ops))
	}
}

func stepPolicy(s policyState, op *Op) (bool, policyState) {
	if op.Kind == KindPolicyRead {
		return s == policyState{op.PolicyRead.Version, op.PolicyRead.Policy.text()}, s
	}
	set := op.PolicySet
	next := policyState{set.IfVersion + 1, set.Policy.text()}
	fits := s.version == set.IfVersion
	switch op.Outcome {
	case Refused: // conflict
		return !fits, s
	case Unknown:
		if fits {
			return true, next
		}
		return true, s
	}
	return fits && set.Version == next.version, next
}

// checkLocalPolicies holds that a version has one content wherever it is read.
func checkLocalPolicies(c *court, start *PolicyRead) {
	proposed := map[uint64]map[string]bool{start.Version: {start.Policy.text(): true}}
	for _, op := range proposals(c.run.Ops, KindPolicySet) {
		if op.Outcome == Refused {
			continue
		}
		v := op.PolicySet.IfVersion + 1
		if proposed[v] == nil {
			proposed[v] = map[string]bool{}
		}
		proposed[v][op.PolicySet.Policy.text()] = true
	}
	seen := map[uint64]*Op{}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindPolicyRead || op.Outcome != OK {
			continue
		}
		c.Examined++
		v, text := op.PolicyRead.Version, op.PolicyRead.Policy.text()
		if !proposed[v][text] && (op.Strong || v >= start.Version) { // an older one is from before the run
			c.fail([]*Op{op}, "version %d reads as something that nobody proposed for it", v)
		}
		if first := seen[v]; first == nil {
			seen[v] = op
		} else if first.PolicyRead.Policy.text() != text {
			c.failAs("P4", []*Op{first, op}, "version %d has two contents", v)
		}
	}
}

// String names the policy for evidence.
func (s policyState) String() string { return fmt.Sprintf("version %d %s", s.version, s.text) }
