package cmd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/node"
)

func (p *program) recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "rebuild a cluster that lost its majority for ever",
		UsageText: "edgecoder recover --data-dir DIR [--data-dir DIR…] [--choose NAME] [--yes]",
		Description: "Give the data directories of all coordinators that are left; their servers must be stopped. It shows what each copy holds,\n" +
			"which one it would go on from and why, and what may be lost. Nothing is changed before --yes: then the chosen copy becomes a\n" +
			"cluster of one in a new recovery epoch, all other members are removed, and join and enrolment tokens are void.\n" +
			"Everybody else joins again with an empty data directory. The old directories must never run again: enough of them together\n" +
			"would go on from the past. Those given here are retired; do that with --retire to all others that are found.\n\n" +
			"A majority that is only down needs no recovery: start its servers.\n\n" +
			"Examples:\n  edgecoder recover --data-dir /var/lib/edgecoder --passphrase-file /etc/edgecoder/passphrase\n" +
			"  edgecoder recover --data-dir a --data-dir b --passphrase-file pass --lose-acknowledged --yes\n" +
			"  edgecoder recover --retire --data-dir c\n  edgecoder recover clock",
		Flags:       recoverFlags(),
		Action:      p.recoverCluster,
		Subcommands: []*cli.Command{p.recoverClockCommand()},
	}
}

func recoverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "data-dir", Usage: "data `DIR` of a stopped server; repeat it for each copy that is left"},
		&cli.StringSliceFlag{Name: "passphrase-file", EnvVars: []string{"EDGECODER_PASSPHRASE_FILE"},
			Usage: "`FILE` with the passphrase of the servers' keys, once for all or once for each --data-dir in order; or EDGECODER_PASSPHRASE, the systemd credential \"passphrase\", a prompt"},
		&cli.StringFlag{Name: "choose", Usage: "go on from the copy of `NAME` (or id, or directory) instead of the newest"},
		&cli.BoolFlag{Name: "lose-acknowledged", Usage: "go ahead though acknowledged records may be lost"},
		&cli.BoolFlag{Name: "revoke-tokens", Usage: "end all tokens, of services too; the next start of the server shows a new admin token, once"},
		&cli.BoolFlag{Name: "keep-restore", Usage: "go on from a restore that the cluster may have gone on without"},
		&cli.StringSliceFlag{Name: "ignore-reachable", Usage: "go ahead though coordinator `NAME` seems to be up"},
		&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the record"},
		&cli.BoolFlag{Name: "retire", Usage: "mark each --data-dir so that its server refuses to start, and do nothing else"},
		&cli.BoolFlag{Name: "yes", Usage: "do it"},
	}
}

func (p *program) recoverCluster(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	dirs := c.StringSlice("data-dir")
	if len(dirs) == 0 {
		return usagef("--data-dir is missing: name the data directory of each coordinator that is left; see `%s --help`", c.Command.HelpName)
	}
	if c.Bool("retire") {
		return p.retire(c, dirs)
	}
	o := node.RecoveryOptions{Choose: c.String("choose"), LoseAcknowledged: c.Bool("lose-acknowledged"), KeepRestore: c.Bool("keep-restore"),
		RevokeTokens:    c.Bool("revoke-tokens"),
		IgnoreReachable: c.StringSlice("ignore-reachable"), Reason: c.String("reason"), Now: p.now}
	var err error
	o.Dirs, err = p.recoveryDirs(dirs, c.StringSlice("passphrase-file"))
	defer forgetPassphrases(o.Dirs)
	if err != nil {
		return err
	}
	r, err := node.OpenRecovery(c.Context, o)
	if err != nil {
		return err
	}
	return errors.Join(p.runRecovery(c, r), r.Close())
}

func forgetPassphrases(dirs []node.RecoveryDir) {
	for _, d := range dirs {
		clear(d.Passphrase)
	}
}

// recoveryDirs reads the passphrase of each directory; those it read stand in
// the answer beside an error too, to be wiped.
func (p *program) recoveryDirs(dirs, files []string) ([]node.RecoveryDir, error) {
	if len(files) > 1 && len(files) != len(dirs) {
		return nil, usagef("--passphrase-file is given %d times for %d directories: give it once for all, or once for each", len(files), len(dirs))
	}
	var out []node.RecoveryDir
	for i, dir := range dirs {
		d := node.RecoveryDir{DataDir: dir}
		if i > 0 && len(files) == 1 {
			d.Passphrase = out[0].Passphrase // it may come from standard input, once
		} else {
			file := ""
			if len(files) > 0 {
				file = files[i]
			}
			var err error
			if d.Passphrase, err = p.passphraseSource(file, "passphrase of "+dir, false).Get(); err != nil {
				return out, usagef("%s: %w", dir, hintPassphrase(err, "give --passphrase-file"))
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// runRecovery shows the plan, or does what it says.
func (p *program) runRecovery(c *cli.Context, r *node.Recovery) error {
	plan := r.Plan()
	if !c.Bool("yes") || len(plan.Refusals) > 0 {
		if err := p.emit(c, plan, func(t *table) { drawPlan(t, plan) }); err != nil {
			return err
		}
		if len(plan.Refusals) > 0 {
			return refusedf("recovery refused:%s", refusals(plan.Refusals))
		}
		p.say("nothing was changed; with --yes the copy of %s becomes the cluster", plan.ChosenName)
		return nil
	}
	done, err := r.Execute()
	if err != nil {
		return err
	}
	view := recoveredView{RecoveryDone: done, Next: append(p.afterRecovery(done), tokenSteps(done, c.Bool("revoke-tokens"))...)}
	return p.emit(c, view, func(t *table) { drawRecovered(t, view) })
}

// refusals lists why not, each with the flag that overrules it.
func refusals(all []node.Refusal) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "\n  %s", f.Reason)
		if f.Flag != "" {
			fmt.Fprintf(&b, " (overruled by %s)", f.Flag)
		}
	}
	return b.String()
}

func drawPlan(t *table, plan node.RecoveryPlan) {
	t.row("NAME", "EPOCH", "SNAPSHOT", "LAST ENTRY", "OF TERM", "TERM", "CHAIN", "VOTERS", "COPY", "DIRECTORY")
	for _, c := range plan.Copies {
		t.row(nodeLabel(c), number(c.Epoch), number(c.SnapshotIndex), number(c.LastIndex), number(c.LastTerm), number(c.CurrentTerm),
			number(c.ChainSize)+":"+short(c.ChainHead), number(len(c.Voters)), copyState(c), c.DataDir)
	}
	t.row("")
	t.row("cluster", plan.ClusterID)
	for _, c := range plan.Copies {
		for _, d := range c.Damage {
			t.row("damage", nodeLabel(c)+": "+d)
		}
	}
	t.row("would go on from", orDash(plan.ChosenName)+"  "+plan.ChosenDir)
	for _, why := range plan.Why {
		t.row("", why)
	}
	t.row("may lose", mayLose(plan.MayLose))
	drawRisk(t, plan.Risk, false)
	for _, r := range plan.Reachable {
		t.row("answers", r.Name+" at "+r.Address+": "+r.Answer)
	}
	t.row("clock here", t.when(plan.WallMs)+", the cluster's becomes that unless it is ahead")
	t.row("note", "the newest entries of a log may never have been acknowledged: whoever recovers keeps them")
}

func nodeLabel(c *node.SurvivingCopy) string {
	if c.Name != "" {
		return c.Name
	}
	return c.NodeID
}

func copyState(c *node.SurvivingCopy) string {
	switch {
	case len(c.Damage) > 0:
		return "damaged"
	case c.Retired != nil:
		return "retired"
	case c.Diverged:
		return "differs"
	case c.Recovered:
		return "recovered"
	case c.Restore != "":
		return "restore " + c.Restore
	case c.Role != "coordinator":
		return c.Role
	}
	return "sound"
}

func mayLose(yes bool) string {
	if yes {
		return "acknowledged records that are only on copies which are not here, or are left aside"
	}
	return "nothing that was acknowledged"
}

// recoveredView is the JSON of a recovery.
type recoveredView struct {
	node.RecoveryDone
	Next []string `json:"next"`
}

// afterRecovery tells what to do next, step by step.
func (p *program) afterRecovery(done node.RecoveryDone) []string {
	self := shellWord(p.self)
	next := []string{
		fmt.Sprintf("start %s with the command line it always had: %s server --data-dir %s …   (or: %s cluster start %s)",
			done.Name, self, shellWord(done.DataDir), self, shellWord(done.Name)),
	}
	retired := map[string]bool{}
	for _, c := range done.LeftAside {
		retired[c.NodeID] = true
		next = append(next, fmt.Sprintf("%s (%s) is retired, its directory must not run again: mv %s %s", nodeLabel(c), c.NodeID, shellWord(c.DataDir), shellWord(c.DataDir+".old")))
	}
	for _, gone := range done.Removed {
		if retired[gone.NodeID] {
			continue
		}
		next = append(next, fmt.Sprintf("%s (%s) is no member any more: wherever its old data directory is, destroy it, or %s recover --retire --data-dir DIR", gone.Name, gone.NodeID, self))
	}
	return append(next,
		fmt.Sprintf("for each server that is to join again, with an empty data directory: %s token create --role coordinator   (prints the command line)   (or: %s cluster start NAME)", self, self),
		"make enrolment tokens anew: those from before are void")
}

func drawRecovered(t *table, v recoveredView) {
	what := "recovered"
	if v.Finished {
		what = "finished an earlier recovery"
	}
	t.row(what, v.Name+"  "+v.NodeID)
	t.row("cluster", v.ClusterID)
	t.row("epoch", number(v.Epoch))
	t.row("chain", number(v.ChainSize)+":"+short(v.ChainHead))
	if v.AdmissionsFromMs != 0 {
		t.row("admissions", "begin at "+t.when(v.AdmissionsFromMs)+": what was signed before cannot be told from what was used")
	}
	drawRisk(t, v.Risk, v.AdminToken != "")
	t.row("")
	for i, step := range v.Next {
		t.row(number(i+1)+".", step)
	}
}

// retire marks directories.
func (p *program) retire(c *cli.Context, dirs []string) error {
	reason := c.String("reason")
	if reason == "" {
		reason = "an operator retired it"
	}
	for _, dir := range dirs {
		if err := node.Retire(dir, reason, p.now()); err != nil {
			return fmt.Errorf("retire %s: %w", dir, err)
		}
	}
	view := struct {
		Retired []string `json:"retired"`
		AtMs    int64    `json:"at_ms"`
	}{dirs, p.now().Truncate(time.Millisecond).UnixMilli()}
	return p.emit(c, view, func(t *table) {
		for _, dir := range dirs {
			t.row(dir, "retired", "its server refuses to start")
		}
	})
}
