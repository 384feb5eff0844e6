package judge

import (
	"maps"
	"slices"
)

// checkBanLists holds each list of bans against the chain at the length that
// the list itself names: a replica that forgot or invented a ban is found even
// when nobody asks for that agent.
func checkBanLists(c *court) {
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindBansRead || op.Outcome != OK || !op.BansRead.Complete {
			continue
		}
		if c.chain == nil {
			c.doubt(nil, "no final chain to hold the lists of bans against")
			return
		}
		c.Examined++
		if op.BansRead.Size > uint64(len(c.chain.events)) {
			continue // checkHeads reports it
		}
		checkBanList(c, op)
	}
}

func checkBanList(c *court, op *Op) {
	listed := map[string]bool{}
	for _, a := range op.BansRead.Agents {
		listed[a] = true
	}
	newest := map[string]*chainEvent{}
	for i := range op.BansRead.Size {
		newest[c.chain.events[i].AgentID] = &c.chain.events[i]
	}
	early, late := c.clock.window(op)
	for _, agent := range slices.Sorted(maps.Keys(newest)) {
		yes, no := newest[agent].state().inForce(early, late)
		if listed[agent] && !yes {
			c.fail([]*Op{op}, "at size %d %s is listed as banned, but its newest event says it is not", op.BansRead.Size, agent)
		}
		if !listed[agent] && !no {
			c.fail([]*Op{op}, "at size %d %s is not listed, but its newest event bans it", op.BansRead.Size, agent)
		}
		delete(listed, agent)
	}
	for _, agent := range slices.Sorted(maps.Keys(listed)) {
		c.fail([]*Op{op}, "at size %d %s is listed as banned, but the chain has no event on it", op.BansRead.Size, agent)
	}
}

// state is what the event makes of its agent's register.
func (e *chainEvent) state() banState {
	s := banState{banned: !e.lifts()}
	if s.banned && e.ExpiresAtMs != nil {
		s.expiresMs = *e.ExpiresAtMs
	}
	return s
}
