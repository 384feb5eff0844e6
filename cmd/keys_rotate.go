package cmd

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

func (p *program) keysRotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "ask for the next key of a subject, or bring it",
		UsageText: "edgecoder keys rotate SUBJECT [--key FILE --new-key FILE [--in TIME]] [--recover --new-key FILE --reason TEXT]",
		Description: subjectsHelp + "Without --new-key its owner is asked: coordinators and the cluster do it themselves within seconds, an agent learns of it when it looks.\n" +
			"With --key and --new-key the current key names the next one. For an agent that needs no token: its key is the credential. Both keys verify\nuntil the overlap is over, so switch at your leisure.\n" +
			"With --recover an operator replaces the key of an agent that lost it, and revokes what it had.\n\n" +
			"Examples:\n  edgecoder keys rotate coordinator/node2\n  edgecoder keys rotate certificate/node2\n  edgecoder keys rotate agent/agent-1 --key agent-1.key --new-key agent-1.next.key --cluster-id 0a1b…\n" +
			"  edgecoder keys rotate agent/agent-1 --recover --new-key agent-1.next.key --reason 'the disk died'",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "`FILE` with the current key"},
			&cli.StringFlag{Name: "new-key", Usage: "`FILE` with the next key (edgecoder agent keygen)"},
			&cli.StringFlag{Name: "in", Usage: "`TIME` from now at which the next key begins, such as 1h (default: at once)"},
			&cli.StringFlag{Name: "cluster-id", Usage: "`ID` of the cluster, if no API token names it"},
			&cli.BoolFlag{Name: "recover", Usage: "replace an agent's lost key, and revoke all that it had"},
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` for the record of a recovery"},
			passphraseFlag(),
			&cli.StringFlag{Name: "new-passphrase-file", Usage: "`FILE` with the next key's passphrase, if it is another one"},
		},
		Action: p.keysRotate,
	}
}

func (p *program) keysRotate(c *cli.Context) error {
	args, err := operands(c, "SUBJECT")
	if err != nil {
		return err
	}
	if err := checkRotateFlags(c, args[0]); err != nil {
		return err
	}
	api, clusterID, err := p.connectNamed(c, rotateCredential(c, args[0]))
	if err != nil {
		return err
	}
	req := client.RotateRequest{}
	if c.String("new-key") != "" {
		if req, err = p.signedRotation(c, args[0], clusterID); err != nil {
			return err
		}
	}
	done, err := api.RotateKey(c.Context, args[0], req)
	if err != nil {
		return err
	}
	return p.emit(c, done, func(t *table) { drawKeysChanged(t, done) })
}

// rotateCredential: the order of an agent's key is a credential of its own.
func rotateCredential(c *cli.Context, subject string) credential {
	return credential(c.String("key") == "" || !strings.HasPrefix(subject, "agent/"))
}

func checkRotateFlags(c *cli.Context, subject string) error {
	key, next := c.String("key") != "", c.String("new-key") != ""
	switch recovers := c.Bool("recover"); {
	case recovers && (key || !next || c.String("reason") == "" || c.String("in") != ""):
		return usagef("--recover takes --new-key and --reason, and no --key or --in: it is your word that counts, and it counts at once")
	case recovers && !strings.HasPrefix(subject, "agent/"):
		return usagef("--recover is for agents: a coordinator makes its own keys, signers are `edgecoder manifest trust`")
	case !recovers && key != next:
		return usagef("--key and --new-key go together: the current key names the next one")
	case !recovers && c.String("reason") != "":
		return usagef("--reason is for --recover")
	case !next && c.String("in") != "":
		return usagef("--in is for --new-key: who makes its own keys follows its schedule")
	}
	return nil
}

// signedRotation signs the change with the keys in the files.
func (p *program) signedRotation(c *cli.Context, subject, clusterID string) (req client.RotateRequest, err error) {
	if id := c.String("cluster-id"); id != "" {
		clusterID = id
	}
	if token, err := p.apiToken(c); clusterID == "" && err == nil { // it is not sent
		text, _ := crypto.ParseTokenText(token)
		clusterID = text.ClusterID
	}
	if clusterID == "" {
		return req, usagef("%w", errNoCluster)
	}
	passphrase := c.String("passphrase-file")
	nextPassphrase := c.String("new-passphrase-file")
	if nextPassphrase == "" {
		nextPassphrase = passphrase
	}
	next, err := p.readKey("new-key", c.String("new-key"), nextPassphrase)
	if err != nil {
		return req, err
	}
	defer clear(next)
	now := p.now().UnixMilli()
	if c.Bool("recover") {
		return client.SignRecovery(clusterID, subject, next, now, c.String("reason")), nil
	}
	begin := int64(0)
	if text := c.String("in"); text != "" {
		d, err := parseDuration("in", text)
		if err != nil {
			return req, err
		}
		begin = now + d.Milliseconds()
	}
	var current crypto.PrivateKey
	if current, err = p.readKey("key", c.String("key"), passphrase); err != nil {
		return req, err
	}
	defer clear(current)
	return client.SignRotation(clusterID, subject, current, next, begin, now), nil
}
