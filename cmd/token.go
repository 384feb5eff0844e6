package cmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/terminal"
)

// roles are those of CONTRACT.md; the server has the last word.
var roles = []string{"coordinator", "observer", "edge", "agent", "viewer", "verifier", "operator", "admin", "mesh"}

func (p *program) tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "tokens: who may call the API, join, or enrol",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a token and print it, once",
				UsageText: "edgecoder token create --role ROLE [--ttl 24h] [--uses N] [--label TEXT]",
				Description: "Roles: " + strings.Join(roles, ", ") + ".\nJoin tokens (coordinator, observer, edge) and enrolment tokens (agent) live a day and work once unless told otherwise.\n" +
					"API tokens (all other roles) live 90 days unless --ttl says otherwise, and their uses are unlimited: --uses N is refused.\n\n" +
					"Examples:\n  edgecoder token create --role operator --ttl 30d --label alice\n  edgecoder token create --role coordinator\n" +
					"  edgecoder token create --role agent --uses 10 --format json | jq -r .token > enroll.token",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "role", Usage: "what it may do"},
					&cli.StringFlag{Name: "ttl", Usage: "how long it lives, such as 24h or 30d (default: 24h; API tokens 90d)"},
					&cli.Int64Flag{Name: "uses", Usage: "how often it works, -1 is without limit (default: 1; API tokens always without limit)"},
					&cli.StringFlag{Name: "label", Usage: "a reminder for people"},
				},
				Action: p.tokenCreate,
			},
			{
				Name: "list", Usage: "all tokens, without their secrets",
				UsageText: "edgecoder token list", Description: "Example:\n  edgecoder token list --format json",
				Flags: []cli.Flag{strongFlag()}, Action: p.tokenList,
			},
			{
				Name: "revoke", Usage: "end a token now",
				UsageText: "edgecoder token revoke ID", Description: "Example:\n  edgecoder token revoke 0123456789abcdef",
				Action: p.tokenRevoke,
			},
		},
	}
}

func tokenRequest(c *cli.Context) (client.TokenRequest, error) {
	req := client.TokenRequest{Role: c.String("role"), Uses: c.Int64("uses"), Label: c.String("label")}
	if !slices.Contains(roles, req.Role) {
		return req, usagef("--role %q: want one of %s", req.Role, strings.Join(roles, ", "))
	}
	if c.IsSet("uses") && (req.Uses == 0 || req.Uses < -1) {
		return req, usagef("--uses %d: want a positive number, or -1 for no limit", req.Uses)
	}
	if text := c.String("ttl"); text != "" {
		ttl, err := parseDuration("ttl", text)
		if err != nil {
			return req, err
		}
		req.TTLMs = ttl.Milliseconds()
	}
	return req, nil
}

func (p *program) tokenCreate(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	req, err := tokenRequest(c)
	if err != nil {
		return err
	}
	api, err := p.connect(c, withToken)
	if err != nil {
		return err
	}
	token, err := api.CreateToken(c.Context, req)
	if err != nil {
		return err
	}
	if token.Token == "" {
		return unknownf("token %s was made by an earlier try, and a token is shown only once: `edgecoder token revoke %s`, then create another", token.ID, token.ID)
	}
	return p.printToken(c, token)
}

// printToken prints the secret alone on standard output, so that it can go to
// a file, and what it is on standard error.
func (p *program) printToken(c *cli.Context, token client.Token) error {
	if format, _ := formatOf(c); format == formatJSON {
		return writeJSON(p.out, token)
	}
	fmt.Fprintln(p.out, terminal.PlainLine(token.Token))
	t := &table{now: p.now()}
	p.say("token %s of role %s, uses %s, expires %s; it is shown only now", token.ID, token.Role, usesLeft(token.UsesLeft), expiry(t, token.ExpiresMs))
	if token.JoinCommand != "" {
		p.say("on the new machine, once its own --name, --data-dir and addresses are filled in:\n\n%s\n", terminal.Plain(token.JoinCommand))
	} else if token.Role == "coordinator" || token.Role == "observer" {
		p.say("on the new machine, with the gossip address of any live member (`edgecoder members`):\n\n" +
			"  export EDGECODER_JOIN_TOKEN='paste the token'\n  edgecoder server --name NAME --data-dir DIR --join HOST:PORT\n")
	}
	return nil
}

func expiry(t *table, ms int64) string {
	if ms == 0 {
		return "never"
	}
	return t.when(ms)
}

func usesLeft(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return number(n)
}

func (p *program) tokenList(c *cli.Context) error {
	_, api, err := p.ask(c)
	if err != nil {
		return err
	}
	tokens, err := api.Tokens(c.Context, freshness(c)...)
	if err != nil {
		return err
	}
	return p.emit(c, tokens, func(t *table) { drawTokens(t, tokens) })
}

func drawTokens(t *table, tokens client.Tokens) {
	t.row("ID", "ROLE", "STATE", "USES LEFT", "CREATED", "EXPIRES", "LABEL")
	for _, r := range tokens.Tokens {
		t.row(r.ID, r.Role, r.State, usesLeft(r.UsesLeft), t.when(r.CreatedMs), expiry(t, r.ExpiresMs), orDash(r.Label))
	}
}

func (p *program) tokenRevoke(c *cli.Context) error {
	args, api, err := p.ask(c, "ID")
	if err != nil {
		return err
	}
	revoked, err := api.RevokeToken(c.Context, args[0])
	if err != nil {
		return err
	}
	return p.emit(c, revoked, func(t *table) { t.row(revoked.ID, "revoked", "index "+number(revoked.Index)) })
}
