package cmd

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) recoverClockCommand() *cli.Command {
	return &cli.Command{
		Name: "clock", Usage: "set a cluster clock back that ran ahead of the world",
		UsageText: "edgecoder recover clock [--reason TEXT] [--yes]",
		Description: "The cluster clock never runs back by itself. If a majority of the coordinators' clocks was ahead once, honest requests are refused\n" +
			"as too old until the world has caught up. First set the clocks of the machines right, and restart servers that were started\n" +
			"while they were wrong (their certificates would not be valid yet); then this command sets the cluster clock to the leader's.\n" +
			"It shows the clocks, and changes nothing without --yes.\n\n" +
			"Examples:\n  edgecoder recover clock\n  edgecoder recover clock --reason \"time server was a day ahead\" --yes",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the record"},
			&cli.BoolFlag{Name: "yes", Usage: "do it"},
		},
		Action: p.recoverClock,
	}
}

func (p *program) recoverClock(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	if c.Bool("yes") {
		done, err := api.RecoverClock(c.Context, client.ClockRecovery{Reason: c.String("reason")})
		if err != nil {
			return err
		}
		return p.emit(c, done, func(t *table) { drawClockRecovered(t, done) })
	}
	clocks, err := api.Clocks(c.Context, client.Strong())
	if err != nil {
		return err
	}
	if err := p.emit(c, clocks, func(t *table) { drawClocks(t, clocks) }); err != nil {
		return err
	}
	leader := leaderClock(clocks)
	switch {
	case leader == nil:
		return unknownf("the leader's clock is not known here: ask again, or another node")
	case leader.AheadMs <= 0:
		return refusedf("the cluster clock does not run ahead of the leader's: there is nothing to recover")
	}
	p.say("nothing was changed; --yes sets the cluster clock back by %s", span(leader.AheadMs))
	return nil
}

// leaderClock returns the leader's row, nil when its clock is not known.
func leaderClock(clocks client.Clocks) *client.VoterClock {
	for i, v := range clocks.Voters {
		if v.Leader && v.WallMs != 0 {
			return &clocks.Voters[i]
		}
	}
	return nil
}

func drawClocks(t *table, clocks client.Clocks) {
	t.row("cluster clock", t.when(clocks.ClockMs))
	t.row("epoch", number(clocks.Epoch))
	for _, v := range clocks.Voters {
		what := "voter"
		if v.Leader {
			what = "leader"
		}
		if v.WallMs == 0 {
			t.row(what, v.Name+": its clock was not heard of lately")
			continue
		}
		t.row(what, v.Name+": "+t.when(v.WallMs), "the cluster clock is "+aheadOf(v.AheadMs))
	}
	if leader := leaderClock(clocks); leader != nil && leader.AheadMs > 0 {
		t.row("")
		t.row("would do", fmt.Sprintf("set the cluster clock back by %s, to the leader's, if a majority of voters agrees with that to 5 s", span(leader.AheadMs)))
		t.row("", fmt.Sprintf("open recovery epoch %d, which everybody can see; join and enrolment tokens become void", clocks.Epoch+1))
		t.row("", fmt.Sprintf("pause admissions for %s: what was signed before cannot be told from what was used", span(clocks.MaxSkewMs)))
		t.row("", "close for ever the timestamps from then to the old clock: the nonces of some of them are forgotten")
	}
}

func aheadOf(ms int64) string {
	if ms < 0 {
		return span(-ms) + " behind it"
	}
	return span(ms) + " ahead of it"
}

func span(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).String()
}

func drawClockRecovered(t *table, done client.ClockRecovered) {
	t.row("cluster clock", t.when(done.ClockMs))
	t.row("epoch", number(done.Epoch))
	if done.AdmissionsFromMs != 0 {
		t.row("admissions", "begin at "+t.when(done.AdmissionsFromMs))
	}
	t.row("index", number(done.Index))
}
