package fsm

import (
	"fmt"
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// What becomes of the rules of signature profiles when one policy follows
// another: it is written down in full, and a restore does not loosen them.

// noRule stands for an agent without a rule of its own.
const noRule = "unset"

func (p *Policy) ownRule(agentID string) string {
	if rule, ok := p.AgentProfiles[agentID]; ok {
		return rule.String()
	}
	return noRule
}

// ruleChanges says in words how the rules of profiles differ: the rule for all,
// then the agents that may from now on sign in more ways than before or than the
// rest, then the other agents whose own rule is another. Nobody is left out, so
// that nobody can be hidden behind others.
func ruleChanges(was, is Policy) []string {
	var looser, other []string
	ids := map[string]bool{}
	for _, p := range []Policy{was, is} {
		for id := range p.AgentProfiles {
			ids[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		text := fmt.Sprintf("%q=%s->%s", id, was.ownRule(id), is.ownRule(id))
		rule := is.profilesOf(id)
		exempt := rule < is.Profiles
		switch changed := was.ownRule(id) != is.ownRule(id); {
		case rule < was.profilesOf(id), exempt && (changed || was.Profiles != is.Profiles):
			looser = append(looser, text)
		case changed:
			other = append(other, text)
		}
	}
	var all []string
	if was.Profiles != is.Profiles {
		all = append(all, fmt.Sprintf("signature_profiles=%s->%s", was.Profiles, is.Profiles))
	}
	return append(append(all, looser...), other...)
}

// assert that a record of history has room for the changes of all the agents that
// two policies can name, each id quoted to three times its length at the worst.
var _ [maxRecordBytes - 2*MaxOverrides*(3*crypto.MaxIDBytes+32) - maxRowBytes]byte

// stricterRules returns a policy with its rules made as strict as those of
// another: what either refused stays refused. Only an exemption that both know
// is kept, so that none comes back.
func (p Policy) stricterRules(than Policy) Policy {
	out := p
	// Who need not sign is named with a token, and the tokens are the present's.
	out.UnsignedAgents, out.LegacyMesh = than.UnsignedAgents, than.LegacyMesh
	out.Profiles, out.AgentProfiles = max(p.Profiles, than.Profiles), nil
	set := func(id string, rule ProfileRule) {
		if out.AgentProfiles == nil {
			out.AgentProfiles = map[string]ProfileRule{}
		}
		out.AgentProfiles[id] = rule
	}
	for _, from := range []Policy{p, than} {
		for id, own := range from.AgentProfiles {
			rule := max(p.profilesOf(id), than.profilesOf(id))
			if rule != out.Profiles || own == rule && (rule != ProfilesAny || p.ownRule(id) == than.ownRule(id)) {
				set(id, rule)
			}
		}
	}
	return out
}
