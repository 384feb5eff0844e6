package judge

// proposals merges the attempts under one idempotency key into one operation
// each: asked when the first attempt that may have done it began, answered when
// first answered with ok. A sure refusal of a later attempt says nothing about
// an earlier unknown one, and a sure refusal of an earlier one did nothing.
func proposals(ops []Op, kind Kind) []*Op {
	var out []*Op
	byKey := map[string]*Op{}
	for i := range ops {
		if ops[i].Kind != kind {
			continue
		}
		op := ops[i]
		have := byKey[op.Key]
		if op.Key == "" || have == nil {
			out = append(out, &op)
			byKey[op.Key] = &op
			continue
		}
		merge(have, &op)
	}
	return out
}

func merge(have, op *Op) {
	if op.Outcome == Refused {
		return
	}
	if have.Outcome == Refused {
		*have = *op
		return
	}
	first := *have
	if op.StartNS < first.StartNS {
		first = *op
	}
	if op.Outcome == OK && (have.Outcome != OK || op.EndNS < have.EndNS) {
		*have = *op
	}
	have.StartNS, have.WallMs = first.StartNS, first.WallMs
}

// proposal is what bans and lifts have in common.
type proposal struct {
	agent, reason string
	Change
}

func proposalOf(op *Op) proposal {
	if op.Kind == KindLift {
		return proposal{op.Lift.Agent, op.Lift.Reason, op.Lift.Change}
	}
	return proposal{op.Ban.Agent, op.Ban.Reason, op.Ban.Change}
}

// placeOf returns where the event of a ban or lift stands in the chain; 0: not
// known, or nowhere. A repeated or
// missing answer does not tell it, the final chain does.
func (ci *chainIndex) placeOf(op *Op) uint64 {
	p := proposalOf(op)
	if p.Size != 0 || ci == nil {
		return p.Size
	}
	return ci.seqOf(p.agent, p.reason)
}
