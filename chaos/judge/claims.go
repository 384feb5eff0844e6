package judge

import (
	"maps"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/edgecoder/edgecoder/client"
)

// nonceState is a register for one (key, nonce): free, or used by a claim.
type nonceState struct {
	used        bool
	same        string // the claim that used it
	timestampMs int64
	index       uint64 // of its first answer; 0 while nobody saw it
	clockMs     int64
}

// nonceOps are the attempts to use one nonce.
type nonceOps struct {
	asked   []*Op
	refused []*Op // they did nothing, unless that was a lie
	late    []*Op // admissions that denials may hide: see lateUse
}

// checkClaims holds P1: for each (key, nonce) at most one claim is admitted,
// the same claim asked again gets its first answer, and "replay" is only said
// of a nonce that another claim could have used by then.
func checkClaims(c *court) {
	byNonce := map[string]*nonceOps{}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindClaim {
			continue
		}
		c.Examined++
		if op.Claim.Forged {
			if op.Outcome == OK && op.Claim.admitted() {
				c.fail([]*Op{op}, "a request whose signature does not verify was admitted")
			}
			continue // it cannot use the nonce
		}
		n := byNonce[op.Claim.nonceID()]
		if n == nil {
			n = &nonceOps{}
			byNonce[op.Claim.nonceID()] = n
		}
		if op.Outcome == Refused {
			n.refused = append(n.refused, op)
			continue
		}
		n.asked = append(n.asked, op)
		if late := lateUse(op, c.policies, c.bans); late != nil {
			n.late = append(n.late, late)
		}
	}
	minSkew := c.policies.minSkew()
	reg := register[nonceState]{step: func(s nonceState, op *Op) (bool, nonceState) { return stepNonce(s, op, minSkew) }}
	for _, nonce := range slices.Sorted(maps.Keys(byNonce)) {
		judgeNonce(c, reg, byNonce[nonce])
	}
}

func judgeNonce(c *court, reg register[nonceState], n *nonceOps) {
	if len(n.asked) == 0 {
		return
	}
	result := reg.accepts(c, n.asked)
	for _, late := range n.late { // a nonce is used once, so one at a time will do
		if result == porcupine.Illegal {
			result = reg.accepts(c, append(slices.Clone(n.asked), late))
		}
	}
	switch result {
	case porcupine.Illegal:
		c.failAs(blameRefusals(reg, c, n), append(n.asked, n.refused...), "%s", blameClaims(n.asked))
	case porcupine.Unknown:
		c.doubt(n.asked, "the claims of one nonce could not be ordered in time")
	}
}

// lateUse returns the admission that a denial may hide, or nil: only if the
// claim could have been admitted at some time of its attempt.
func lateUse(op *Op, policies policyHistory, bans banEvents) *Op {
	if op.Outcome != OK || !lateCode(op.Claim.Code) {
		return nil
	}
	cl := *op.Claim
	if skew := policies.maxSkewEver(); skew > 0 &&
		(op.WallMs-clockSlackMs > cl.TimestampMs+skew || op.wallEndMs()+clockSlackMs < cl.TimestampMs-skew) {
		return nil // it was outside its window all the time
	}
	if bans.surelyBanned(cl.Agent, op) {
		return nil
	}
	cl.Verdict, cl.Code, cl.Index = client.VerdictAdmitted, client.VerdictOK, 0
	late := *op
	late.Claim = &cl
	return &late
}

func stepNonce(s nonceState, op *Op, minSkewMs int64) (bool, nonceState) {
	cl := op.Claim
	next := nonceState{used: true, same: cl.same(), timestampMs: cl.TimestampMs, index: cl.Index, clockMs: cl.ClockMs}
	if op.Outcome == Unknown {
		if s.used {
			return true, s
		}
		next.index, next.clockMs = 0, 0
		return true, next
	}
	switch {
	case cl.admitted() && cl.Repeated:
		// A node may ask its leader again within one attempt of the client, so
		// the first answer that a client sees can already be a repeated one.
		first := s.index == 0 || (s.index == cl.Index && s.clockMs == cl.ClockMs)
		return !s.used || (s.same == next.same && first), next
	case cl.admitted():
		return !s.used || s.forgotten(cl, minSkewMs), next
	case cl.Code == client.VerdictReplay:
		return s.used && s.same != next.same, s
	case cl.Code == client.VerdictRateLimited: // asked after the nonce
		return !s.used || s.forgotten(cl, minSkewMs), s
	}
	return true, s
}

// forgotten tells whether the nonce may be free again for another timestamp: a
// nonce is kept until the timestamp it was signed with leaves the window.
func (s nonceState) forgotten(cl *Claim, minSkewMs int64) bool {
	return cl.TimestampMs != s.timestampMs && cl.ClockMs > s.timestampMs+minSkewMs
}

// blameRefusals names the promise that was broken: if the claims make sense
// once attempts that were answered as certainly not done may have happened after
// all, then it is those answers that were not honest (P9).
func blameRefusals(reg register[nonceState], c *court, n *nonceOps) string {
	ops := slices.Clone(n.asked)
	for _, op := range n.refused {
		maybe := *op
		maybe.Outcome = Unknown
		ops = append(ops, &maybe)
	}
	if len(n.refused) > 0 && reg.accepts(c, ops) == porcupine.Ok {
		return "P9"
	}
	return c.Promise
}

// blameClaims says in words what no order of the claims explains.
func blameClaims(ops []*Op) string {
	firsts, repeats, replays := 0, map[uint64]bool{}, 0
	for _, op := range ops {
		switch {
		case op.Outcome != OK:
		case op.Claim.admitted() && !op.Claim.Repeated:
			firsts++
		case op.Claim.admitted():
			repeats[op.Claim.Index] = true
		case op.Claim.Code == client.VerdictReplay:
			replays++
		}
	}
	switch {
	case firsts > 1:
		return "one signed request was admitted more than once"
	case len(repeats) > 1:
		return "retries of one claim got different first answers"
	case len(repeats) > 0:
		return "a retry was answered as repeated, but not with the first answer of the same claim"
	case replays > 0:
		return "a request was refused as a replay although nothing else could have used its nonce by then, or the same claim asked again was called a replay"
	}
	return "no order of these claims explains their answers"
}
