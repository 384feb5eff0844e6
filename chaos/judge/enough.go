package judge

import (
	"slices"
	"strings"
	"time"
)

// checkEnough refuses to call a run good in which little could go wrong.
func checkEnough(c *court) {
	if len(c.run.Ops) == 0 {
		c.doubt(nil, "the history is empty")
	}
	checkAmounts(c)
	checkFaults(c)
	if !c.run.About.Healed {
		c.doubt(nil, "the cluster did not come to agree again after the last fault: %s", c.run.About.HealDetail)
	}
	for _, node := range c.run.About.replicas() {
		if c.run.final(node) == nil {
			c.doubt(nil, "no final audit of %s: %s", node, c.run.whyNoFinal(node))
		}
	}
}

// checkAmounts wants of each kind that was expected one success in five
// seconds of traffic, of admissions one a second, and never less than two. That
// is a small part of what a cluster does that is down half of the time.
func checkAmounts(c *court) {
	counts := count(c.run.Ops)
	admitted := 0
	for i := range c.run.Ops {
		if op := &c.run.Ops[i]; op.Kind == KindClaim && op.Outcome == OK && op.Claim.admitted() {
			admitted++
		}
	}
	seconds := int(time.Duration(c.run.About.TrafficNS).Seconds())
	want := func(what string, have, least int) {
		c.Examined += have
		if least = max(least, 2); have < least {
			c.doubt(nil, "only %d of %s succeeded in %d s of traffic, want at least %d", have, what, seconds, least)
		}
	}
	for _, kind := range c.run.About.Expect {
		want(string(kind), counts[kind].OK, seconds/5)
		switch kind {
		case KindClaim:
			want("admissions", admitted, seconds)
		case KindMove:
			want("acknowledged movements of money", movements(c.run.Ops), seconds/5)
		case KindBan:
			if !slices.Contains(c.run.About.Expect, KindLift) { // one goes with the other
				want(string(KindLift), counts[KindLift].OK, seconds/5)
			}
		}
	}
}

func movements(ops []Op) (n int) {
	for i := range ops {
		if ops[i].Kind == KindMove && ops[i].moved() {
			n++
		}
	}
	return n
}

// skipped begins the error of a fault that the machine cannot do.
const skipped = "skipped"

// checkFaults holds that what was planned to break did break.
func checkFaults(c *court) {
	planned, bit := c.run.About.Planned, 0
	for _, e := range c.run.Timeline {
		if !e.Fault {
			continue
		}
		planned = max(planned, 1)
		switch {
		case e.Error == "" && !e.Busy:
			bit++
		case e.Busy: // the schedule's own doing: two faults wanted one node
		case strings.HasPrefix(e.Error, skipped) && c.run.About.AllowSkips:
		default:
			c.doubt(nil, "a planned fault did not bite: %s at %s: %s", e.What, time.Duration(e.AtNS).Round(100*time.Millisecond), e.Error)
		}
	}
	c.Examined += bit
	if planned > 0 && bit == 0 {
		c.doubt(nil, "no planned fault bit: this was a calm run")
	}
}
