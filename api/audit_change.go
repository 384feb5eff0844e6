package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/fsm"
)

// What changes change, in words for the audit log: the new beside the old, tokens
// by their ids, and a level of its own for what opens the cluster further. All of
// it stands in the history as well.

// tellPolicy notes what a new policy changes.
func (c *call) tellPolicy(was, next fsm.Policy) {
	wider := next.MaxSkewMs > was.MaxSkewMs || next.AutoApprove && !was.AutoApprove || limitWider(was.RateLimit, next.RateLimit) ||
		next.Profiles < was.Profiles || next.LegacyMesh != "" && next.LegacyMesh != was.LegacyMesh
	for _, d := range []struct{ name, was, next string }{
		{"rate_limit", limitText(was.RateLimit), limitText(next.RateLimit)},
		{"max_skew_ms", strconv.FormatInt(was.MaxSkewMs, 10), strconv.FormatInt(next.MaxSkewMs, 10)},
		{"auto_approve", strconv.FormatBool(was.AutoApprove), strconv.FormatBool(next.AutoApprove)},
		{"signature_profiles", was.Profiles.String(), next.Profiles.String()},
		{"legacy_mesh_token", cmp.Or(was.LegacyMeshID(), "none"), cmp.Or(next.LegacyMeshID(), "none")},
	} {
		if d.was != d.next {
			c.tell(d.name, d.was+" -> "+d.next)
		}
	}
	if was.LegacyMesh != next.LegacyMesh && c.told["legacy_mesh_token"] == "" {
		c.tell("legacy_mesh_token", "another text of the same id")
	}
	tellMap(c, "overrides", was.Overrides, next.Overrides, limitText)
	tellMap(c, "agent_profiles", was.AgentProfiles, next.AgentProfiles, fsm.ProfileRule.String)
	tellMap(c, "unsigned_agents", was.UnsignedAgents, next.UnsignedAgents, func(token string) string { return token })
	for id, l := range next.Overrides {
		before, ok := was.Overrides[id]
		if !ok {
			before = next.RateLimit
		}
		wider = wider || limitWider(before, l)
	}
	for id := range was.AgentProfiles {
		wider = wider || ruleOf(next, id) < ruleOf(was, id)
	}
	for id := range next.AgentProfiles {
		wider = wider || ruleOf(next, id) < ruleOf(was, id)
	}
	for id, token := range next.UnsignedAgents {
		wider = wider || was.UnsignedAgents[id] != token
	}
	if wider {
		c.did = kept{"policy_set", auditHigh}
	}
}

// ruleOf is the rule of an agent, its own or that for all.
func ruleOf(p fsm.Policy, id string) fsm.ProfileRule {
	if rule, ok := p.AgentProfiles[id]; ok {
		return rule
	}
	return p.Profiles
}

// limitWider tells whether a limit admits more than one before it could.
func limitWider(was, next fsm.RateLimit) bool {
	return next.Requests > was.Requests || next.WindowMs < was.WindowMs
}

func limitText(l fsm.RateLimit) string { return fmt.Sprintf("%d/%dms", l.Requests, l.WindowMs) }

// tellMap notes the entries that came, went or changed; how many first, since a
// long list is cut.
func tellMap[V comparable](c *call, name string, was, next map[string]V, text func(V) string) {
	var rows []string
	came, went := 0, 0
	for _, id := range slices.Sorted(maps.Keys(next)) {
		before, had := was[id]
		if had && before == next[id] {
			continue
		}
		came++
		if had {
			rows = append(rows, fmt.Sprintf("%s: %s -> %s", id, text(before), text(next[id])))
		} else {
			rows = append(rows, "+"+id+": "+text(next[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was)) {
		if _, has := next[id]; !has {
			went++
			rows = append(rows, "-"+id+": "+text(was[id]))
		}
	}
	if len(rows) > 0 {
		c.tell(name, fmt.Sprintf("%d set, %d gone; %s", came, went, strings.Join(rows, ", ")))
	}
}

// tellToken notes what a new token may do.
func (c *call) tellToken(t fsm.TokenCreate) {
	c.tell("created_role", string(t.Role))
	c.tell("expires_ms", strconv.FormatInt(t.ExpiresMs, 10))
	c.tell("uses", strconv.FormatInt(t.Uses, 10))
	c.tell("label", t.Label)
	switch t.Role {
	case fsm.RoleAdmin, fsm.RoleOperator, fsm.RoleCoordinator:
		c.did = kept{"token_create", auditHigh} // it changes the cluster, or holds its keys
	}
}

// tellTrust notes whose manifests are taken from now on.
func (c *call) tellTrust(was, next fsm.ManifestTrust) {
	if was.Threshold != next.Threshold {
		c.tell("threshold", fmt.Sprintf("%d -> %d", was.Threshold, next.Threshold))
	}
	keys := func(t fsm.ManifestTrust) map[string]string {
		out := map[string]string{}
		for _, g := range t.Signers {
			out[g.Name] = g.Key.KeyID() + " for " + strconv.Quote(g.Prefix)
		}
		return out
	}
	itself := func(s string) string { return s }
	tellMap(c, "signers", keys(was), keys(next), itself)
	sources := func(t fsm.ManifestTrust) map[string]string {
		out := map[string]string{}
		for _, s := range t.Sources {
			out[s] = "source"
		}
		return out
	}
	tellMap(c, "sources", sources(was), sources(next), itself)
}
