package judge

import (
	"github.com/edgecoder/edgecoder/client"
)

// checkClock holds that the cluster clock never runs back along the log, and
// stays near the clients' clocks. Clients and harness share one clock, and a
// clock fault moves that of a server only: whatever is done to a minority of
// them, the cluster's must stay.
func checkClock(c *court) {
	clock := c.clock
	for i := 1; i < len(clock); i++ {
		a, b := clock[i-1], clock[i]
		ops := []*Op{a.answer, b.answer}
		switch {
		case a.index() == 0:
		case a.index() == b.index() && a.clockMs() != b.clockMs():
			c.failAs("P4", ops, "entry %d has two clocks", a.index())
		case a.clockMs() > b.clockMs():
			c.failAs("P1", ops, "the cluster clock ran back by %d ms", a.clockMs()-b.clockMs())
		}
	}
	for _, a := range clock {
		checkNear(c, "P1", a.ops(), a.clockMs(), a.asked.WallMs, a.answer.wallEndMs())
	}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind == KindClaim && op.Outcome == OK && !op.Claim.admitted() {
			checkDenialClock(c, op, clock)
		}
	}
}

func checkNear(c *court, promise string, ops []*Op, clockMs, fromMs, toMs int64) {
	switch {
	case clockMs > toMs+clockSlackMs:
		c.failAs(promise, ops, "the cluster clock was %d ms ahead of the clients' clock", clockMs-toMs)
	case clockMs < fromMs-clockSlackMs:
		c.failAs(promise, ops, "the cluster clock was %d ms behind the clients' clock", fromMs-clockMs)
	}
}

// checkDenialClock holds the clock that a denial names against the log and, if
// the denial depends on it, against ours. What any replica may say of itself,
// such as a replay, names the clock of that replica's machine.
func checkDenialClock(c *court, op *Op, clock logClock) {
	cl := op.Claim
	if a := clock.before(cl.Index); cl.Index > 0 && a != nil && cl.ClockMs < a.clockMs()-clockSlackMs {
		c.failAs("P1", []*Op{a.answer, op}, "the cluster clock ran back by %d ms: a denial at index %d was decided before the admission at index %d",
			a.clockMs()-cl.ClockMs, cl.Index, a.index())
	}
	switch cl.Code {
	case client.VerdictTimestampSkew, client.VerdictBlacklisted, client.VerdictRateLimited:
		checkNear(c, "P9", []*Op{op}, cl.ClockMs, op.WallMs, op.wallEndMs())
	}
}
