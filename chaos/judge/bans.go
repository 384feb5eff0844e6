package judge

import (
	"fmt"
	"maps"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/edgecoder/edgecoder/client"
)

// banState is the register of one agent: the newest event on it and whether
// that bans.
type banState struct {
	banned    bool
	expiresMs int64  // 0: permanent
	seq       uint64 // of the newest event that is known to have happened, 0: none
}

// banOp is an operation on an agent's register, as far as it matters there.
type banOp struct {
	agent string
	write bool
	lift  bool
	// Of a write: where its event stands in the chain; 0: not known.
	seq       uint64
	expiresMs int64
	// Of an observation: the ban is in force, or is not.
	inForce bool
	clockMs int64 // cluster clock of the answer; 0: not told
	exact   bool  // the clock is the entry's own, not an estimate
}

// checkBans holds P2: bans and lifts of one agent are a register. Strong reads,
// admissions, and denials that depend on the ban are its observations, so an
// admission after an acknowledged ban fits no order. Local reads may be stale,
// but never show what nobody asked for.
func checkBans(c *court) {
	chain := c.run.chain()
	byAgent := map[string][]*Op{}
	what := map[*Op]banOp{}
	add := func(op *Op, b banOp) {
		c.Examined++
		byAgent[b.agent] = append(byAgent[b.agent], op)
		what[op] = b
	}
	for _, kind := range []Kind{KindBan, KindLift} {
		for _, op := range proposals(c.run.Ops, kind) {
			if b, takesPart := banWrite(op, chain); takesPart {
				add(op, b)
			}
		}
	}
	for i := range c.run.Ops {
		if b, takesPart := observation(&c.run.Ops[i]); takesPart {
			add(&c.run.Ops[i], b)
		}
	}
	for _, agent := range slices.Sorted(maps.Keys(byAgent)) {
		judgeBans(c, agent, byAgent[agent], what)
	}
	checkLocalBans(c)
}

func judgeBans(c *court, agent string, ops []*Op, what map[*Op]banOp) {
	reg := register[banState]{step: func(s banState, op *Op) (bool, banState) { return stepBan(s, op, what[op]) }}
	switch reg.accepts(c, ops) {
	case porcupine.Illegal:
		few := reg.smallest(c, ops, func(op *Op) bool { return !what[op].write })
		c.fail(few, "%s", blameBans(agent, few, what))
	case porcupine.Unknown:
		c.doubt(nil, "the %d operations on %s could not be ordered in time", len(ops), agent)
	}
}

// banWrite tells how a ban or lift takes part. The final chain settles what
// became of an unknown one; without it the search has to try both.
func banWrite(op *Op, chain *chainIndex) (banOp, bool) {
	var b banOp
	var reason string
	if op.Kind == KindBan {
		b = banOp{agent: op.Ban.Agent, write: true, seq: op.Ban.Size, expiresMs: op.Ban.ExpiresMs}
		reason = op.Ban.Reason
	} else {
		b = banOp{agent: op.Lift.Agent, write: true, lift: true, seq: op.Lift.Size}
		reason = op.Lift.Reason
	}
	switch {
	case op.Outcome == Refused && op.Kind == KindLift && op.Code == client.CodeNotFound:
		return banOp{agent: b.agent}, true // it saw that no ban is in force
	case op.Outcome == Refused:
		return b, false
	case chain == nil || b.seq != 0:
		return b, true
	}
	b.seq = chain.seqOf(b.agent, reason)
	return b, b.seq != 0 || op.Outcome == OK
}

// observation tells what an answer says about the agent's ban.
func observation(op *Op) (banOp, bool) {
	if op.Outcome != OK {
		return banOp{}, false
	}
	switch op.Kind {
	case KindBanRead:
		return banOp{agent: op.BanRead.Agent, inForce: op.BanRead.InForce}, op.Strong
	case KindClaim:
		b := banOp{agent: op.Claim.Agent, clockMs: op.Claim.ClockMs}
		switch op.Claim.Code {
		case client.VerdictOK:
			b.exact = true
			if op.Claim.Repeated {
				b.clockMs = 0 // the clock is that of the first answer
			}
			return b, true
		case client.VerdictRateLimited: // asked after the ban
			return b, true
		case client.VerdictBlacklisted:
			b.inForce = true
			return b, true
		}
	}
	return banOp{}, false
}

func stepBan(s banState, op *Op, b banOp) (bool, banState) {
	if !b.write {
		yes, no := s.inForce(op, b)
		if b.inForce {
			return yes, s
		}
		return no, s
	}
	if b.seq != 0 && b.seq <= s.seq {
		return false, s // events on one agent take effect in the order of the chain
	}
	next := banState{banned: !b.lift, expiresMs: b.expiresMs, seq: max(b.seq, s.seq)}
	if b.lift {
		next.expiresMs = 0
		lifts, _ := s.inForce(op, b)
		switch {
		case op.Outcome == Unknown && b.seq == 0 && !lifts:
			return true, s // nothing to lift: not done
		case !lifts:
			return false, s
		}
	}
	return true, next
}

// inForce tells whether a ban may be, and may not be, in force for whoever
// asked with op.
func (s banState) inForce(op *Op, b banOp) (yes, no bool) {
	switch {
	case !s.banned:
		return false, true
	case s.expiresMs == 0:
		return true, false
	}
	early, late := b.clockMs, b.clockMs
	if b.clockMs == 0 { // then only our own clock tells
		early, late = op.WallMs, op.WallMs+(op.EndNS-op.StartNS)/1e6
	}
	if !b.exact || b.clockMs == 0 {
		early, late = early-clockSlackMs, late+clockSlackMs
	}
	return early <= s.expiresMs, late > s.expiresMs
}

// blameBans says in words what no order explains.
func blameBans(agent string, ops []*Op, what map[*Op]banOp) string {
	var free, banned int
	for _, op := range ops {
		switch b := what[op]; {
		case b.write:
		case b.inForce:
			banned++
		case op.Kind == KindClaim && op.Claim.admitted():
			free++
		}
	}
	switch {
	case free > 0 && banned == 0:
		return fmt.Sprintf("%s was admitted although an acknowledged ban was in force", agent)
	case banned > 0 && free == 0:
		return fmt.Sprintf("%s was called banned although no ban may have been in force", agent)
	}
	return fmt.Sprintf("no order of the bans, lifts and answers on %s explains them", agent)
}

// checkLocalBans holds that a stale read shows a past that was.
func checkLocalBans(c *court) {
	earliest := map[string]int64{}
	for _, op := range proposals(c.run.Ops, KindBan) {
		at, ok := earliest[op.Ban.Agent]
		if op.Outcome != Refused && (!ok || op.StartNS < at) {
			earliest[op.Ban.Agent] = op.StartNS
		}
	}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindBanRead || op.Outcome != OK || op.Strong || !op.BanRead.InForce {
			continue
		}
		c.Examined++
		if at, ok := earliest[op.BanRead.Agent]; !ok || at > op.EndNS {
			c.fail([]*Op{op}, "%s reads as banned before anybody asked for it", op.BanRead.Agent)
		}
	}
}

// checkBanLists holds each list of bans against the chain at the length that
// the list itself names: a replica that forgot or invented a ban is found even
// when nobody asks for that agent.
func checkBanLists(c *court) {
	chain := c.run.chain()
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindBansRead || op.Outcome != OK || !op.BansRead.Complete {
			continue
		}
		if chain == nil {
			c.doubt(nil, "no final chain to hold the lists of bans against")
			return
		}
		c.Examined++
		if op.BansRead.Size > uint64(len(chain.events)) {
			continue // checkHeads reports it
		}
		checkBanList(c, op, chain)
	}
}

func checkBanList(c *court, op *Op, chain *chainIndex) {
	listed := map[string]bool{}
	for _, a := range op.BansRead.Agents {
		listed[a] = true
	}
	newest := map[string]*chainEvent{}
	for i := range op.BansRead.Size {
		newest[chain.events[i].AgentID] = &chain.events[i]
	}
	for _, agent := range slices.Sorted(maps.Keys(newest)) {
		e := newest[agent]
		s := banState{banned: !e.lifts()}
		if s.banned && e.ExpiresAtMs != nil {
			s.expiresMs = *e.ExpiresAtMs
		}
		yes, no := s.inForce(op, banOp{})
		yes = yes || (s.banned && !op.Strong) // a replica that was cut off tells by a clock that stood still
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
