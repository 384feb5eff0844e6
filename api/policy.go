package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// policy answers GET /v1/policy.
func (s *Server) policy(c *call) error {
	var p fsm.Policy
	if err := c.read(func(state *fsm.State) { p = state.Policy() }); err != nil {
		return err
	}
	return c.replyPolicy(p, false)
}

func (c *call) replyPolicy(p fsm.Policy, repeated bool) error {
	out := client.Policy{
		Version: p.Version, RateLimit: wireLimit(p.RateLimit), MaxSkewMs: p.MaxSkewMs,
		AutoApprove: p.AutoApprove, Overrides: map[string]client.RateLimit{}, Repeated: repeated,
		SignatureProfiles: p.Profiles.String(), AgentProfiles: map[string]string{},
		UnsignedAgents: map[string]string{}, LegacyMeshToken: p.LegacyMeshID(),
	}
	maps.Copy(out.UnsignedAgents, p.UnsignedAgents)
	for id, rule := range p.AgentProfiles {
		out.AgentProfiles[id] = rule.String()
	}
	for id, l := range p.Overrides {
		out.Overrides[id] = wireLimit(l)
	}
	c.w.Header().Set("ETag", strconv.Quote(strconv.FormatUint(p.Version, 10)))
	return c.reply(http.StatusOK, out)
}

func wireLimit(l fsm.RateLimit) client.RateLimit {
	return client.RateLimit{Requests: l.Requests, WindowMs: l.WindowMs}
}

// setPolicy answers PUT /v1/policy. The new policy is the one of If-Match with
// the members of the body replaced.
func (s *Server) setPolicy(c *call) error {
	version, err := c.ifMatch()
	if err != nil {
		return err
	}
	var update client.PolicyUpdate
	if err := c.decode(&update); err != nil {
		return err
	}
	if update.Version != nil && *update.Version != version {
		return invalid("version", fmt.Sprintf("%d differs from If-Match %d", *update.Version, version))
	}
	was, err := c.policyAt(version)
	if err != nil {
		return err
	}
	next, err := updated(was, update)
	if err != nil {
		return err
	}
	c.tellPolicy(was, next)
	res, err := c.propose(fsm.PolicySet{IfVersion: version, Policy: next})
	if err != nil {
		return err
	}
	if res.Repeated {
		var now fsm.Policy
		if err := c.readAt(ReadOptions{MinIndex: res.Index}, func(state *fsm.State) { now = state.Policy() }); err != nil {
			return err
		}
		return c.replyPolicy(now, true)
	}
	next.Version = version + 1
	return c.replyPolicy(next, false)
}

// ifMatch returns the version in the If-Match header, quoted or not.
func (c *call) ifMatch() (uint64, error) {
	text, ok := header(c.r.Header, "If-Match")
	if text == "" || !ok {
		return 0, invalid("If-Match", "give the version that you change, as a GET of the same path tells it")
	}
	if strings.HasPrefix(text, `"`) && strings.HasSuffix(text, `"`) && len(text) > 2 {
		text = text[1 : len(text)-1]
	}
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, invalid("If-Match", quote(text)+" is no version")
	}
	return version, nil
}

// policyAt returns the policy to build upon. A replica that is behind asks
// again; a version that is neither is left to Apply, which answers conflict,
// or the first answer when the key is known.
func (c *call) policyAt(version uint64) (p fsm.Policy, err error) {
	get := func(state *fsm.State) { p = state.Policy() }
	if err := c.readAt(ReadOptions{}, get); err != nil {
		return p, err
	}
	if p.Version >= version {
		return p, nil
	}
	return p, c.readAt(ReadOptions{Strong: true}, get)
}

func updated(p fsm.Policy, u client.PolicyUpdate) (fsm.Policy, error) {
	if u.RateLimit != nil {
		p.RateLimit = fsm.RateLimit{Requests: u.RateLimit.Requests, WindowMs: u.RateLimit.WindowMs}
	}
	if u.MaxSkewMs != nil {
		p.MaxSkewMs = *u.MaxSkewMs
	}
	if u.AutoApprove != nil {
		p.AutoApprove = *u.AutoApprove
	}
	if u.Overrides != nil {
		p.Overrides = make(map[string]fsm.RateLimit, len(u.Overrides))
		for id, l := range u.Overrides {
			p.Overrides[id] = fsm.RateLimit{Requests: l.Requests, WindowMs: l.WindowMs}
		}
	}
	if u.UnsignedAgents != nil {
		p.UnsignedAgents = u.UnsignedAgents
	}
	if u.LegacyMeshToken != nil {
		p.LegacyMesh = *u.LegacyMeshToken
	}
	return withProfiles(p, u)
}

func withProfiles(p fsm.Policy, u client.PolicyUpdate) (fsm.Policy, error) {
	if u.SignatureProfiles != nil {
		rule, err := fsm.ParseProfileRule(*u.SignatureProfiles)
		if err != nil {
			return p, invalid("signature_profiles", err.Error())
		}
		p.Profiles = rule
	}
	if u.AgentProfiles == nil {
		return p, nil
	}
	p.AgentProfiles = make(map[string]fsm.ProfileRule, len(u.AgentProfiles))
	for _, id := range slices.Sorted(maps.Keys(u.AgentProfiles)) {
		rule, err := fsm.ParseProfileRule(u.AgentProfiles[id])
		if err != nil {
			return p, invalid("agent_profiles."+id, err.Error())
		}
		p.AgentProfiles[id] = rule
	}
	return p, nil
}
