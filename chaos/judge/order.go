package judge

import (
	"slices"
)

// checkOrder holds that the log runs with real time: what was asked after an
// answer was given stands behind it in the log, strong reads reflect it, and
// the cluster clock never runs back along the log.
func checkOrder(c *court) {
	var writes, reads []*Op
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if at, isWrite := writtenAt(op); isWrite && at > 0 {
			writes = append(writes, op)
		} else if op.Strong && op.Outcome == OK && op.Index > 0 {
			reads = append(reads, op)
		}
	}
	c.Examined = len(writes) + len(reads)
	checkRealTime(c, writes, reads)
	checkClock(c, writes)
}

// writtenAt returns the log index of the entry that an acknowledged operation made.
func writtenAt(op *Op) (uint64, bool) {
	switch {
	case op.Outcome != OK:
	case op.Kind == KindClaim:
		return op.Claim.Index, op.Claim.admitted() && !op.Claim.Repeated
	case op.Kind == KindBan:
		return op.Index, !op.Ban.Repeated
	case op.Kind == KindLift:
		return op.Index, !op.Lift.Repeated
	}
	return 0, false
}

// checkRealTime walks questions in time and remembers the newest write that was
// answered before each.
func checkRealTime(c *court, writes, reads []*Op) {
	answered := slices.Clone(writes)
	slices.SortFunc(answered, func(a, b *Op) int { return int(a.EndNS - b.EndNS) })
	asked := append(slices.Clone(writes), reads...)
	slices.SortFunc(asked, func(a, b *Op) int { return int(a.StartNS - b.StartNS) })
	var newest *Op
	var top uint64
	next := 0
	for _, op := range asked {
		for ; next < len(answered) && answered[next].EndNS < op.StartNS; next++ {
			if at, _ := writtenAt(answered[next]); at > top {
				newest, top = answered[next], at
			}
		}
		at, isWrite := writtenAt(op)
		switch {
		case newest == nil:
		case isWrite && at <= top:
			c.fail([]*Op{newest, op}, "index %d was given after index %d had been acknowledged", at, top)
		case !isWrite && op.Index < top:
			c.fail([]*Op{newest, op}, "a strong read reflects index %d although %d had been acknowledged", op.Index, top)
		}
	}
}

// checkClock holds that the clock of the deciding entries never runs back.
func checkClock(c *court, writes []*Op) {
	var claims []*Op
	for _, op := range writes {
		if op.Kind == KindClaim {
			claims = append(claims, op)
		}
	}
	slices.SortFunc(claims, func(a, b *Op) int {
		if a.Claim.Index != b.Claim.Index {
			return int(int64(a.Claim.Index) - int64(b.Claim.Index))
		}
		return int(a.Claim.ClockMs - b.Claim.ClockMs)
	})
	for i := 1; i < len(claims); i++ {
		a, b := claims[i-1], claims[i]
		if a.Claim.Index == b.Claim.Index && a.Claim.ClockMs != b.Claim.ClockMs {
			c.failAs("P4", []*Op{a, b}, "entry %d has two clocks", a.Claim.Index)
		} else if a.Claim.ClockMs > b.Claim.ClockMs {
			c.failAs("P1", []*Op{a, b}, "the cluster clock ran back by %d ms", a.Claim.ClockMs-b.Claim.ClockMs)
		}
	}
}
