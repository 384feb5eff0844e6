package judge

import (
	"cmp"

	"github.com/edgecoder/edgecoder/client"
)

// clockSlackMs is how far the cluster clock may be off the clients' clocks: a
// leader stamps only within 5 s of a majority (DESIGN.md section 3), whose clocks
// it knows by answers that took up to 1 s, so to half a second; the undisturbed
// servers are on the clients' machine, or at most 200 ms off it.
const clockSlackMs = 5_700

// checkDenials holds that a denial has its reason, and an admission its window.
// Whether agent_blacklisted is justified is the ban register's to say, and
// rate_limited has a check of its own.
func checkDenials(c *court) {
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
		checkDenial(c, op, active)
	}
	for _, a := range c.clock {
		skew := c.policies.maxSkew(a.asked.StartNS, a.answer.EndNS)
		if off := distance(a.clockMs(), a.answer.Claim.TimestampMs); skew > 0 && off > skew {
			c.failAs("P1", a.ops(), "admitted %d ms from the cluster clock, at most %d were allowed", off, skew)
		}
	}
}

func checkDenial(c *court, op *Op, active map[string]bool) {
	cl, one := op.Claim, []*Op{op}
	switch cl.Code {
	case client.VerdictOK:
		if !cl.admitted() {
			c.fail(one, "denied with code ok")
		}
	case client.VerdictTimestampSkew:
		// By the clock that it was told, and by our own at the worst moment.
		off := min(distance(cl.ClockMs, cl.TimestampMs), max(distance(op.WallMs, cl.TimestampMs), distance(op.wallEndMs(), cl.TimestampMs)))
		if skew := c.policies.minSkew(); skew > 0 && off < skew-clockSlackMs {
			c.fail(one, "denied for a skew of %d ms although at least %d were allowed", off, skew)
		}
	case client.VerdictInvalidSignature:
		if !cl.Forged && !c.excusesKey(op) {
			c.fail(one, "a good signature was called invalid")
		}
	case client.VerdictUnknownAgent, client.VerdictAgentNotActive, client.VerdictKeyExpired:
		if active[cl.Agent] && !c.excusesKey(op) {
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

func distance(a, b int64) int64 { return max(a-b, b-a) }

// fine are refusals that say something about the cluster and its load, which
// faults explain. Any other code blames the question.
var fine = map[string]bool{client.CodeUnavailable: true, client.CodeUnknownOutcome: true, client.CodeOverloaded: true,
	client.CodeRateLimited: true, client.CodeDiskFull: true}

// checkRefusals holds that no operation was refused for a fault of its own:
// the traffic asks nothing malformed and may do what it asks.
func checkRefusals(c *court) {
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Outcome == OK {
			continue
		}
		c.Examined++
		switch {
		case fine[op.Code]:
		case op.Code == client.CodeConflict && op.Kind == KindPolicySet: // the register of the policy judges it
		case op.Kind == KindRekey: // of an agent that is banned, or whose key an earlier try changed
		case op.Code == client.CodeNotFound && op.Kind == KindLift: // the register of the bans judges it
		case op.Code == client.CodeInvalid && op.Kind == KindBan && op.Ban.ExpiresMs != 0 && op.Ban.ExpiresMs <= op.wallEndMs()+clockSlackMs: // asked again too late
		case op.Code == client.CodeInvalid && op.Kind == KindBan && op.Ban.SignedMs != 0 && op.Ban.SignedMs+c.policies.minSkew() <= op.wallEndMs()+clockSlackMs: // likewise
		default:
			c.fail([]*Op{op}, "a well-formed %s was refused with %q", op.Kind, cmp.Or(op.Code, "no code"))
		}
	}
}
