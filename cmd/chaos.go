package cmd

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/chaos"
	"github.com/edgecoder/edgecoder/terminal"
)

func (p *program) chaosCommand() *cli.Command {
	return &cli.Command{
		Name: "chaos", Usage: "break a throw-away cluster on purpose, and judge what its clients saw",
		Subcommands: []*cli.Command{
			{
				Name: "run", Usage: "carry out a scenario on a fresh cluster of its own",
				UsageText: "edgecoder chaos run SCENARIO [--out DIR] [--seed N] [--duration 5m] [--nodes 3] [--netns]",
				Description: "Writes history, timeline, logs, verdict and report.html to DIR. The servers' data stays unless every promise was kept.\n" +
					"Exit status: 0 all kept, 1 one was broken, 3 it could not be decided.\n\n" +
					"Examples:\n  edgecoder chaos run kill-leader\n  edgecoder chaos run explore --seed 42 --duration 10m\n  sudo edgecoder chaos run explore-all --netns",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "out", Usage: "`DIR` of the run (default: chaos-runs/SCENARIO-TIME)"},
					&cli.Uint64Flag{Name: "seed", Usage: "draws traffic and random faults"},
					&cli.DurationFlag{Name: "duration", Usage: "how long traffic runs, instead of the scenario's own"},
					&cli.IntFlag{Name: "nodes", Usage: "how many servers, instead of the scenario's own"},
					&cli.BoolFlag{Name: "netns", Usage: "may make network namespaces and small file systems (root)"},
					&cli.BoolFlag{Name: "allow-skips", Usage: "pass without the faults that this machine cannot do"},
					&cli.BoolFlag{Name: "keep", Usage: "keep the servers' data after a pass too"},
				},
				Action: p.chaosRun,
			},
			{
				Name: "list", Usage: "the scenarios", UsageText: "edgecoder chaos list",
				Description: "Example:\n  edgecoder chaos list --format json", Action: p.chaosList,
			},
			{
				Name: "clean", Usage: "remove what a killed run left behind: servers, namespaces, mounts", UsageText: "edgecoder chaos clean DIR",
				Description: "Removes only what the run's own list names and what is still the same. The run's directory stays.\n\n" +
					"Example:\n  sudo edgecoder chaos clean chaos-runs/partitions-20260102-150405", Action: p.chaosClean,
			},
			{
				Name: "report", Usage: "judge a saved run again and write its report anew", UsageText: "edgecoder chaos report DIR",
				Description: "Example:\n  edgecoder chaos report chaos-runs/kill-leader-20260102-150405", Action: p.chaosReport,
			},
		},
	}
}

func (p *program) chaosRun(c *cli.Context) error {
	args, err := operands(c, "SCENARIO")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err // before minutes of traffic
	}
	s, err := chaos.Lookup(args[0])
	if err != nil {
		return usagef("%w", err)
	}
	if p.given["seed"] {
		s.Seed = c.Uint64("seed")
	}
	if p.given["nodes"] {
		s.Nodes = c.Int("nodes")
	}
	if p.given["duration"] {
		s.Duration = chaos.Duration(c.Duration("duration"))
	}
	if err := s.Validate(); err != nil {
		return usagef("%w", err)
	}
	dir := c.String("out")
	if dir == "" {
		dir = filepath.Join("chaos-runs", s.Name+"-"+p.now().UTC().Format("20060102-150405"))
	}
	p.say("%s: %s, traffic for %s, into %s", s.Name, s.Description, time.Duration(s.Duration), dir)
	ctx, hurry, stop := p.untilSignalled(c.Context)
	defer stop()
	res, err := chaos.Run(ctx, s, chaos.Options{Dir: dir, Hurry: hurry, AllowSkips: c.Bool("allow-skips"), Netns: c.Bool("netns"), Keep: c.Bool("keep"), Version: Version, Progress: p.say})
	if err != nil {
		return err
	}
	return p.printVerdict(c, res)
}

// untilSignalled returns a context that a signal ends, SIGHUP too, and one that
// a second signal ends which is no echo of the first. No signal kills us before
// we have cleaned up.
func (p *program) untilSignalled(ctx context.Context) (first, second context.Context, stop func()) {
	watched := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup wants it to stay so
		watched = append(watched, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, watched...)
	first, end := context.WithCancel(ctx)
	second, hurry := context.WithCancel(context.Background())
	go func() {
		var since time.Time
		for range signals {
			if since.IsZero() {
				since = time.Now()
				p.say("ending the run and cleaning up; once more kills the servers")
				end()
			} else if time.Since(since) >= signalEcho {
				hurry()
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		close(signals)
		end()
		hurry()
	}
}

func (p *program) chaosClean(c *cli.Context) error {
	args, err := operands(c, "DIR")
	if err != nil {
		return err
	}
	if _, err := os.Stat(args[0]); err != nil {
		return usagef("%w", err)
	}
	if err := chaos.Clean(c.Context, args[0]); err != nil {
		return err
	}
	p.say("nothing of the run in %s is left outside of it", args[0])
	return nil
}

func (p *program) chaosReport(c *cli.Context) error {
	args, err := operands(c, "DIR")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	if _, err := os.Stat(args[0]); err != nil {
		return usagef("%w", err)
	}
	res, err := chaos.Report(c.Context, args[0])
	if err != nil {
		return err
	}
	return p.printVerdict(c, res)
}

// printVerdict prints what came of a run and turns it into the exit status.
func (p *program) printVerdict(c *cli.Context, res chaos.Result) error {
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	if format == formatJSON {
		err = writeJSON(p.out, res)
	} else {
		_, err = fmt.Fprintf(p.out, "%s\nreport: %s\n", terminal.Plain(res.Summary), res.Report)
	}
	switch {
	case err != nil:
		return err
	case res.Failed():
		return refusedf("a promise was broken: everything about it is in %s", res.Dir)
	case !res.Passed():
		return unknownf("it could not be decided whether every promise was kept: the reasons are in %s", res.Report)
	}
	return nil
}

func (p *program) chaosList(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	all := chaos.Scenarios()
	return p.emit(c, all, func(t *table) {
		t.row("NAME", "NODES", "TRAFFIC", "NEEDS", "WHAT")
		for _, s := range all {
			needs := "-"
			if len(s.Needs) > 0 {
				needs = fmt.Sprint(s.Needs)
			}
			t.row(s.Name, strconv.Itoa(s.Nodes), time.Duration(s.Duration).String(), needs, s.Description)
		}
	})
}
