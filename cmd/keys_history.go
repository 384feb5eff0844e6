package cmd

import (
	"cmp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) keysHistoryCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "all keys that a subject ever had, and what happened to them",
		UsageText: "edgecoder keys history SUBJECT",
		Description: subjectsHelp + "Works for subjects that are gone, too. It looks through the records of all changes from the first on, which takes some seconds where there are\nmillions.\n\n" +
			"Examples:\n  edgecoder keys history coordinator/node2\n  edgecoder keys history ca --format json",
		Flags: []cli.Flag{strongFlag()}, Action: p.keysHistory,
	}
}

func (p *program) keysHistory(c *cli.Context) error {
	args, api, err := p.ask(c, "SUBJECT")
	if err != nil {
		return err
	}
	past, err := api.KeyPast(c.Context, args[0], freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, past, func(t *table) { drawPast(t, past) })
}

func drawPast(t *table, past client.KeyPast) {
	t.row("KEY ID", "FROM", "UNTIL", "BROUGHT BY", "AT INDEX", "ENDED")
	for _, k := range past.Keys {
		t.row(k.KeyID, pastBegin(t, k), cmp.Or(pastUntil(t, k), "-"), howText(k), number(k.Index), orDash(goneText(k)))
	}
	t.row()
	t.row("INDEX", "WHEN", "STEP", "BY", "ABOUT")
	for _, s := range past.Steps {
		t.row(number(s.Index), t.when(s.AtMs), s.Action, orDash(actorText(s.Actor)), orDash(stepText(s)))
	}
}

func pastBegin(t *table, k client.PastKey) string {
	switch {
	case k.Waits:
		return "the switch"
	case k.NotBeforeMs == 0:
		return "the beginning"
	}
	return t.when(k.NotBeforeMs)
}

func pastUntil(t *table, k client.PastKey) string {
	if k.UntilMs == 0 {
		return ""
	}
	return t.when(k.UntilMs)
}

// howText says what brought a key, and on whose word.
func howText(k client.PastKey) string {
	out := []string{cmp.Or(k.How, "before the records")}
	if k.Predecessor != "" {
		out = append(out, "ordered by "+k.Predecessor)
	}
	if by := actorText(k.Actor); by != "" {
		out = append(out, by)
	}
	return strings.Join(out, ", ")
}

func goneText(k client.PastKey) string {
	switch {
	case k.RevokedAt != 0:
		return "revoked at index " + number(k.RevokedAt)
	case k.GoneAt != 0:
		return "by index " + number(k.GoneAt)
	}
	return ""
}

func actorText(a client.EventActor) string {
	switch {
	case a.TokenID != "":
		return "token " + a.TokenID
	case a.NodeID != "":
		return "node " + a.NodeID
	}
	return ""
}

// stepText says which key a step is about, and why it was made.
func stepText(s client.KeyStep) string {
	out := []string{}
	if id := s.Fields["key_id"]; id != "" {
		out = append(out, id)
	}
	if s.Reason != "" {
		out = append(out, s.Reason)
	}
	return strings.Join(out, ": ")
}
