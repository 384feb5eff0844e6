package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

func (p *program) keysCommand() *cli.Command {
	return &cli.Command{
		Name: "keys", Usage: "the cluster's keys and their schedules; key files: make, inspect, convert, change the passphrase",
		Subcommands: []*cli.Command{
			p.keysListCommand(), p.keysShowCommand(), p.keysHistoryCommand(), p.keysScheduleCommand(), p.keysRotateCommand(), p.keysRevokeCommand(), p.keysCACommand(),
			p.keysGenerateCommand(), p.keysInspectCommand(), p.keysPassphraseCommand(), p.keysConvertCommand(),
		},
	}
}

func passphraseFlag() cli.Flag {
	return &cli.StringFlag{Name: "passphrase-file", EnvVars: []string{"EDGECODER_PASSPHRASE_FILE"},
		Usage: "`FILE` with the key file's passphrase, - for standard input; else EDGECODER_PASSPHRASE, a systemd credential, or a prompt"}
}

// passphraseSource lists where passphrases come from, here and in `server`.
func (p *program) passphraseSource(file, label string, confirm bool) keyfile.PassphraseSource {
	return keyfile.PassphraseSource{
		File: file, Env: "EDGECODER_PASSPHRASE", CredentialName: "passphrase", Prompt: true,
		Label: label, Confirm: confirm,
	}
}

func costFlag(usage string) cli.Flag {
	return &cli.IntFlag{Name: "cost", Usage: usage}
}

// costOf returns the cost that --cost asks for.
func costOf(c *cli.Context) (keyfile.Params, error) {
	cost := keyfile.Params{Iterations: keyIterations}
	if c.IsSet("cost") {
		cost.Iterations = c.Int("cost")
		if cost.Iterations == 0 {
			return cost, usagef("--cost 0: leave it out for the default of %d", keyfile.DefaultIterations)
		}
	}
	if err := cost.Check(); err != nil {
		return cost, usagef("--cost: %w", err)
	}
	return cost, nil
}
