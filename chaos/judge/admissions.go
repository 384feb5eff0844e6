package judge

import (
	"fmt"
	"slices"
	"sort"

	"github.com/edgecoder/edgecoder/client"
)

// admission is one claim's entry in the log.
type admission struct {
	answer *Op // the first that told of it
	asked  *Op // the earliest attempt that may have made it
}

func (a admission) index() uint64 { return a.answer.Claim.Index }

func (a admission) clockMs() int64 { return a.answer.Claim.ClockMs }

func (a admission) ops() []*Op {
	if a.asked == a.answer {
		return []*Op{a.answer}
	}
	return []*Op{a.asked, a.answer}
}

// admissions returns each entry of a claim that any answer told of, once. A
// first answer was made by its own attempt. A repeated one tells of an entry
// that any attempt of the same claim may have made, but for those that were
// refused: they were certainly not done.
func (r *Run) admissions() []admission {
	attempts := map[string][]*Op{}
	for i := range r.Ops {
		if op := &r.Ops[i]; op.mayAdmit() {
			attempts[op.Claim.sameNonce()] = append(attempts[op.Claim.sameNonce()], op)
		}
	}
	var out []admission
	have := map[string]int{}
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Kind != KindClaim || op.Outcome != OK || !op.Claim.admitted() || op.Claim.Forged {
			continue
		}
		a := admission{answer: op, asked: op}
		if op.Claim.Repeated {
			a.asked = earliest(attempts[op.Claim.sameNonce()])
		}
		entry := fmt.Sprint(op.Claim.nonceID(), op.Claim.Index)
		at, known := have[entry]
		if !known {
			have[entry] = len(out)
			out = append(out, a)
			continue
		}
		out[at] = out[at].with(a)
	}
	return out
}

// with joins two answers that tell of one entry.
func (a admission) with(b admission) admission {
	if a.answer.Claim.Repeated && !b.answer.Claim.Repeated {
		a.asked = b.asked
	}
	if b.answer.EndNS < a.answer.EndNS {
		a.answer = b.answer
	}
	return a
}

// mayAdmit tells whether the attempt may have used its nonce.
func (op *Op) mayAdmit() bool {
	if op.Kind != KindClaim || op.Claim.Forged {
		return false
	}
	switch op.Outcome {
	case Unknown:
		return true
	case OK:
		return op.Claim.admitted() || lateCode(op.Claim.Code)
	}
	return false
}

func (c *Claim) sameNonce() string { return c.nonceID() + "\x00" + c.same() }

func earliest(ops []*Op) *Op {
	return slices.MinFunc(ops, func(a, b *Op) int { return int(a.StartNS - b.StartNS) })
}

// logClock is what is known of the cluster clock along the log: admissions in
// the order of their indices.
type logClock []admission

func newLogClock(entries []admission) logClock {
	l := logClock(entries)
	slices.SortFunc(l, func(a, b admission) int {
		if a.index() != b.index() {
			return int(int64(a.index()) - int64(b.index()))
		}
		return int(a.clockMs() - b.clockMs())
	})
	return l
}

// before returns the newest admission at or before an index, or nil.
func (l logClock) before(index uint64) *admission {
	i := sort.Search(len(l), func(i int) bool { return l[i].index() > index })
	if i == 0 {
		return nil
	}
	return &l[i-1]
}

// window bounds the cluster clock by which a read was answered: by the log if
// the answer names its index, and by the client's own clock. A local read may
// come from a replica that was cut off, where the clock stands still.
func (l logClock) window(op *Op) (early, late int64) {
	early, late = op.WallMs-clockSlackMs, op.wallEndMs()+clockSlackMs
	if !op.Strong {
		early = 0
	}
	if op.Index == 0 {
		return early, late
	}
	low, high := early, late
	if a := l.before(op.Index); a != nil {
		low = max(low, a.clockMs())
	}
	if i := sort.Search(len(l), func(i int) bool { return l[i].index() >= op.Index }); i < len(l) {
		high = min(high, l[i].clockMs())
	}
	if low > high { // checkClock says what is wrong
		return early, late
	}
	return low, high
}

// entry bounds the clock of the entry that an acknowledged change made.
func (l logClock) entry(op *Op) (early, late int64) {
	asRead := *op
	asRead.Strong = true
	return l.window(&asRead)
}

// lateCode tells whether a claim denied with a code may have used its nonce all
// the same: the leader that admitted it died before it could say so, the node
// asked the next one within the same attempt, and there the agent may not act
// any more.
func lateCode(code string) bool {
	return code == client.VerdictBlacklisted || code == client.VerdictTimestampSkew
}
