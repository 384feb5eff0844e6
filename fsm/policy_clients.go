package fsm

import (
	"fmt"
	"maps"
	"slices"

	"github.com/edgecoder/edgecoder/crypto"
)

// What policy says of existing clients that cannot sign (WIRE.md 29): each hole
// is for one agent, under a token of its own, and stands in history.

// lenient tells whether the policy opens anything to who does not sign.
func (p *Policy) lenient() bool { return len(p.UnsignedAgents) > 0 || p.LegacyMesh != "" }

func (p *Policy) clientsFault() (field, fault string) {
	if n := len(p.UnsignedAgents); n > MaxUnsignedAgents {
		return "unsigned_agents", fmt.Sprintf("%d agents, at most %d", n, MaxUnsignedAgents)
	}
	if n := len(p.LegacyMesh); n > MaxTokenBytes {
		return "legacy_mesh_token", fmt.Sprintf("%d bytes, at most %d", n, MaxTokenBytes)
	}
	holder := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(p.UnsignedAgents)) {
		token := p.UnsignedAgents[id]
		if err := crypto.CheckID(id); err != nil {
			return "unsigned_agents", err.Error()
		}
		if err := crypto.CheckID(token); err != nil {
			return "unsigned_agents." + id, err.Error()
		}
		if other, taken := holder[token]; taken {
			return "unsigned_agents." + id, fmt.Sprintf("the token %s stands for %q already: one for each agent", token, other)
		}
		holder[token] = id
	}
	if p.LegacyMesh == "" {
		return "", ""
	}
	t, err := crypto.ParseTokenText(p.LegacyMesh)
	if err != nil {
		return "legacy_mesh_token", err.Error()
	}
	if id, taken := holder[t.ID]; taken {
		return "legacy_mesh_token", fmt.Sprintf("the token %s stands for %q alone", t.ID, id)
	}
	return "", ""
}

// clientTokensFault asks of each token that the policy newly names whether it is
// in force and may do no more than read. One that ended since is no reason to
// refuse another change: it opens nothing.
func (s *State) clientTokensFault(p *Policy, nowMs int64) (field, fault string) {
	for _, id := range slices.Sorted(maps.Keys(p.UnsignedAgents)) {
		token := p.UnsignedAgents[id]
		if s.policy.v.UnsignedAgents[id] == token {
			continue
		}
		switch t, ok := s.TokenInForce(token, nowMs); {
		case !ok || t.Role != RoleMesh:
			return "unsigned_agents." + id, fmt.Sprintf("%s is no token of role %s in force: give the id of one made for this agent", token, RoleMesh)
		case t.Told:
			return "unsigned_agents." + id, fmt.Sprintf("every agent was told %s: give the id of a token made for this agent", token)
		}
	}
	if p.LegacyMesh == "" || p.LegacyMesh == s.policy.v.LegacyMesh {
		return "", ""
	}
	text, err := crypto.ParseTokenText(p.LegacyMesh)
	if err != nil {
		return "legacy_mesh_token", err.Error()
	}
	if t, ok := s.TokenInForce(text.ID, nowMs); !ok || t.Role != RoleMesh || !t.Hash.Equal(text.Hash()) {
		return "legacy_mesh_token", fmt.Sprintf("it is no token of role %s in force in this cluster", RoleMesh)
	}
	return "", ""
}

// tellToken marks the token that agents are told. The mark stays when policy
// names another: who was told does not forget.
func (s *State) tellToken() {
	if t, ok := s.tokens.get(s.policy.v.LegacyMeshID()); ok && !t.Told {
		t.Told = true
		s.tokens.put(t.ID, t)
	}
}

// LegacyMeshID returns the id of the token that agents are told, "" if none.
func (p *Policy) LegacyMeshID() string {
	t, err := crypto.ParseTokenText(p.LegacyMesh)
	if err != nil {
		return ""
	}
	return t.ID
}

// clientSummary names every agent that need not sign, and tokens by their ids.
func (p *Policy) clientSummary() string {
	if !p.lenient() {
		return ""
	}
	text := fmt.Sprintf(" unsigned_agents=%d legacy_mesh_token=%s", len(p.UnsignedAgents), p.LegacyMeshID())
	for _, id := range slices.Sorted(maps.Keys(p.UnsignedAgents)) {
		text += fmt.Sprintf(" %q=token:%s", id, p.UnsignedAgents[id])
	}
	return text
}

// Stands tells whether an agent may act at all: not banned and, where it is
// enrolled, active. Of one that policy alone names there is no more to ask.
func (s *State) Stands(agentID string, nowMs int64) Code {
	if a, ok := s.agents.get(agentID); ok && a.State != AgentActive {
		return CodeAgentNotActive
	}
	if s.banned(agentID, nowMs) {
		return CodeBlacklisted
	}
	return CodeOK
}
