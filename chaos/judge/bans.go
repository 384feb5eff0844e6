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
	// Of an observation: the ban is in force, or is not, by a cluster clock
	// between two times.
	inForce         bool
	earlyMs, lateMs int64
	sawSeq          uint64 // the event that it named; 0: none
}

// checkBans holds P2: bans and lifts of one agent are a register. Strong reads,
// admissions, and denials that depend on the ban are its observations, so an
// admission after an acknowledged ban fits no order.
func checkBans(c *court) {
	byAgent := map[string][]*Op{}
	what := map[*Op]banOp{}
	add := func(op *Op, b banOp) {
		c.Examined++
		byAgent[b.agent] = append(byAgent[b.agent], op)
		what[op] = b
	}
	for _, kind := range []Kind{KindBan, KindLift} {
		for _, op := range proposals(c.run.Ops, kind) {
			if b, takesPart := banWrite(op, c.chain, c.clock); takesPart {
				add(op, b)
			}
		}
	}
	for i := range c.run.Ops {
		if b, takesPart := observation(&c.run.Ops[i], c.clock); takesPart {
			if c.chain == nil {
				b.sawSeq = 0 // then the places of unknown events are not known
			}
			add(&c.run.Ops[i], b)
		}
	}
	for _, agent := range slices.Sorted(maps.Keys(byAgent)) {
		judgeBans(c, agent, byAgent[agent], what)
	}
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
func banWrite(op *Op, chain *chainIndex, clock logClock) (banOp, bool) {
	b := banOp{agent: proposalOf(op).agent, write: true, lift: op.Kind == KindLift, seq: chain.placeOf(op)}
	b.earlyMs, b.lateMs = op.WallMs-clockSlackMs, op.wallEndMs()+clockSlackMs
	if !b.lift {
		b.expiresMs = op.Ban.ExpiresMs
	}
	switch {
	case op.Outcome == Refused && b.lift && op.Code == client.CodeNotFound:
		b.write = false // it saw that no ban is in force
		return b, true
	case op.Outcome == Refused:
		return b, false
	case op.Outcome == OK && op.Index > 0 && !proposalOf(op).Repeated:
		b.earlyMs, b.lateMs = clock.entry(op)
	}
	return b, chain == nil || b.seq != 0 || op.Outcome == OK
}

// observation tells what an answer says about the agent's ban.
func observation(op *Op, clock logClock) (b banOp, takesPart bool) {
	if op.Outcome != OK {
		return b, false
	}
	switch op.Kind {
	case KindBanRead:
		b = banOp{agent: op.BanRead.Agent, inForce: op.BanRead.InForce, sawSeq: op.BanRead.Seq}
		b.earlyMs, b.lateMs = clock.window(op)
		return b, op.Strong
	case KindClaim:
		b = banOp{agent: op.Claim.Agent, earlyMs: op.Claim.ClockMs - clockSlackMs, lateMs: op.Claim.ClockMs + clockSlackMs}
		switch op.Claim.Code {
		case client.VerdictOK:
			b.earlyMs, b.lateMs = op.Claim.ClockMs, op.Claim.ClockMs
			if op.Claim.Repeated { // the clock is that of the first answer
				b.earlyMs, b.lateMs = op.WallMs-clockSlackMs, op.wallEndMs()+clockSlackMs
			}
			return b, true
		case client.VerdictRateLimited: // asked after the ban
			return b, true
		case client.VerdictBlacklisted:
			b.inForce = true
			return b, true
		}
	}
	return b, false
}

func stepBan(s banState, op *Op, b banOp) (bool, banState) {
	if !b.write {
		yes, no := s.inForce(b.earlyMs, b.lateMs)
		if b.inForce {
			return yes && (b.sawSeq == 0 || s.seq == 0 || b.sawSeq == s.seq), s
		}
		return no, s
	}
	if b.seq != 0 && b.seq <= s.seq {
		return false, s // events on one agent take effect in the order of the chain
	}
	next := banState{banned: !b.lift, expiresMs: b.expiresMs, seq: max(b.seq, s.seq)}
	if b.lift {
		lifts, _ := s.inForce(b.earlyMs, b.lateMs)
		switch {
		case op.Outcome == Unknown && b.seq == 0 && !lifts:
			return true, s // nothing to lift: not done
		case !lifts:
			return false, s
		}
	}
	return true, next
}

// inForce tells whether a ban may be, and may not be, in force by a clock
// between two times.
func (s banState) inForce(earlyMs, lateMs int64) (yes, no bool) {
	switch {
	case !s.banned:
		return false, true
	case s.expiresMs == 0:
		return true, false
	}
	return earlyMs <= s.expiresMs, lateMs > s.expiresMs
}

// blameBans says in words what no order explains.
func blameBans(agent string, ops []*Op, what map[*Op]banOp) string {
	var free, banned, named int
	for _, op := range ops {
		switch b := what[op]; {
		case b.write:
		case b.inForce && b.sawSeq != 0:
			named++
		case b.inForce:
			banned++
		case op.Kind == KindClaim && op.Claim.admitted():
			free++
		}
	}
	switch {
	case free > 0 && banned+named == 0:
		return fmt.Sprintf("%s was admitted although an acknowledged ban was in force", agent)
	case banned > 0 && free+named == 0:
		return fmt.Sprintf("%s was called banned although no ban may have been in force", agent)
	}
	return fmt.Sprintf("no order of the bans, lifts and answers on %s explains them", agent)
}
