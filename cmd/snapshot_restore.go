package cmd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/edgecoder/edgecoder/client"
)

func (p *program) snapshotRestoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "make the contents of a backup the cluster's, after showing what that undoes",
		UsageText: "edgecoder snapshot restore FILE [--plan | --yes] [--lose-acknowledged]",
		Description: "Examples:\n  edgecoder snapshot restore before-upgrade.snapshot --plan\n  edgecoder snapshot restore before-upgrade.snapshot\n\n" +
			"Agents, bans, the chain, policy and history become the backup's; members, API tokens, keys with their schedules, the newest accepted version of each\n" +
			"manifest and stricter rules of signature profiles stay this cluster's. A new recovery epoch begins, which everybody sees. Join and enrolment tokens end. Admissions pause\n" +
			"until nothing that was used before can be used again. It goes into the cluster that the backup came from, or into another one.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "plan", Usage: "only show what it would do"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "lose-acknowledged", Usage: "acknowledged changes that the backup lacks may be lost"},
		},
		Action: p.snapshotRestore,
	}
}

// restoreView is the JSON of `snapshot restore`.
type restoreView struct {
	Plan     client.RestorePlan `json:"plan"`
	Restored *client.Restored   `json:"restored,omitempty"` // absent with --plan
}

func (p *program) snapshotRestore(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	if c.Bool("plan") && (c.Bool("yes") || c.Bool("lose-acknowledged")) {
		return usagef("--plan only shows; give --yes and --lose-acknowledged without it")
	}
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	ask := !c.Bool("plan") && !c.Bool("yes")
	if ask && (format == formatJSON || !p.interactive()) {
		return usagef("nobody is there to ask: look at the plan with --plan, then give --yes")
	}
	backup, closeFile, err := openBackup(args[0])
	if err != nil {
		return err
	}
	defer closeFile()
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	view := restoreView{}
	if view.Plan, err = api.RestorePlan(c.Context, backup); err != nil {
		return err
	}
	if c.Bool("plan") {
		return p.emit(c, view, func(t *table) { drawRestorePlan(t, view.Plan) })
	}
	if err := p.agree(c, view.Plan, ask); err != nil {
		return err
	}
	done, err := api.Restore(c.Context, backup, client.RestoreOrder{Confirm: view.Plan.Confirm, LoseAcknowledged: c.Bool("lose-acknowledged")})
	if err != nil {
		return afterRestore(err)
	}
	view.Restored = &done
	return p.emit(c, view, func(t *table) { drawRestored(t, done) })
}

func openBackup(path string) (b client.Backup, closeFile func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return b, nil, usagef("%w", err)
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() == 0) {
		err = fmt.Errorf("%s is no file with a backup in it", path)
	}
	if err != nil {
		_ = f.Close() // the error above is the one to report
		return b, nil, usagef("%w", err)
	}
	return client.Backup{ReaderAt: f, Size: info.Size()}, func() { _ = f.Close() }, nil
}

// agree shows the plan to whoever must say yes to it.
func (p *program) agree(c *cli.Context, plan client.RestorePlan, ask bool) error {
	t := &table{now: p.now()}
	drawRestorePlan(t, plan)
	if err := t.write(p.err, false); err != nil {
		return err
	}
	if plan.Older && !c.Bool("lose-acknowledged") {
		return refusedf("the backup lacks what this cluster has acknowledged since (see above); nothing was done: say --lose-acknowledged if that may be lost")
	}
	if !ask {
		return nil
	}
	fmt.Fprint(p.err, "Restore this backup? [y/N] ")
	answer, err := bufio.NewReader(p.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return refusedf("not confirmed: nothing was done")
	}
	return nil
}

// interactive tells whether somebody can be asked.
func (p *program) interactive() bool {
	f, ok := p.in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// afterRestore says how to find out what became of a restore without an answer.
func afterRestore(err error) error {
	var fromAPI *client.Error
	if errors.As(err, &fromAPI) && fromAPI.Code == client.CodeUnknownOutcome {
		return &hintedError{err, "look at the epoch in `edgecoder status`: if it is the one of the plan, the restore was done; else plan again"}
	}
	return err
}

func agentChangeText(a client.AgentChange) string {
	text := fmt.Sprintf("%s  %s -> %s", a.AgentID, a.State, orDash(a.Then))
	switch {
	case a.KeyID != "":
		text += fmt.Sprintf(", key %s -> %s", a.KeyID, a.ThenKeyID)
	case a.NewKeys:
		text += ", with other keys"
	}
	return text
}

// drawRestorePlan shows what a restore undoes, the worst first.
func drawRestorePlan(t *table, plan client.RestorePlan) {
	list(t, "bans that this restore undoes", plan.BansLost, plan.BansLostList, func(b client.Ban) string {
		return fmt.Sprintf("%s  %s  seq %d  event %s", b.AgentID, b.ReasonCode, b.Seq, b.EventID)
	})
	list(t, "bans that come back", plan.BansBack, plan.BansBackList, func(b client.Ban) string {
		return fmt.Sprintf("%s  %s  seq %d  event %s", b.AgentID, b.ReasonCode, b.Seq, b.EventID)
	})
	list(t, "agents that change", plan.AgentsChanged, plan.AgentsList, agentChangeText)
	if plan.AgentsRekeyed > 0 {
		t.row("agents with other keys", number(plan.AgentsRekeyed)+": what they changed to is unknown again, what they replaced verifies again")
	}
	list(t, "agents that are lost", plan.AgentsLost, plan.AgentsLostIDs, func(id string) string { return id })
	list(t, "agents only in the backup", plan.AgentsAdded, plan.AgentsAddedIDs, func(id string) string { return id })
	if plan.KeysAdded > 0 {
		list(t, "signing keys only in the backup", plan.KeysAdded, plan.KeysAddedList, func(k client.KeyRow) string {
			return fmt.Sprintf("%s  node %s  %s, retired", k.PeerID, k.NodeID, k.PublicKey)
		})
	}
	drawManifestPlan(t, plan)
	if plan.GoneAdded > 0 {
		list(t, "removed nodes only in the backup", plan.GoneAdded, plan.GoneAddedIDs, func(id string) string { return id + "  refused for ever" })
	}
	list(t, "tokens that end", plan.TokensEnd, plan.TokensVoid, func(id string) string { return id })
	t.row("events lost", number(plan.EventsLost)+" of the chain, "+number(plan.RecordsLost)+" administrative records")
	if plan.LedgerLost > 0 || plan.LedgerThen > 0 {
		t.row("ledger", fmt.Sprintf("%d records lost with what they moved; balances are those after record %d of the backup", plan.LedgerLost, plan.LedgerThen))
	}
	if plan.PolicyLost {
		t.row("policy", "becomes the backup's, which is another; of signature rules the stricter ones stay")
	}
	drawRulesPlan(t, plan)
	if plan.Forked {
		t.row("forked", "the backup is no past of this cluster: its history, agents or signing keys are others")
	}
	if plan.OtherCluster {
		t.row("other cluster", "the backup is of cluster "+plan.Backup.ClusterID)
	}
	t.row("backup", fmt.Sprintf("epoch %d, index %d, %d events, taken %s", plan.Backup.Epoch, plan.Backup.Index, plan.Backup.ChainSize, t.when(plan.Backup.ClockMs)))
	t.row("present", fmt.Sprintf("epoch %d, index %d, %d events", plan.Present.Epoch, plan.Present.Index, plan.Present.ChainSize))
	t.row("new epoch", number(plan.NewEpoch))
	t.row("admissions pause", fmt.Sprint(millis(plan.AdmissionsPauseMs)))
	t.row("clock", fmt.Sprintf("%s ahead, requests of %s more count as used", millis(plan.ClockJumpMs), millis(plan.FloorJumpMs)))
	for _, r := range plan.Closed {
		t.row("closed for ever", "requests signed from "+t.when(r.FromMs)+" to "+t.when(r.ToMs))
	}
	if plan.Older {
		t.row("loses", "acknowledged changes, or admissions for hours (see above): needs --lose-acknowledged")
	}
}

// drawRulesPlan shows what becomes of the rules of signature profiles, where the
// backup and the present differ in them.
func drawRulesPlan(t *table, plan client.RestorePlan) {
	text := func(s string) string { return s }
	if plan.RulesKept > 0 {
		list(t, "signature rules that stay, backup -> then", plan.RulesKept, plan.RulesKeptList, text)
	}
	if plan.RulesNew > 0 {
		list(t, "signature rules that come, now -> then", plan.RulesNew, plan.RulesNewList, text)
	}
}

// drawManifestPlan shows what becomes of accepted manifests and of the trust
// policy, where there is any of it.
func drawManifestPlan(t *table, plan client.RestorePlan) {
	row := func(m client.ManifestRow) string {
		return fmt.Sprintf("%s  %s  sha256 %s, the other has %s", m.Name, m.Version, short(m.SHA256), orDash(m.Then))
	}
	text := func(s string) string { return s }
	if plan.ManifestsKept > 0 {
		list(t, "manifests that stay accepted", plan.ManifestsKept, plan.ManifestsKeptList, row)
	}
	if plan.ManifestsAdded > 0 {
		list(t, "manifests only in the backup", plan.ManifestsAdded, plan.ManifestsAddedList, row)
	}
	if plan.TrustLost {
		t.row("manifest trust", "becomes the backup's, which is another")
		list(t, "  trusted again", len(plan.TrustBackList), plan.TrustBackList, text)
		list(t, "  trusted no more", len(plan.TrustGoneList), plan.TrustGoneList, text)
	}
}

// millis is a duration; what no duration holds is the longest.
func millis(ms int64) time.Duration {
	return time.Duration(min(ms, int64(math.MaxInt64/time.Millisecond))) * time.Millisecond
}

// list draws a bounded list under its exact count.
func list[T any](t *table, title string, count int, rows []T, text func(T) string) {
	t.row(title, number(count))
	for _, r := range rows {
		t.row("", text(r))
	}
	if more := count - len(rows); more > 0 {
		t.row("", fmt.Sprintf("and %d more", more))
	}
}

func drawRestored(t *table, done client.Restored) {
	t.row("restored", "index "+number(done.Index))
	t.row("epoch", number(done.Epoch))
	t.row("chain", fmt.Sprintf("%d events, head %s", done.ChainSize, done.ChainHead))
	t.row("admissions", "go on "+t.when(done.AdmissionsFromMs))
}
