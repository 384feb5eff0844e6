package cmd

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

const defaultTimeout = 15 * time.Second

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "addr", EnvVars: []string{"EDGECODER_ADDR"}, Usage: "API `URL`s of the cluster, comma-separated, tried in turn"},
		&cli.StringFlag{Name: "ca", EnvVars: []string{"EDGECODER_CA"}, Usage: "`FILE` with the cluster's CA certificate"},
		&cli.StringFlag{Name: "token", Usage: "API token; rather use --token-file or EDGECODER_TOKEN, which other users cannot see"},
		&cli.StringFlag{Name: "token-file", EnvVars: []string{"EDGECODER_TOKEN_FILE"}, Usage: "`FILE` with the API token, - for standard input"},
		&cli.StringFlag{Name: "format", Value: formatTable, Usage: "`table` for people or json for programs"},
		&cli.DurationFlag{Name: "timeout", Value: defaultTimeout, Usage: "longest a command waits for the cluster"},
	}
}

// credential says whether a command can do without an API token.
type credential bool

const (
	withToken    credential = true
	withoutToken credential = false
)

// connect returns a client of the cluster that the global flags name.
func (p *program) connect(c *cli.Context, need credential) (*client.Client, error) {
	api, _, err := p.connectNamed(c, need)
	return api, err
}

// ask returns the operands of a command and a client with the API token, the start of
// most commands.
func (p *program) ask(c *cli.Context, names ...string) (args []string, api *client.Client, err error) {
	if args, err = operands(c, names...); err != nil {
		return nil, nil, err
	}
	api, err = p.connect(c, withToken)
	return args, api, err
}

// connectNamed also returns the id of the cluster that the API token is of: it is
// known here, and not by the word of whoever answers.
func (p *program) connectNamed(c *cli.Context, need credential) (api *client.Client, clusterID string, err error) {
	addrs, err := addresses(c.String("addr"))
	if err != nil {
		return nil, "", err
	}
	if _, err := formatOf(c); err != nil {
		return nil, "", err // before anything is done
	}
	token := ""
	if need == withToken {
		if token, err = p.apiToken(c); err != nil {
			return nil, "", err
		}
	}
	if parsed, err := crypto.ParseTokenText(token); err == nil {
		clusterID = parsed.ClusterID
	}
	api, err = p.dialWith(c, client.Config{Addrs: addrs, Token: token})
	return api, clusterID, err
}

// dialWith adds the global flags that every client shares.
func (p *program) dialWith(c *cli.Context, cfg client.Config) (*client.Client, error) {
	if cfg.Timeout = c.Duration("timeout"); cfg.Timeout <= 0 {
		return nil, usagef("--timeout %s: want more than nothing, such as 15s", cfg.Timeout)
	}
	cfg.CAFile = c.String("ca")
	api, err := client.New(cfg)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return api, nil
}

func addresses(list string) ([]string, error) {
	var addrs []string
	for addr := range strings.SplitSeq(list, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return nil, usagef("no cluster address: run `. DIR/env` (`edgecoder cluster up` wrote it), or give --addr https://HOST:PORT or EDGECODER_ADDR")
	}
	for _, addr := range addrs {
		if !strings.HasPrefix(addr, "https://") && !strings.HasPrefix(addr, "http://") {
			return nil, usagef("--addr %q: want a URL such as https://127.0.0.1:4301", addr)
		}
	}
	return addrs, nil
}
