package judge

import (
	"cmp"
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

// checkClaims holds P1: for each (key, nonce) at most one claim is admitted,
// the same claim asked again gets its first answer, and "replay" is only said
// of a nonce that another claim could have used by then.
func checkClaims(c *court) {
	minSkew := c.run.policies().minSkew()
	byNonce := map[string][]*Op{}
	refused := map[string][]*Op{} // they did nothing, unless that was a lie
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
		nonce := op.Claim.Key + "\x00" + op.Claim.Nonce
		if op.Outcome == Refused {
			refused[nonce] = append(refused[nonce], op)
			continue
		}
		byNonce[nonce] = append(byNonce[nonce], op)
		if op.Outcome == OK && lateDenial(op.Claim.Code) {
			maybe := *op
			maybe.Outcome = Unknown
			byNonce[nonce] = append(byNonce[nonce], &maybe)
		}
	}
	reg := register[nonceState]{step: func(s nonceState, op *Op) (bool, nonceState) { return stepNonce(s, op, minSkew) }}
	for _, nonce := range slices.Sorted(maps.Keys(byNonce)) {
		ops := byNonce[nonce]
		switch reg.accepts(c, ops) {
		case porcupine.Illegal:
			c.failAs(blameRefusals(reg, c, ops, refused[nonce]), append(ops, refused[nonce]...), "%s", blameClaims(ops))
		case porcupine.Unknown:
			c.doubt(ops, "the claims of one nonce could not be ordered in time")
		}
	}
}

// lateDenial tells whether a claim denied with a code may have used its nonce
// all the same: the leader that admitted it died before it could say so, the
// node asked the next one within the same attempt, and there the agent may not
// act any more.
func lateDenial(code string) bool {
	return code == client.VerdictBlacklisted || code == client.VerdictTimestampSkew
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
func blameRefusals(reg register[nonceState], c *court, ops, refused []*Op) string {
	for _, op := range refused {
		maybe := *op
		maybe.Outcome = Unknown
		ops = append(ops[:len(ops):len(ops)], &maybe)
	}
	if len(refused) > 0 && reg.accepts(c, ops) == porcupine.Ok {
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

// checkDenials holds that a denial has its reason, and an admission its window.
// Whether agent_blacklisted is justified is the ban register's to say.
func checkDenials(c *court) {
	policies := c.run.policies()
	active := map[string]bool{}
	for _, a := range c.run.About.Agents {
		active[a] = true
	}
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindClaim || op.Outcome != OK {
			continue
		}
		c.Examined++
		checkDenial(c, op, policies, active)
	}
}

// clockSlackMs is how far a node's estimate of the cluster clock may be off: a
// leader stamps only within 5 s of a majority (DESIGN.md section 3).
const clockSlackMs = 5_000

func checkDenial(c *court, op *Op, policies policyHistory, active map[string]bool) {
	cl, one := op.Claim, []*Op{op}
	off := cl.ClockMs - cl.TimestampMs
	off = max(off, -off)
	switch cl.Code {
	case client.VerdictOK:
		if !cl.admitted() {
			c.fail(one, "denied with code ok")
		}
		skew := policies.maxSkew(op)
		if cl.Repeated {
			skew = policies.maxSkewEver() // the first answer is older than this question
		}
		if skew > 0 && off > skew {
			c.failAs("P1", one, "admitted %d ms from the cluster clock, at most %d were allowed", off, skew)
		}
	case client.VerdictTimestampSkew:
		if skew := policies.minSkew(); skew > 0 && off < skew-clockSlackMs {
			c.fail(one, "denied for a skew of %d ms although at least %d were allowed", off, skew)
		}
	case client.VerdictInvalidSignature:
		if !cl.Forged {
			c.fail(one, "a good signature was called invalid")
		}
	case client.VerdictUnknownAgent, client.VerdictAgentNotActive, client.VerdictKeyExpired:
		if active[cl.Agent] {
			c.fail(one, "denied with %s although the agent was enrolled and active before the run began", cl.Code)
		}
	case client.VerdictReplay, client.VerdictRateLimited, client.VerdictBlacklisted:
	default:
		c.fail(one, "a well-formed request was denied with %q", cmp.Or(cl.Code, "no code"))
	}
	if cl.Code != client.VerdictOK && cl.admitted() {
		c.fail(one, "admitted with the code %q of a denial", cl.Code)
	}
}
