package cmd

import (
	"github.com/urfave/cli/v2"
)

func (p *program) keysConvertCommand() *cli.Command {
	return &cli.Command{
		Name: "convert", Usage: "write a key into a file of another format",
		UsageText: "edgecoder keys convert FILE --out FILE [--bundle [--valid 90d]] [--plaintext] [--cost N] [--force]",
		Description: "FILE is a private key in any format: encrypted, bundle or PEM. The new file is encrypted, under the same passphrase if FILE had one.\n" +
			"Of a bundle the current key is taken, without its window.\n\n" +
			"Examples:\n  edgecoder keys convert old.pem --out agent-1.key\n  edgecoder keys convert coordinator.json --out coordinator.key --cost 2000000\n" +
			"  edgecoder keys convert agent-1.key --bundle --out agent-1.json",
		Flags: append(newKeyFlags(), &cli.BoolFlag{Name: "bundle", Usage: "write an EdgeCoder key bundle"}, validFlag()),
		Action: func(c *cli.Context) error {
			args, err := operands(c, "FILE")
			if err != nil {
				return err
			}
			return p.keysConvert(c, args[0])
		},
	}
}

func (p *program) keysConvert(c *cli.Context, path string) error {
	plan, err := p.planKeyFile(c)
	if err != nil {
		return err
	}
	opened, err := p.openKeyFile(keyFileFlag{where: path, path: path, passphraseFile: plan.passphraseFile})
	if err != nil {
		return err
	}
	defer opened.clear()
	pair, err := parseKeyPair(opened.pem)
	if err != nil {
		return usagef("%s: %w", path, err)
	}
	defer clear(pair.pem)
	if b := opened.bundle; b != nil && b.Previous != nil {
		p.say("warning: the previous key of %s, which may still be needed to verify with, is in that file alone", path)
	}
	if err := p.writeKeyFile(plan, pair, opened.passphrase); err != nil {
		return err
	}
	return p.showKeyFile(c, plan, pair)
}
