package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

// Waiting until a ban or its end is enforced. The change itself is done and printed whatever comes of the wait.

func waitFlag() cli.Flag {
	return &cli.StringFlag{Name: "wait", Usage: "until `WHO` enforces it: quorum, more than half of the coordinators and of the edges, or all; exit status 3 when the global --timeout passes first"}
}

func waitOf(c *cli.Context) (need string, err error) {
	need = c.String("wait")
	if c.IsSet("wait") && need != client.EnforcedQuorum && need != client.EnforcedAll {
		return "", usagef("--wait %q: want %s or %s", need, client.EnforcedQuorum, client.EnforcedAll)
	}
	return need, nil
}

// changeView is a change of the blacklist and who enforces it.
type changeView struct {
	client.BlacklistChange
	Enforcement *client.Enforcement `json:"enforcement,omitempty"`
}

// emitChange prints a change, after it waited for its enforcement if that was asked for.
func (p *program) emitChange(c *cli.Context, api *client.Client, need, what, agent string, change client.BlacklistChange) error {
	view := changeView{BlacklistChange: change}
	var waited error
	if need != "" {
		var last client.Enforcement
		if last, waited = p.awaitEnforcement(c, api, need, change.Size); last.Size != 0 {
			view.Enforcement = &last
		}
	}
	err := p.emit(c, view, func(t *table) {
		drawChange(t, what, agent, change)
		if view.Enforcement != nil {
			drawEnforcement(t, view.Enforcement)
		}
	})
	return errors.Join(waited, err)
}

func (p *program) awaitEnforcement(c *cli.Context, api *client.Client, need string, size uint64) (client.Enforcement, error) {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	shown := ""
	last, err := api.WaitEnforced(ctx, size, need, func(e client.Enforcement) {
		if now := enforcedBy(&e); now != shown {
			p.say("enforced by %s", now)
			shown = now
		}
	})
	switch {
	case err == nil:
		return last, nil
	case ctx.Err() != nil && c.Context.Err() == nil && last.Size == 0:
		return last, unknownf("it is done, but nobody said within %s who enforces it: look with `edgecoder members`", c.Duration("timeout"))
	case ctx.Err() != nil && c.Context.Err() == nil:
		return last, unknownf("it is done, but not enforced as asked (%s) within %s: %s; the others deny once their lease ends, unless they are best_effort", need, c.Duration("timeout"), enforcedBy(&last))
	}
	return last, unknownf("it is done, but who enforces it is not known: %w", err)
}

func enforcedBy(e *client.Enforcement) string {
	return fmt.Sprintf("%d of %d coordinators and %d of %d edges", e.EnforcedBy.Coordinators, e.Coordinators, e.EnforcedBy.Edges, e.Edges)
}

func drawEnforcement(t *table, e *client.Enforcement) {
	t.row("MEMBER", "ROLE", "STATE", "CHAIN SIZE", "ENFORCES")
	for _, m := range e.Members {
		t.row(m.Name, m.Role, m.State, number(m.ChainSize), map[bool]string{true: "yes", false: "no"}[m.Enforces])
	}
	if more := e.Coordinators + e.Edges - len(e.Members); more > 0 {
		t.row(fmt.Sprintf("and %d more", more))
	}
}
