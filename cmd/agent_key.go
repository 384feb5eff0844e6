package cmd

import (
	"github.com/urfave/cli/v2"
)

// agentKeygenCommand is `keys generate` for agents, whose keys are Ed25519.
func (p *program) agentKeygenCommand() *cli.Command {
	return &cli.Command{
		Name: "keygen", Usage: "make the Ed25519 key of an agent",
		UsageText: "edgecoder agent keygen --out FILE [--force] [--plaintext] [--cost N]",
		Description: "The key is encrypted with the passphrase. Its public half is printed, for whoever wants to compare.\n" +
			"`edgecoder keys generate` makes other kinds of keys and files.\n\n" +
			"Examples:\n  edgecoder agent keygen --out agent-1.key\n  edgecoder agent keygen --out agent-1.key --passphrase-file pass.txt --format json",
		Flags:  newKeyFlags(),
		Action: func(c *cli.Context) error { return p.generateKey(c, typeEd25519) },
	}
}
