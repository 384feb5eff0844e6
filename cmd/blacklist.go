package cmd

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

func (p *program) blacklistCommand() *cli.Command {
	return &cli.Command{
		Name: "blacklist", Usage: "who is banned and why, and the chain that proves it",
		Subcommands: []*cli.Command{
			p.blacklistAddCommand(),
			{
				Name: "lift", Usage: "end a ban, by a new event that supersedes it",
				UsageText: "edgecoder blacklist lift AGENT --reason TEXT [--wait quorum|all]", Description: "Example:\n  edgecoder blacklist lift agent-1 --reason 'appeal of 3 May granted'",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why; it stays in the chain for ever"}, waitFlag()},
				Action: p.blacklistLift,
			},
			{
				Name: "list", Usage: "the bans in force",
				UsageText: "edgecoder blacklist list", Description: "Example:\n  edgecoder blacklist list --format json",
				Flags: []cli.Flag{strongFlag()}, Action: p.blacklistList,
			},
			{
				Name: "show", Usage: "the ban in force on one agent",
				UsageText: "edgecoder blacklist show AGENT", Description: "Exit status 1 when the agent is not banned.\n\nExample:\n  edgecoder blacklist show agent-1",
				Flags: []cli.Flag{strongFlag()}, Action: p.blacklistShow,
			},
			p.blacklistAuditCommand(), p.blacklistVerifyCommand(), p.blacklistCheckpointCommand(), p.blacklistCosignersCommand(), p.blacklistProofCommand(),
		},
	}
}

func (p *program) blacklistLift(c *cli.Context) error {
	args, err := operands(c, "AGENT")
	if err != nil {
		return err
	}
	if c.String("reason") == "" {
		return usagef("--reason is missing: say why the ban on %s ends", args[0])
	}
	need, err := waitOf(c)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	change, err := api.Lift(c.Context, args[0], c.String("reason"))
	if err != nil {
		return err
	}
	return p.emitChange(c, api, need, "lifted", args[0], change)
}

func drawChange(t *table, what, agent string, change client.BlacklistChange) {
	t.row(what, agent)
	t.row("event", change.EventID)
	if change.Repeated {
		t.row("note", "an earlier try did it")
	}
	t.row("chain head", orDash(change.ChainHead))
	t.row("chain size", number(change.Size))
	t.row("index", number(change.Index))
}

func (p *program) blacklistList(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	all := client.Bans{Bans: []client.Ban{}}
	for after := ""; ; {
		page, err := api.Bans(c.Context, append(freshness(c), client.Page(after, pageSize))...)
		if err != nil {
			return err
		}
		all.Size, all.ChainHead = page.Size, page.ChainHead
		all.Bans = append(all.Bans, page.Bans...)
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.emit(c, all, func(t *table) { drawBans(t, all) })
}

func drawBans(t *table, bans client.Bans) {
	t.row("AGENT", "REASON CODE", "SINCE", "UNTIL", "SEQ", "EVENT")
	for _, b := range bans.Bans {
		t.row(b.AgentID, b.ReasonCode, t.when(b.TimestampMs), until(t, b.ExpiresAtMs), number(b.Seq), b.EventID)
	}
}

func until(t *table, expiresMs int64) string {
	if expiresMs == 0 {
		return "no end"
	}
	return t.when(expiresMs)
}

func (p *program) blacklistShow(c *cli.Context) error {
	args, api, err := p.ask(c, "AGENT")
	if err != nil {
		return err
	}
	ban, err := api.BanOn(c.Context, args[0], freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, ban, func(t *table) { drawBan(t, ban) })
}

func drawBan(t *table, b client.Ban) {
	t.row("banned", b.AgentID)
	t.row("reason code", b.ReasonCode)
	if e, err := crypto.ParseBlacklistEvent(b.Event); err == nil {
		t.row("reason", strings.ReplaceAll(e.Reason, "\n", " "))
		t.row("reporter", e.ReporterID)
		t.row("signed by", e.SourceCoordinatorID)
		t.row("evidence sha256", e.EvidenceHashSHA256)
	}
	t.row("since", t.when(b.TimestampMs))
	t.row("until", until(t, b.ExpiresAtMs))
	t.row("event", b.EventID)
	t.row("event hash", b.EventHash)
	t.row("seq", number(b.Seq))
}
