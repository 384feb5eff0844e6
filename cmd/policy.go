package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

func (p *program) policyCommand() *cli.Command {
	return &cli.Command{
		Name: "policy", Usage: "limits, clock skew, enrolment and signature profiles of the whole cluster",
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "print the policy",
				UsageText: "edgecoder policy show", Description: "Example:\n  edgecoder policy show --format json",
				Flags: []cli.Flag{strongFlag()}, Action: p.policyShow,
			},
			{
				Name: "set", Usage: "change members of the policy; the others stay",
				UsageText: "edgecoder policy set KEY=VALUE…",
				Description: "Keys:\n  rate_limit.requests=N      requests of one agent in any window\n  rate_limit.window_ms=N     length of that window\n" +
					"  max_skew_ms=N              how far a signed timestamp may be off\n  auto_approve=true|false    enrolled agents become active at once\n" +
					"  overrides.AGENT=REQ/MS     a limit of its own for one agent; off removes it\n" +
					"  signature_profiles=RULE    any, or rfc9421: HTTP message signatures alone, not the five headers\n" +
					"  agent_profiles.AGENT=RULE  a rule of its own for one agent; off removes it\n" +
					"  unsigned_agents.AGENT=ID   an agent that need not sign what it asks for itself, under the token of role mesh with this id; off removes it\n" +
					"  legacy_mesh_token=@FILE    the token of role mesh in FILE is told to every agent that registers; off stops it\n\n" +
					"Examples:\n  edgecoder policy set rate_limit.requests=100 rate_limit.window_ms=60000\n  edgecoder policy set overrides.builder-7=500/60000\n  edgecoder policy set overrides.builder-7=off auto_approve=false\n" +
					"  edgecoder policy set signature_profiles=rfc9421 agent_profiles.old-builder=any",
				Action: p.policySet,
			},
		},
	}
}

func (p *program) policyShow(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	policy, err := api.Policy(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, policy, func(t *table) { drawPolicy(t, policy) })
}

// drawPolicy prints the policy in the words that `policy set` takes.
func drawPolicy(t *table, policy client.Policy) {
	t.row("version", number(policy.Version))
	t.row("rate_limit.requests", number(policy.RateLimit.Requests))
	t.row("rate_limit.window_ms", number(policy.RateLimit.WindowMs))
	t.row("max_skew_ms", number(policy.MaxSkewMs))
	t.row("auto_approve", strconv.FormatBool(policy.AutoApprove))
	t.row("signature_profiles", cmp.Or(policy.SignatureProfiles, "any")) // an older server says nothing
	for _, id := range slices.Sorted(maps.Keys(policy.Overrides)) {
		limit := policy.Overrides[id]
		t.row("overrides."+id, fmt.Sprintf("%d/%d", limit.Requests, limit.WindowMs))
	}
	for _, id := range slices.Sorted(maps.Keys(policy.AgentProfiles)) {
		t.row("agent_profiles."+id, policy.AgentProfiles[id])
	}
	for _, id := range slices.Sorted(maps.Keys(policy.UnsignedAgents)) {
		t.row("unsigned_agents."+id, policy.UnsignedAgents[id])
	}
	t.row("legacy_mesh_token", cmp.Or(policy.LegacyMeshToken, "off"))
}

func (p *program) policySet(c *cli.Context) error {
	words, err := operands(c, "KEY=VALUE...")
	if err != nil {
		return err
	}
	change, err := parsePolicy(words)
	if err != nil {
		return err
	}
	if err := p.legacyToken(&change); err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	policy, err := changePolicy(c, api, change)
	if err != nil {
		return err
	}
	return p.emit(c, policy, func(t *table) { drawPolicy(t, policy) })
}

// changePolicy reads the policy and writes it changed, if nobody else did in
// between; then it looks once more, since the change is to single members.
func changePolicy(c *cli.Context, api *client.Client, change policyChange) (client.Policy, error) {
	for try := 0; ; try++ {
		now, err := api.Policy(c.Context, client.Strong())
		if err != nil {
			return client.Policy{}, err
		}
		changed, err := api.SetPolicy(c.Context, now.Version, change.update(now))
		var refused *client.Error
		if try == 0 && errors.As(err, &refused) && refused.Code == client.CodeConflict {
			continue
		}
		return changed, err
	}
}

// policyChange is what the words of `policy set` ask for. A nil limit of an
// override removes it, and so does the rule "" of an agent.
type policyChange struct {
	requests, windowMs, maxSkewMs *int64
	autoApprove                   *bool
	overrides                     map[string]*client.RateLimit
	profiles                      *string
	agentProfiles                 map[string]string
	unsignedAgents                map[string]string
	legacyMesh                    *string // "@" and a file until legacyToken has read it
}

// policyKeys are the keys that `policy set` knows, but for those of single
// agents; policyWords are whole examples, with the values of a new cluster.
var (
	policyKeys  = []string{"rate_limit.requests", "rate_limit.window_ms", "max_skew_ms", "auto_approve", "signature_profiles", "legacy_mesh_token", "overrides.AGENT", "agent_profiles.AGENT", "unsigned_agents.AGENT"}
	policyWords = []string{"rate_limit.requests=30", "rate_limit.window_ms=60000", "max_skew_ms=120000",
		"auto_approve=true", "auto_approve=false", "signature_profiles=any", "signature_profiles=rfc9421", "legacy_mesh_token=off"}
)

func parsePolicy(words []string) (policyChange, error) {
	change := policyChange{overrides: map[string]*client.RateLimit{}, agentProfiles: map[string]string{}, unsignedAgents: map[string]string{}}
	seen := map[string]bool{}
	for _, word := range words {
		// Agent ids may hold "=", values never do.
		at := strings.LastIndexByte(word, '=')
		if at < 0 {
			return policyChange{}, usagef("%q: want KEY=VALUE, such as max_skew_ms=120000", word)
		}
		key, value := word[:at], word[at+1:]
		if seen[key] {
			return policyChange{}, usagef("%s is given twice", key)
		}
		seen[key] = true
		if err := change.set(key, value); err != nil {
			return policyChange{}, err
		}
	}
	return change, nil
}

func (ch *policyChange) set(key, value string) (err error) {
	switch key {
	case "rate_limit.requests":
		ch.requests, err = positive(key, value)
	case "rate_limit.window_ms":
		ch.windowMs, err = positive(key, value)
	case "max_skew_ms":
		ch.maxSkewMs, err = positive(key, value)
	case "auto_approve":
		yes, parseErr := strconv.ParseBool(value)
		if parseErr != nil {
			return usagef("%s=%q: want true or false", key, value)
		}
		ch.autoApprove = &yes
	case "legacy_mesh_token":
		if value != "off" && !strings.HasPrefix(value, "@") {
			return usagef("%s: a token does not belong into a command line: give @FILE, or off", key)
		}
		ch.legacyMesh = &value
	case "signature_profiles":
		ch.profiles, err = profileRule(key, value)
	default:
		if id, ok := strings.CutPrefix(key, "overrides."); ok {
			return ch.setOverride(id, value)
		}
		if id, ok := strings.CutPrefix(key, "agent_profiles."); ok {
			return ch.setAgentProfile(id, value)
		}
		if id, ok := strings.CutPrefix(key, "unsigned_agents."); ok {
			return ch.setUnsigned(id, value)
		}
		return usagef("unknown key %q%s; `edgecoder policy set --help` lists the keys", key, didYouMean("", nearest(key, policyKeys)))
	}
	return err
}

func (ch *policyChange) setAgentProfile(id, value string) error {
	if err := crypto.CheckID(id); err != nil {
		return usagef("agent_profiles: %w", err)
	}
	if value == "off" {
		ch.agentProfiles[id] = ""
		return nil
	}
	rule, err := profileRule("agent_profiles."+id, value)
	if err != nil {
		return err
	}
	ch.agentProfiles[id] = *rule
	return nil
}

func (ch *policyChange) setUnsigned(id, value string) error {
	if err := crypto.CheckID(id); err != nil {
		return usagef("unsigned_agents: %w", err)
	}
	if value == "off" {
		value = ""
	} else if err := crypto.CheckID(value); err != nil {
		return usagef("unsigned_agents.%s: want the id of a token, or off: %w", id, err)
	}
	ch.unsignedAgents[id] = value
	return nil
}

// legacyToken reads the file that legacy_mesh_token names.
func (p *program) legacyToken(ch *policyChange) error {
	if ch.legacyMesh == nil {
		return nil
	}
	text := ""
	if path, ok := strings.CutPrefix(*ch.legacyMesh, "@"); ok {
		whole, err := p.secretFile("mesh token", path)
		if err != nil {
			return err
		}
		if text, err = checkSecret("mesh token", path, whole); err != nil {
			return err
		}
	}
	ch.legacyMesh = &text
	return nil
}

func profileRule(key, value string) (*string, error) {
	if value != "any" && value != "rfc9421" {
		return nil, usagef("%s=%q: want any, or rfc9421 for HTTP message signatures alone", key, value)
	}
	return &value, nil
}

func (ch *policyChange) setOverride(id, value string) error {
	if err := crypto.CheckID(id); err != nil {
		return usagef("overrides: %w", err)
	}
	if value == "off" {
		ch.overrides[id] = nil
		return nil
	}
	requests, window, ok := strings.Cut(value, "/")
	if !ok {
		return usagef("overrides.%s=%q: want REQUESTS/WINDOW_MS, such as 100/60000, or off", id, value)
	}
	r, err := positive("overrides."+id, requests)
	if err != nil {
		return err
	}
	w, err := positive("overrides."+id, window)
	if err != nil {
		return err
	}
	ch.overrides[id] = &client.RateLimit{Requests: *r, WindowMs: *w}
	return nil
}

func positive(key, value string) (*int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 1 {
		return nil, usagef("%s=%q: want a positive whole number", key, value)
	}
	return &n, nil
}

// update returns the request that makes the change to the policy now.
func (ch *policyChange) update(now client.Policy) client.PolicyUpdate {
	u := client.PolicyUpdate{MaxSkewMs: ch.maxSkewMs, AutoApprove: ch.autoApprove, SignatureProfiles: ch.profiles, LegacyMeshToken: ch.legacyMesh}
	if ch.requests != nil || ch.windowMs != nil {
		limit := now.RateLimit
		if ch.requests != nil {
			limit.Requests = *ch.requests
		}
		if ch.windowMs != nil {
			limit.WindowMs = *ch.windowMs
		}
		u.RateLimit = &limit
	}
	if len(ch.overrides) > 0 {
		u.Overrides = ch.newOverrides(now.Overrides)
	}
	if len(ch.agentProfiles) > 0 {
		u.AgentProfiles = withWords(now.AgentProfiles, ch.agentProfiles)
	}
	if len(ch.unsignedAgents) > 0 {
		u.UnsignedAgents = withWords(now.UnsignedAgents, ch.unsignedAgents)
	}
	return u
}

func (ch *policyChange) newOverrides(now map[string]client.RateLimit) map[string]client.RateLimit {
	next := maps.Clone(now)
	if next == nil {
		next = map[string]client.RateLimit{}
	}
	for id, limit := range ch.overrides {
		if limit == nil {
			delete(next, id)
			continue
		}
		next[id] = *limit
	}
	return next
}

// withWords returns the map with words changed; the empty word removes one.
func withWords(now, words map[string]string) map[string]string {
	next := maps.Clone(now)
	if next == nil {
		next = map[string]string{}
	}
	for id, word := range words {
		if word == "" {
			delete(next, id)
			continue
		}
		next[id] = word
	}
	return next
}
