package cmd

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/node"
)

func (p *program) snapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "backups: save, inspect, verify, restore",
		Subcommands: []*cli.Command{
			{
				Name: "save", Usage: "save the whole state and history to a file, and verify it",
				UsageText: "edgecoder snapshot save FILE|DIR [--force] [--local]",
				Description: "Examples:\n  edgecoder snapshot save /backups/\n  edgecoder snapshot save before-upgrade.snapshot\n\n" +
					"The file holds everything but private keys and the texts of tokens; it is for your eyes only (mode 0600). In a directory it is\n" +
					"called edgecoder-CLUSTER-EPOCH-INDEX.snapshot. It gets its name once it is verified; until then it is .edgecoder-*.partial beside it.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "force", Usage: "replace FILE if it is there"},
					&cli.BoolFlag{Name: "local", Usage: "what the node that answers has, even without a leader"},
				},
				Action: p.snapshotSave,
			},
			{
				Name: "inspect", Usage: "say what a backup holds; its checksums must be right",
				UsageText:   "edgecoder snapshot inspect FILE",
				Description: "Example:\n  edgecoder snapshot inspect before-upgrade.snapshot --format json\n\nNeeds no cluster.",
				Action:      p.snapshotInspect,
			},
			p.snapshotVerifyCommand(),
			p.snapshotRestoreCommand(),
		},
	}
}

// savedView is the JSON of `snapshot save`.
type savedView struct {
	File string `json:"file"`
	node.BackupReport
}

func (p *program) snapshotSave(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	path, dir := args[0], filepath.Dir(args[0])
	info, err := os.Stat(path)
	named := err != nil || !info.IsDir() // and not the directory it goes to
	if !named {
		dir = path
	} else if err := mayReplace(c, path); err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".edgecoder-*.partial") // mode 0600, and new: nobody can put anything in its way
	if err != nil {
		return usagef("%w", err)
	}
	defer os.Remove(f.Name()) // gone once it has its name
	if err := download(c, api, f); err != nil {
		return err
	}
	report, err := node.VerifyBackup(f.Name(), p.progress())
	if err != nil {
		return unknownf("what arrived is no whole backup, it is not kept: %w", err)
	}
	if !named {
		path = filepath.Join(dir, report.FileName())
	}
	if err := giveName(f.Name(), path, c.Bool("force")); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return p.emit(c, savedView{path, report}, func(t *table) {
		t.row("saved", path)
		t.row("backup", "verified")
		drawBackup(t, report.BackupInfo)
	})
}

func mayReplace(c *cli.Context, path string) error {
	if c.Bool("force") {
		return nil
	}
	return isFree(path)
}

// download writes a backup to a new file, durable once it returns.
func download(c *cli.Context, api *client.Client, f *os.File) error {
	defer f.Close()
	opts := []client.Option{client.Strong()}
	if c.Bool("local") {
		opts = nil
	}
	if _, err := api.Snapshot(c.Context, f, opts...); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (p *program) snapshotInspect(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	if _, err := formatOf(c); err != nil {
		return err
	}
	info, err := node.InspectBackup(args[0])
	if err != nil {
		return backupFault(args[0], err)
	}
	return p.emit(c, info, func(t *table) { drawBackup(t, info) })
}

// backupFault tells a bad backup, which is an answer, from a file that cannot be read.
func backupFault(path string, err error) error {
	if errors.Is(err, node.ErrBackup) {
		return refusedf("%s: %w", path, err)
	}
	return usagef("%w", err)
}

func drawBackup(t *table, b node.BackupInfo) {
	t.row("cluster", b.ClusterID)
	t.row("epoch", number(b.Epoch))
	t.row("index", number(b.Index))
	t.row("taken", t.when(b.ClockMs))
	t.row("chain", fmt.Sprintf("%d events, head %s", b.ChainSize, b.ChainHead))
	t.row("admin records", number(b.AdminRecords))
	t.row("ledger records", number(b.LedgerSize))
	for _, name := range slices.Sorted(maps.Keys(b.Tables)) {
		if counted[name] {
			t.row(name, number(b.Tables[name]))
		}
	}
	t.row("size", fmt.Sprintf("%d bytes, %d of them history", b.Bytes, b.HistoryBytes))
	t.row("format", fmt.Sprintf("%d, feature level %d", b.Format, b.FeatureLevel))
	t.row("state digest", b.StateDigest)
	t.row("sha256", b.SHA256)
}

// counted are the tables whose rows tell a person something; JSON has them all.
var counted = map[string]bool{"agents": true, "bans": true, "coordinators": true, "tokens": true, "nonces": true, "removed": true}

// progress tells on standard error how far a long verification came.
func (p *program) progress() node.Progress {
	return func(events, of uint64) { p.say("verified %d of %d events", events, of) }
}
