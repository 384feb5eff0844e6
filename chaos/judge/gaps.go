package judge

import (
	"slices"
	"time"
)

// Gap is a stretch of time in which no write or admission succeeded.
type Gap struct {
	FromNS int64  `json:"from_ns"`
	ToNS   int64  `json:"to_ns"`
	Fault  string `json:"fault,omitempty"` // the fault it began with or after
}

// Length is how long the gap lasted.
func (g Gap) Length() time.Duration { return time.Duration(g.ToNS - g.FromNS) }

// Spread is a distribution of times.
type Spread struct {
	N   int   `json:"n"`
	P50 int64 `json:"p50_ns"`
	P99 int64 `json:"p99_ns"`
	Max int64 `json:"max_ns"`
}

// Gaps says how long clients went without success.
type Gaps struct {
	Longest  Gap    `json:"longest"`
	PerFault []Gap  `json:"per_fault,omitempty"` // the longest from each fault to the next
	Faults   Spread `json:"faults"`              // over PerFault
	Latency  Spread `json:"latency"`             // of successful writes and admissions
}

// Succeeded tells whether the operation changed something for its client: a
// write that was acknowledged, or a claim admitted.
func (op *Op) Succeeded() bool {
	switch {
	case op.Outcome != OK:
		return false
	case op.Kind == KindClaim:
		return op.Claim.admitted()
	case op.Kind == KindMove:
		return op.moved()
	}
	return op.Kind == KindBan || op.Kind == KindLift || op.Kind == KindPolicySet
}

// measureGaps measures from the first question to the end of the traffic.
func measureGaps(run *Run) Gaps {
	var ends, took []int64
	begin, end := int64(never), run.About.TrafficNS
	for i := range run.Ops {
		op := &run.Ops[i]
		begin = min(begin, op.StartNS)
		if end == 0 || run.About.TrafficNS == 0 {
			end = max(end, op.EndNS)
		}
		if op.Succeeded() {
			ends = append(ends, op.EndNS)
			took = append(took, op.EndNS-op.StartNS)
		}
	}
	if begin >= end {
		return Gaps{}
	}
	slices.Sort(ends)
	g := Gaps{Latency: SpreadOf(took), Longest: longestGap(ends, begin, end)}
	g.PerFault = faultGaps(run, ends, end)
	lengths := make([]int64, len(g.PerFault))
	for i, gap := range g.PerFault {
		lengths[i] = int64(gap.Length())
	}
	g.Faults = SpreadOf(lengths)
	return g
}

// longestGap returns the longest stretch within [from, to] without a success.
func longestGap(ends []int64, from, to int64) Gap {
	best := Gap{FromNS: from, ToNS: from}
	last := from
	i, _ := slices.BinarySearch(ends, from)
	if i > 0 {
		last = ends[i-1] // the silence may have begun before
	}
	for ; i < len(ends) && ends[i] <= to; i++ {
		if ends[i]-last > best.ToNS-best.FromNS {
			best = Gap{FromNS: last, ToNS: ends[i]}
		}
		last = ends[i]
	}
	if to-last > best.ToNS-best.FromNS {
		best = Gap{FromNS: last, ToNS: to}
	}
	return best
}

func faultGaps(run *Run, ends []int64, end int64) []Gap {
	var faults []Event
	for _, e := range run.Timeline {
		if e.Fault && e.Error == "" && e.AtNS < end {
			faults = append(faults, e)
		}
	}
	slices.SortFunc(faults, func(a, b Event) int { return int(a.AtNS - b.AtNS) })
	var gaps []Gap
	for i, f := range faults {
		until := end
		if i+1 < len(faults) {
			until = faults[i+1].AtNS
		}
		g := longestGap(ends, f.AtNS, until)
		g.Fault = f.What
		gaps = append(gaps, g)
	}
	return gaps
}

// SpreadOf measures a distribution; it sorts what it is given.
func SpreadOf(ns []int64) Spread {
	if len(ns) == 0 {
		return Spread{}
	}
	slices.Sort(ns)
	at := func(p int) int64 { return ns[(len(ns)*p+99)/100-1] } // nearest rank
	return Spread{N: len(ns), P50: at(50), P99: at(99), Max: ns[len(ns)-1]}
}
