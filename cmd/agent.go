package cmd

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

var agentStates = []string{"pending", "active", "suspended", "revoked"}

func (p *program) agentCommand() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "agents: keys, enrolment, and whether they may act",
		Subcommands: []*cli.Command{
			p.agentKeygenCommand(), p.agentEnrollCommand(),
			p.agentStateCommand("approve", "make a pending or suspended agent active", (*client.Client).ApproveAgent),
			p.agentStateCommand("suspend", "stop an agent until it is approved again", (*client.Client).SuspendAgent),
			p.agentStateCommand("revoke", "stop an agent for ever; its id and key never come back", (*client.Client).RevokeAgent),
			{
				Name: "list", Usage: "all agents",
				UsageText: "edgecoder agent list [--state STATE]", Description: "Example:\n  edgecoder agent list --state pending",
				Flags: []cli.Flag{
					strongFlag(),
					&cli.StringFlag{Name: "state", Usage: "only those that are " + strings.Join(agentStates, ", ")},
				},
				Action: p.agentList,
			},
			{
				Name: "show", Usage: "one agent",
				UsageText: "edgecoder agent show ID", Description: "Example:\n  edgecoder agent show agent-1",
				Flags: []cli.Flag{strongFlag()}, Action: p.agentShow,
			},
		},
	}
}

// agentChange is a client method that changes where an agent stands.
type agentChange func(api *client.Client, ctx context.Context, id string, opts ...client.Option) (client.Agent, error)

func (p *program) agentStateCommand(name, usage string, change agentChange) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage,
		UsageText:   "edgecoder agent " + name + " ID",
		Description: "Example:\n  edgecoder agent " + name + " agent-1",
		Action: func(c *cli.Context) error {
			args, err := operands(c, "ID")
			if err != nil {
				return err
			}
			api, err := p.connect(c, withToken)
			if err != nil {
				return err
			}
			agent, err := change(api, c.Context, args[0])
			if err != nil {
				return err
			}
			return p.emit(c, agent, func(t *table) { drawAgent(t, agent) })
		},
	}
}

func drawAgent(t *table, a client.Agent) {
	t.row("agent", a.AgentID)
	t.row("state", a.State)
	t.row("key id", cmp.Or(a.KeyID, a.KeyState, "-"))
	t.row("enrolled", t.when(a.EnrolledMs))
	t.row("updated", t.when(a.UpdatedMs))
	if a.EncryptionKey != "" {
		t.row("encryption key", a.EncryptionKey)
	}
	if a.Index != 0 {
		t.row("index", number(a.Index))
	}
}

func (p *program) agentShow(c *cli.Context) error {
	args, api, err := p.ask(c, "ID")
	if err != nil {
		return err
	}
	agent, err := api.Agent(c.Context, args[0], freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, agent, func(t *table) { drawAgent(t, agent) })
}

func (p *program) agentList(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	state := c.String("state")
	if state != "" && !slices.Contains(agentStates, state) {
		return usagef("--state %q: want one of %s", state, strings.Join(agentStates, ", "))
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	all := client.Agents{Agents: []client.Agent{}}
	for after := ""; ; {
		page, err := api.Agents(c.Context, append(freshness(c), client.Page(after, pageSize))...)
		if err != nil {
			return err
		}
		for _, a := range page.Agents {
			if state == "" || a.State == state {
				all.Agents = append(all.Agents, a)
			}
		}
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.emit(c, all, func(t *table) { drawAgents(t, all) })
}

// pageSize is how many rows are asked for at once.
const pageSize = 500

func drawAgents(t *table, agents client.Agents) {
	t.row("AGENT", "STATE", "KEY ID", "ENROLLED", "UPDATED")
	for _, a := range agents.Agents {
		t.row(a.AgentID, a.State, a.KeyID, t.when(a.EnrolledMs), t.when(a.UpdatedMs))
	}
}
