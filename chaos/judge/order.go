package judge

import (
	"slices"
)

// mark is what one operation says about a number that only grows along the
// log: its index, or the length of the chain.
type mark struct {
	op             *Op
	startNS, endNS int64
	at             uint64
	made           bool // the operation made it: it is newer than all that was shown before the question
	strong         bool // it must be no older than all that was shown before the question
	shown          bool // a client was told of it, when it ended
	denied         []*Op
}

// checkOrder holds that the log runs with real time: what was asked after any
// answer was given stands behind all that the answer showed, and strong reads
// reflect it. The chain's length follows the same rule as the log's index.
func checkOrder(c *court) {
	indices, lengths := c.run.indexMarks(c.clock), c.run.lengthMarks(c.chain)
	for _, m := range append(slices.Clone(indices), lengths...) {
		if m.made || m.strong {
			c.Examined++
		}
	}
	checkRealTime(c, indices, "index")
	checkRealTime(c, lengths, "chain length")
	checkClock(c)
}

// indexMarks are the log's indices.
func (r *Run) indexMarks(entries []admission) []mark {
	var all []mark
	for i := range r.Ops {
		op := &r.Ops[i]
		m := mark{op: op, startNS: op.StartNS, endNS: op.EndNS, at: op.Index, shown: true}
		switch {
		case op.Outcome != OK:
		case op.Kind == KindStatus:
			m.at = op.Status.AppliedIndex
		case op.Kind == KindClaim:
			m.at = op.Claim.Index
		case op.Kind == KindMove:
			m.at, m.made = op.newestMove()
		case op.Kind == KindBan, op.Kind == KindLift:
			m.made = !proposalOf(op).Repeated
		case op.Kind == KindPolicySet:
			m.made = !op.PolicySet.Repeated
		default:
			m.strong = op.Strong
		}
		if m.at > 0 {
			all = append(all, m)
		}
	}
	refused := r.refusedClaims()
	for _, a := range entries {
		m := mark{op: a.answer, startNS: a.asked.StartNS, endNS: a.answer.EndNS, at: a.index(), made: true}
		if a.answer.Claim.Repeated {
			m.denied = refused[a.answer.Claim.sameNonce()]
		}
		if m.at > 0 {
			all = append(all, m)
		}
	}
	return all
}

// refusedClaims are the attempts that certainly did nothing, by claim.
func (r *Run) refusedClaims() map[string][]*Op {
	all := map[string][]*Op{}
	for i := range r.Ops {
		if op := &r.Ops[i]; op.Kind == KindClaim && op.Outcome == Refused {
			all[op.Claim.sameNonce()] = append(all[op.Claim.sameNonce()], op)
		}
	}
	return all
}

// lengthMarks are the lengths of the chain. Where a ban or lift stands counts
// for it even if nobody was told: it was asked for at some time.
func (r *Run) lengthMarks(chain *chainIndex) []mark {
	var all []mark
	for _, kind := range []Kind{KindBan, KindLift} {
		for _, op := range proposals(r.Ops, kind) {
			if n := chain.placeOf(op); n != 0 && op.Outcome != Refused {
				all = append(all, mark{op: op, startNS: op.StartNS, endNS: op.EndNS, at: n, made: true, shown: op.Outcome == OK})
			}
		}
	}
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Outcome != OK {
			continue
		}
		m := mark{op: op, startNS: op.StartNS, endNS: op.EndNS, strong: op.Strong, shown: true}
		switch op.Kind {
		case KindBansRead:
			m.at = op.BansRead.Size
		case KindChainRead:
			m.at = op.ChainRead.Size
		case KindCheckpoint:
			m.at = op.Checkpoint.Size
		default:
			continue
		}
		all = append(all, m)
	}
	return all
}

// checkRealTime walks questions in time and remembers the highest mark that was
// shown before each.
func checkRealTime(c *court, marks []mark, what string) {
	shown := slices.DeleteFunc(slices.Clone(marks), func(m mark) bool { return !m.shown })
	slices.SortFunc(shown, func(a, b mark) int { return int(a.endNS - b.endNS) })
	slices.SortFunc(marks, func(a, b mark) int { return int(a.startNS - b.startNS) })
	var newest *mark
	next := 0
	for _, m := range marks {
		for ; next < len(shown) && shown[next].endNS < m.startNS; next++ {
			if newest == nil || shown[next].at > newest.at {
				newest = &shown[next]
			}
		}
		switch {
		case newest == nil:
		case m.made && m.at <= newest.at && len(m.denied) > 0:
			c.failAs("P9", append([]*Op{newest.op, m.op}, m.denied...),
				"a claim that had been refused as certainly not done is answered as done at %s %d, although %d had been shown before it was asked again", what, m.at, newest.at)
		case m.made && m.at <= newest.at:
			c.fail([]*Op{newest.op, m.op}, "%s %d was given after %s %d had been shown", what, m.at, what, newest.at)
		case m.strong && m.at < newest.at:
			c.fail([]*Op{newest.op, m.op}, "a strong read reflects %s %d although %d had been shown", what, m.at, newest.at)
		}
	}
}
