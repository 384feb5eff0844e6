// Package cmd is the command line of EdgeCoder: it parses, validates and
// calls. Results go to standard output, everything else to standard error, and
// the exit status says how it ended: 0 done or verified, 1 refused or not
// verified, 2 usage, 3 cluster unavailable or outcome unknown.
package cmd

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

const programName = "edgecoder"

// Version is the version of this binary, set by the linker at release.
var Version = "dev"

// signalEcho is how long a second signal counts as the first one's echo: a
// supervisor such as timeout(1) signals the process and then its group.
const signalEcho = time.Second

// program is one run of the command line and what it needs of the process.
type program struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	rand     io.Reader
	colour   bool            // out is a terminal, and NO_COLOR is not set
	self     string          // how this binary was called, for command lines that people copy
	given    map[string]bool // flags that stood on the command line, rather than in the environment
}

// Main runs the command line args, program name first, and returns the exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(signalEcho, stop) }) // then a second Ctrl-C ends the process at once
	// A reader that went away, as in "edgecoder demo | head", must not kill us
	// while servers of ours run: writing fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now, rand: rand.Reader, self: args[0]}
	p.colour = os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(os.Stdout.Fd()))
	return p.run(ctx, args[1:])
}

// run executes one command line without the program name.
func (p *program) run(ctx context.Context, args []string) int {
	err := p.execute(ctx, args)
	if err != nil {
		printError(p.err, err)
	}
	return exitStatus(err)
}

func (p *program) execute(ctx context.Context, args []string) error {
	app := p.app()
	if len(args) > 0 && args[0] == completeCommand {
		return p.complete(p.out, app, args[1:])
	}
	sorted, err := sortArgs(app, args)
	if err != nil {
		return err
	}
	p.given = sorted.given
	if sorted.bare {
		app.Writer = p.err
		if err := app.RunContext(ctx, append([]string{programName}, append(sorted.args, "--help")...)); err != nil {
			return err
		}
		return usagef("which of these? See above")
	}
	return app.RunContext(ctx, append([]string{programName}, sorted.args...))
}

// app declares every command; each file of a command group adds its own.
func (p *program) app() *cli.App {
	app := &cli.App{
		Name:            programName,
		Usage:           "the trust plane of a mesh of machines: who may act, who is banned, what was already used",
		UsageText:       "edgecoder [global flags] COMMAND [flags] [arguments]",
		Description:     appDescription,
		HideVersion:     true,
		HideHelpCommand: true,
		Reader:          p.in,
		Writer:          p.out,
		ErrWriter:       p.err,
		Flags:           globalFlags(),
		OnUsageError:    onUsageError,
		ExitErrHandler:  func(*cli.Context, error) {}, // run decides
		Commands: []*cli.Command{
			p.serverCommand(), p.edgeCommand(), p.clusterCommand(), p.demoCommand(),
			p.statusCommand(), p.membersCommand(), p.peersCommand(), p.leaderCommand(),
			p.policyCommand(), p.tokenCommand(), p.agentCommand(), p.keysCommand(),
			p.signCommand(), p.admitCommand(), p.blacklistCommand(), p.envelopeCommand(), p.manifestCommand(), p.ledgerCommand(), p.eventsCommand(), p.auditCommand(), p.snapshotCommand(), p.recoverCommand(), p.benchCommand(), p.chaosCommand(),
			p.versionCommand(), p.completionCommand(),
		},
	}
	app.DisableSliceFlagSeparator = true // a path may hold a comma
	settle(app.Commands)
	return app
}

const appDescription = `Start with "edgecoder demo" for a guided tour, or "edgecoder cluster up" for a cluster on this machine.

Flags may stand before or after arguments. Results go to standard output, messages to standard error.
Exit status: 0 done or verified, 1 refused or not verified, 2 usage, 3 cluster unavailable or outcome unknown.`

// settle gives all commands the manners of the house.
func settle(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true // else an agent called "help" could not be named
		c.OnUsageError = onUsageError
		settle(c.Subcommands)
	}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usagef("%w", err) }

// operands returns the positionals of c, one for each name; a name in brackets
// is optional, one that ends in "..." takes the rest.
func operands(c *cli.Context, names ...string) ([]string, error) {
	got := c.Args().Slice()
	least, most := 0, len(names)
	for _, name := range names {
		if name[0] != '[' {
			least++
		}
		if hasDots(name) {
			most = int(^uint(0) >> 1)
		}
	}
	switch {
	case len(got) < least:
		return nil, usagef("%s is missing; see `%s --help`", names[len(got)], c.Command.HelpName)
	case len(got) > most:
		return nil, usagef("unexpected argument %q; see `%s --help`", got[most], c.Command.HelpName)
	}
	for i, value := range got {
		if value == "" {
			return nil, usagef("%s is empty; see `%s --help`", names[min(i, len(names)-1)], c.Command.HelpName)
		}
	}
	return got, nil
}

func hasDots(name string) bool {
	return len(name) > 3 && (name[len(name)-3:] == "..." || name[len(name)-4:] == "...]")
}
