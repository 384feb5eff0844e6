package judge

import "github.com/edgecoder/edgecoder/client"

// Rekey replaces an agent's key on the agent's own word. The new key verifies
// from then on, the old one for one more window of the policy.
type Rekey struct {
	Agent string `json:"agent"`
	From  string `json:"from"` // public keys, as Claim.Key
	To    string `json:"to"`
}

// keyChanges are the attempts to change keys that may have been made.
type keyChanges struct{ from, to map[string][]*Op }

func (r *Run) keyChanges() keyChanges {
	k := keyChanges{map[string][]*Op{}, map[string][]*Op{}}
	for i := range r.Ops {
		if op := &r.Ops[i]; op.Kind == KindRekey && op.Outcome != Refused {
			k.from[op.Rekey.From] = append(k.from[op.Rekey.From], op)
			k.to[op.Rekey.To] = append(k.to[op.Rekey.To], op)
		}
	}
	return k
}

// checkKeys holds P5 for agents: a key is good for an admission from its change
// on, not before it was asked for, and until one window after the change that
// replaced it. That it is good for all of that time is checkDenial's to say.
func checkKeys(c *court) {
	for i := range c.run.Ops {
		op := &c.run.Ops[i]
		if op.Kind != KindClaim || op.Outcome != OK || !op.Claim.admitted() {
			continue
		}
		brought, replaced := c.keys.to[op.Claim.Key], c.keys.from[op.Claim.Key]
		if len(brought)+len(replaced) == 0 {
			continue
		}
		c.Examined++
		if first := firstTry(brought); first != nil && op.EndNS < first.StartNS {
			c.fail([]*Op{op, first}, "admitted by a key of %s before anybody asked to have it", op.Claim.Agent)
		}
		if op.Claim.Repeated {
			continue // the first answer, which was given in time
		}
		for _, r := range replaced {
			ends := r.wallEndMs() + clockSlackMs + c.policies.maxSkew(r.StartNS, r.EndNS)
			if r.Outcome == OK && op.Claim.ClockMs > ends {
				c.fail([]*Op{op, r}, "admitted by a key of %s that had ended %d ms before at least", op.Claim.Agent, op.Claim.ClockMs-ends)
			}
		}
	}
}

// firstTry is the attempt that began first, nil if there was none.
func firstTry(ops []*Op) (first *Op) {
	for _, op := range ops {
		if first == nil || op.StartNS < first.StartNS {
			first = op
		}
	}
	return first
}

// mayBeOver tells whether a claim's key may not have verified any more when it was
// judged: it may have been replaced at least a window before.
func (k keyChanges) mayBeOver(claim *Op, minSkewMs int64) bool {
	r := firstTry(k.from[claim.Claim.Key])
	return r != nil && claim.wallEndMs()+clockSlackMs > r.WallMs+minSkewMs
}

// mayBeNew tells whether a claim's key may not have verified yet: no change that
// brings it had been acknowledged when it was asked.
func (k keyChanges) mayBeNew(claim *Op) bool {
	brought := k.to[claim.Claim.Key]
	for _, r := range brought {
		if r.Outcome == OK && r.EndNS < claim.StartNS {
			return false
		}
	}
	return len(brought) > 0
}

// excusesKey tells whether a denial for a key is what became of the key.
func (c *court) excusesKey(op *Op) bool {
	switch op.Claim.Code {
	case client.VerdictKeyExpired, client.VerdictInvalidSignature:
		return c.keys.mayBeOver(op, c.policies.minSkew()) || c.keys.mayBeNew(op)
	}
	return false
}
