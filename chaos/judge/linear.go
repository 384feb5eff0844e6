package judge

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// never is the end of an operation with unknown outcome: it may take effect at
// any later time, and not at all when it is put behind everything that looked.
const never = math.MaxInt64

// register is a sequential specification. Step tells whether the operation may
// happen in a state with the answer it got, and the state after it. For an
// operation with unknown outcome it takes whatever effect it could have.
type register[S comparable] struct {
	initial S
	step    func(S, *Op) (bool, S)
}

// accepts decides whether the operations could have happened one by one, each
// between its question and its answer.
func (r register[S]) accepts(c *court, ops []*Op) porcupine.CheckResult {
	return r.acceptsWithin(ops, c.lim.Linear)
}

func (r register[S]) acceptsWithin(ops []*Op, limit time.Duration) porcupine.CheckResult {
	if len(ops) == 1 { // most registers are asked once
		if ok, _ := r.step(r.initial, ops[0]); !ok {
			return porcupine.Illegal
		}
		return porcupine.Ok
	}
	history := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		history[i] = porcupine.Operation{ClientId: op.Client, Input: op, Call: op.StartNS, Return: op.EndNS}
		if op.Outcome == Unknown {
			history[i].Return = never
		}
	}
	return porcupine.CheckOperationsTimeout(r.model(), history, limit)
}

func (r register[S]) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return r.initial },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := r.step(state.(S), input.(*Op))
			return ok, next
		},
	}
}

// smallest shrinks a history that is not linearizable while it stays so, for
// evidence that a person can read. Only answered reads may go: without a write
// the rest would be accused wrongly. All shrinking of a run has one budget.
func (r register[S]) smallest(c *court, ops []*Op, mayGo func(*Op) bool) []*Op {
	const most = 400 // shrinking tries each operation once
	if len(ops) > most {
		return ops
	}
	start := time.Now()
	defer func() { *c.shrink -= time.Since(start) }()
	for i := len(ops) - 1; i >= 0 && len(ops) > 1; i-- {
		if !mayGo(ops[i]) {
			continue
		}
		left := *c.shrink - time.Since(start)
		if left <= 0 {
			break
		}
		rest := append(append([]*Op{}, ops[:i]...), ops[i+1:]...)
		if r.acceptsWithin(rest, min(left, c.lim.Linear)) == porcupine.Illegal {
			ops = rest
		}
	}
	return ops
}
