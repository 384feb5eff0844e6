package cmd

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) auditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "security events: who did what, who was refused, and whether a node's log is whole",
		Subcommands: []*cli.Command{p.auditTailCommand(), p.auditQueryCommand(), p.auditVerifyCommand()},
	}
}

func auditFilterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "type", Usage: "only events of this `TYPE`, such as failed_auth, replay_attempt, ban or token_create"},
		&cli.StringFlag{Name: "level", Usage: "only events of this `LEVEL` or above: INFO, WARN, HIGH or CRITICAL"},
		&cli.StringFlag{Name: "actor", Usage: "only events of the actor with this `ID`: of a token, an agent, a node or an address"},
		&cli.IntFlag{Name: "limit", Usage: "at most so many `EVENTS`", Value: 100},
	}
}

func (p *program) auditTailCommand() *cli.Command {
	return &cli.Command{
		Name: "tail", Usage: "the newest security events of all nodes",
		UsageText: "edgecoder audit tail [-f] [--type TYPE] [--level LEVEL] [--actor ID] [--limit N]",
		Description: "Examples:\n  edgecoder audit tail\n  edgecoder audit tail -f --level HIGH\n  edgecoder audit tail -f --format json | jq .type\n\n" +
			"With -f it goes on until it is interrupted; JSON is then one event a line. An event of a node that was unreachable comes later, out of the order of time.",
		Flags:  append(auditFilterFlags(), &cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what comes"}),
		Action: p.auditTail,
	}
}

func (p *program) auditQueryCommand() *cli.Command {
	return &cli.Command{
		Name: "query", Usage: "search the security events of all nodes",
		UsageText: "edgecoder audit query [--since DURATION] [--type TYPE] [--level LEVEL] [--actor ID] [--limit N]",
		Description: "Examples:\n  edgecoder audit query --since 24h --level HIGH\n  edgecoder audit query --type failed_auth --limit 20\n\n" +
			"With --since the answer begins there, else it is the newest events. Nodes that gave no answer are named, and the exit status is then 3.",
		Flags:  append(auditFilterFlags(), &cli.StringFlag{Name: "since", Usage: "begin this `DURATION` ago, such as 90s, 24h or 7d"}),
		Action: p.auditQuery,
	}
}

// auditQuestion is what the flags ask for.
func auditQuestion(c *cli.Context) (client.AuditQuery, error) {
	if _, err := operands(c); err != nil {
		return client.AuditQuery{}, err
	}
	if n := c.Int("limit"); n < 1 || n > maxAuditEvents {
		return client.AuditQuery{}, usagef("--limit %d: want 1 to %d", n, maxAuditEvents)
	}
	return client.AuditQuery{Type: c.String("type"), Level: c.String("level"), Actor: c.String("actor"), Limit: c.Int("limit")}, nil
}

// maxAuditEvents is the largest page of the API.
const maxAuditEvents = 1000

func (p *program) auditQuery(c *cli.Context) error {
	q, err := auditQuestion(c)
	if err != nil {
		return err
	}
	if since := c.String("since"); since != "" {
		d, err := parseDuration("since", since)
		if err != nil {
			return err
		}
		q.SinceMs = max(1, p.now().Add(-d).UnixMilli())
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	found, err := api.AuditEvents(c.Context, q)
	if err != nil {
		return err
	}
	if err := p.emit(c, found, func(t *table) { drawAudit(t, found.Events) }); err != nil {
		return err
	}
	if found.More {
		p.say("there are more: ask with a larger --limit, or a later --since")
	}
	return p.auditMissing(found.Unreachable)
}

// auditMissing names the nodes that an answer lacks.
func (p *program) auditMissing(nodes []client.AuditMissing) error {
	for _, n := range nodes {
		p.say("node %s (%s) gave no answer, its events are missing: %s", orDash(n.Name), n.Node, n.Detail)
	}
	if len(nodes) > 0 {
		return unknownf("%d nodes gave no answer: the list is not the whole", len(nodes))
	}
	return nil
}

func drawAudit(t *table, events []client.AuditEvent) {
	t.row("TIME", "LEVEL", "TYPE", "CODE", "ACTOR", "COUNT", "ACTION", "SUBJECT", "NODE", "SEQ")
	for _, e := range events {
		t.row(auditRow(e)...)
	}
}

func auditRow(e client.AuditEvent) []string {
	actor := e.Actor.Kind + ":" + e.Actor.ID
	if !e.Actor.Proved {
		actor += " (claimed)"
	}
	return []string{time.UnixMilli(e.TimeMs).UTC().Format("2006-01-02 15:04:05.000Z"), e.Level, e.Type, orDash(e.Code), actor,
		number(max(1, e.Count)), orDash(e.Action), orDash(e.Details["subject"]), e.Node, number(e.Seq)}
}

// auditPoll is how often tail -f asks: every node reads its newest file for it.
const auditPoll = time.Second

func (p *program) auditTail(c *cli.Context) error {
	q, err := auditQuestion(c)
	if err != nil {
		return err
	}
	if !c.Bool("follow") {
		return p.auditQuery(c)
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	f := follower{p: p, format: format, away: map[string]bool{}}
	for {
		found, err := api.AuditEvents(c.Context, q)
		switch {
		case c.Context.Err() != nil:
			return nil
		case err == nil:
			q.Cursor = found.Next
			f.tell(found.Unreachable)
			if err := f.print(found.Events); err != nil {
				return err
			}
		case exitStatus(err) != exitUnknown:
			return err
		default:
			p.say("no answer, asking again: %v", err)
		}
		if err == nil && found.More {
			continue
		}
		if !sleepFor(c.Context, auditPoll) {
			return nil
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// follower prints events as they come.
type follower struct {
	p      *program
	format string
	away   map[string]bool // nodes that gave no answer the last time
}

// tell says once of each node that it is away, and that it is back.
func (f *follower) tell(nodes []client.AuditMissing) {
	now := map[string]bool{}
	for _, n := range nodes {
		now[n.Node] = true
		if !f.away[n.Node] {
			f.p.say("node %s (%s) gives no answer, its events come when it does: %s", orDash(n.Name), n.Node, n.Detail)
		}
	}
	for id := range f.away {
		if !now[id] {
			f.p.say("node %s answers again", id)
		}
	}
	f.away = now
}

func (f *follower) print(events []client.AuditEvent) error {
	if f.format == formatJSON {
		var all error
		for _, e := range events {
			all = errors.Join(all, writeJSONLine(f.p.out, e))
		}
		return all
	}
	t := &table{now: f.p.now()}
	for _, e := range events {
		t.row(auditRow(e)...)
	}
	return t.write(f.p.out, f.p.colour)
}
