package cmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/terminal"
)

func (p *program) eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "follow what changes in the cluster: bans, agents, tokens, policy, members, manifests",
		UsageText: "edgecoder events [--type T,…] [--after ID] [--count N]",
		Description: "Prints one line an event until it is interrupted, and goes on at another server when one goes away.\n" +
			"With --format json each line is a document, whose id given to --after resumes behind it at any server.\n" +
			"Types: " + strings.Join(client.EventTypes(), ", ") + ".\n\n" +
			"Examples:\n  edgecoder events --type ban,lift\n  edgecoder events --after 0 --format json >> events.jsonl",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "type", Usage: "only these `T`ypes, comma-separated (default: all that the token may read)"},
			&cli.StringFlag{Name: "after", Usage: "begin behind the event of this `ID`; 0: from the beginning (default: from now on)"},
			&cli.IntFlag{Name: "count", Usage: "end after `N` events (default: never)"},
		},
		Action: p.events,
	}
}

func (p *program) events(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	count := c.Int("count")
	if count < 0 || c.IsSet("count") && count == 0 {
		return usagef("--count %d: want 1 or more", count)
	}
	filter := client.EventFilter{After: c.String("after")}
	if list := c.String("type"); list != "" {
		filter.Types = strings.Split(list, ",")
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	seen := 0
	for e, err := range api.Events(c.Context, filter) {
		if err != nil {
			return err
		}
		if err := p.printEvent(format, e); err != nil {
			return err
		}
		if seen++; seen == count {
			break
		}
	}
	return nil
}

// printEvent writes a line: a table has no end here that it could be aligned to.
func (p *program) printEvent(format string, e client.Event) error {
	if format == formatJSON {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = p.out.Write(append(cleanJSON(text), '\n'))
		return err
	}
	at := time.UnixMilli(e.AtMs).UTC().Format("2006-01-02 15:04:05Z")
	line := strings.TrimRight(fmt.Sprintf("%s  %-10s  %-18s  %s  %s", at, e.Type, e.Action, orDash(e.Subject), e.Detail), " ")
	_, err := fmt.Fprintln(p.out, terminal.PlainLine(line))
	return err
}
