package cmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/node"
)

func (p *program) edgeCommand() *cli.Command {
	return &cli.Command{
		Name: "edge", Usage: "run a verifier beside a service: who is banned, answered on this machine",
		UsageText: "edgecoder edge --data-dir DIR --listen ADDR|unix:PATH --join SEED,… --join-token-file FILE",
		Description: "An edge holds the blacklist, verified against what a majority of the coordinators signed, and answers GET /v1/allowed/AGENT,\n" +
			"POST /v1/allowed and, by asking a coordinator, POST /v1/admissions, to programs on this machine. The token comes from\n" +
			"`edgecoder token create --role edge` and is needed once. In mode strict it denies everybody once no majority vouched for\n" +
			"its list for as long as --lease; best_effort answers on and marks it. SIGHUP reads the allow-list again.\n" +
			"Each flag but the token has a variable EDGECODER_<FLAG>.\n\n" +
			"Examples:\n  EDGECODER_JOIN_TOKEN=… edgecoder edge --data-dir /var/lib/edgecoder-edge --listen unix:/run/edgecoder/edge.sock \\\n" +
			"      --join 10.0.0.1:4401,10.0.0.2:4401 --gossip-addr 10.0.0.9:4402 --passphrase-file /etc/edgecoder/passphrase\n" +
			"  curl --unix-socket /run/edgecoder/edge.sock http://localhost/v1/allowed/agent-7",
		Flags:  edgeFlags(),
		Action: p.edge,
	}
}

func edgeFlags() []cli.Flag {
	d := node.DefaultEdgeConfig()
	flags := []cli.Flag{
		&cli.StringFlag{Name: "data-dir", Usage: "`DIR` for its keys and the list"},
		&cli.StringFlag{Name: "name", Usage: "its name in the pool; the host's name with -edge unless given"},
		&cli.StringFlag{Name: "listen", Value: d.Listen, Usage: "loopback `ADDR` or unix:PATH on which it answers"},
		&cli.StringFlag{Name: "socket-mode", Value: "0600", Usage: "`MODE` of a unix socket, in octal"},
		&cli.StringFlag{Name: "gossip-addr", Value: d.GossipAddr, Usage: "`HOST:PORT` of gossip, TCP and UDP, reachable by the other members"},
		&cli.StringFlag{Name: "join", Usage: "gossip addresses of live coordinators, `SEED,…`"},
		&cli.StringFlag{Name: "join-token-file", Usage: "`FILE` with the join token, - for standard input; or EDGECODER_JOIN_TOKEN, the systemd credential \"join-token\""},
		&cli.StringFlag{Name: "mode", Value: d.Mode, Usage: "strict or best_effort: what to do when the lease ran out"},
		&cli.DurationFlag{Name: "lease", Value: d.Lease, Usage: "for how long the word of a majority counts"},
		&cli.StringFlag{Name: "allow-list", Usage: "`FILE` with agent ids, one a line, that are let through whatever the blacklist says"},
		&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with the passphrase of its keys; or EDGECODER_PASSPHRASE, the systemd credential \"passphrase\", a prompt"},
		&cli.StringFlag{Name: "timing", Value: node.TimingLocal, Usage: "local or wan, as on the coordinators"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
	}
	for _, f := range flags {
		variable := []string{"EDGECODER_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))}
		switch f := f.(type) {
		case *cli.StringFlag:
			f.EnvVars = variable
		case *cli.DurationFlag:
			f.EnvVars = variable
		}
	}
	return flags
}

func (p *program) edge(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	cfg, err := p.edgeConfig(c)
	defer clear(cfg.Passphrase) // the edge keeps its own copy as long as it runs
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1) // one that waits stands for all
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	e, err := node.StartEdge(c.Context, cfg)
	if err != nil {
		if c.Context.Err() != nil {
			return nil // told to stop while starting
		}
		return edgeDidNotStart(cfg.Name, err)
	}
	p.say("%s: edge %s ready: %s, gossip %s, data %s, mode %s", programName, cfg.Name, cfg.Listen, cfg.GossipAddr, cfg.DataDir, cfg.Mode)
	p.tellSystemd("READY=1\nSTATUS=edge " + cfg.Name + " answers on " + cfg.Listen)
	for {
		select {
		case <-hangups:
			p.tellSystemd("RELOADING=1")
			if err := e.ReloadAllowList(); err != nil {
				cfg.Log.Error("the allow-list is refused, the old one stays", "error", err)
			}
			p.tellSystemd("READY=1")
		case <-c.Context.Done():
			p.tellSystemd("STOPPING=1")
			p.say("%s: edge %s stops", programName, cfg.Name)
			ctx, cancel := context.WithTimeout(context.Background(), stopDeadline)
			defer cancel()
			return e.Stop(ctx)
		}
	}
}

func edgeDidNotStart(name string, err error) error {
	if e := (*client.Error)(nil); errors.As(err, &e) && client.RetryOf(e.Code) == client.RetryNo {
		return refusedf("edge %s did not start: %w", name, err)
	}
	return unknownf("edge %s did not start: %w", name, err)
}

// edgeConfig turns flags and secrets into a valid configuration, or tells all that is wrong with them.
func (p *program) edgeConfig(c *cli.Context) (node.EdgeConfig, error) {
	settings := serverSettings{DataDir: c.String("data-dir"), JoinTokenFile: c.String("join-token-file"), PassphraseFile: c.String("passphrase-file"),
		LogLevel: c.String("log-level"), LogFormat: c.String("log-format")}
	log, logErr := settings.logger(p.err, new(slog.LevelVar))
	mode, modeErr := strconv.ParseUint(c.String("socket-mode"), 8, 9)
	if modeErr != nil {
		modeErr = usagef("--socket-mode %q: want octal rights such as 0660", c.String("socket-mode"))
	}
	timing, timingErr := node.TimingOf(c.String("timing"))
	cfg := node.EdgeConfig{DataDir: settings.DataDir, Name: c.String("name"), Listen: c.String("listen"), SocketMode: uint32(mode), GossipAddr: c.String("gossip-addr"),
		Join: splitList(c.String("join")), Mode: c.String("mode"), Lease: c.Duration("lease"), AllowList: c.String("allow-list"), Version: Version, Timing: timing, Log: log}
	if host, err := os.Hostname(); cfg.Name == "" && err == nil {
		cfg.Name = host + "-edge"
	}
	var joinErr, passErr error
	cfg.JoinToken, joinErr = p.joinToken(settings)
	source := p.passphraseSource(settings.PassphraseFile, "passphrase of "+settings.DataDir, isNew(settings.DataDir))
	source.Prompt = true
	if cfg.Passphrase, passErr = source.Get(); errors.Is(passErr, keyfile.ErrNoPassphrase) {
		passErr = nil // Validate says it better
	}
	if err := errors.Join(cfg.Validate(), logErr, modeErr, timingErr, joinErr, passErr); err != nil {
		return cfg, usagef("the settings of this edge are not complete:\n%w", err)
	}
	return cfg, nil
}
