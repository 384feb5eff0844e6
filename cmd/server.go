package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/node"
)

// stopDeadline is how long a server takes at most to hand over and close.
const stopDeadline = 15 * time.Second

func (p *program) serverCommand() *cli.Command {
	return &cli.Command{
		Name: "server", Usage: "run one coordinator",
		UsageText: "edgecoder server --data-dir DIR --name NAME [--bootstrap | --join SEED,… --join-token-file FILE]",
		Description: "--bootstrap makes a new cluster and prints its first admin token, once. --join makes this server part of one;\n" +
			"the token comes from `edgecoder token create --role coordinator`. The same command line serves every later start.\n" +
			"Each flag has a variable EDGECODER_<FLAG>, and a member in --config FILE.yaml; flags outrank variables, they outrank the file.\n\n" +
			"Examples:\n  edgecoder server --data-dir /var/lib/edgecoder --name c1 --bootstrap --passphrase-file /etc/edgecoder/passphrase\n" +
			"  EDGECODER_JOIN_TOKEN=… edgecoder server --data-dir /var/lib/edgecoder --name c2 --join 10.0.0.1:4401 \\\n" +
			"      --api-addr 10.0.0.2:4301 --gossip-addr 10.0.0.2:4401\n  edgecoder server --config /etc/edgecoder.yaml --check-config",
		Flags:  serverFlags(),
		Action: p.server,
	}
}

func serverFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "data-dir", Usage: "`DIR` for everything this server keeps"},
		&cli.StringFlag{Name: "name", Usage: "its name in the cluster; the host's name unless given"},
		&cli.StringFlag{Name: "api-addr", Usage: "`HOST:PORT` of the HTTPS API (default: 127.0.0.1:4301)"},
		&cli.StringFlag{Name: "gossip-addr", Usage: "`HOST:PORT` of gossip and of joins, TCP and UDP (default: 127.0.0.1:4401)"},
		&cli.StringFlag{Name: "raft-addr", Usage: "`HOST:PORT` of raft (default: shares the API's)"},
		&cli.StringFlag{Name: "api-cert", Usage: "PEM `FILE` with a certificate chain of your own, shown to API clients that name a host of it; others get the cluster's"},
		&cli.StringFlag{Name: "api-key", Usage: "PEM `FILE` with its private key, readable by this user alone; SIGHUP reads both again"},
		&cli.StringFlag{Name: "trusted-proxies", Aliases: []string{"trusted-proxy"}, Usage: "addresses and networks, `CIDR,…`, whose forwarded-address headers count (default: none)"},
		&cli.BoolFlag{Name: "bootstrap", Usage: "make a new cluster if DIR is empty"},
		&cli.StringFlag{Name: "join", Usage: "gossip addresses of live members, `SEED,…`, asked if DIR is empty"},
		&cli.StringFlag{Name: "join-token-file", Usage: "`FILE` with the join token, - for standard input; or EDGECODER_JOIN_TOKEN, the systemd credential \"join-token\""},
		&cli.StringFlag{Name: "config", Usage: "`FILE` with settings in YAML"},
		&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with the passphrase of the server's keys; or EDGECODER_PASSPHRASE, the systemd credential \"passphrase\", a prompt"},
		&cli.StringFlag{Name: "disk-reserve", Usage: "`SIZE` kept in DIR for what must be written when the disk is full, at most a twentieth of the disk; 0: none (default: 64MiB)"},
		&cli.StringFlag{Name: "backup-dir", Usage: "`DIR` for scheduled backups; each server that has one writes its own"},
		&cli.StringFlag{Name: "backup-every", Usage: "a backup each so often, such as 24h; 0: none (default: 0)"},
		&cli.StringFlag{Name: "backup-keep", Usage: "how many of them stay (default: 7)"},
		&cli.StringFlag{Name: "require-manifest", Usage: "`NAME` under which the cluster must have accepted this very binary, before it joins and whenever it starts (default: none)"},
		&cli.StringFlag{Name: "timing", Usage: "local: one machine or one site; wan: sites up to 300 ms apart; the same on every coordinator (default: local)"},
		&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error (default: info)"},
		&cli.StringFlag{Name: "log-format", Usage: "text or json (default: text)"},
		&cli.BoolFlag{Name: "check-config", Usage: "say whether the settings are good, show them, and end; changes nothing"},
		&cli.StringFlag{Name: "admin-token-out", Usage: "write the first admin token to `FILE` instead of printing it", Hidden: true},
		&cli.StringFlag{Name: "clock-offset-file", Usage: "shift the wall clock by the milliseconds in `FILE`: fault injection", Hidden: true},
	}
	for _, f := range flags {
		variable := "EDGECODER_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))
		switch f := f.(type) {
		case *cli.StringFlag:
			if !f.Hidden { // those are for tests: an environment must not set them unseen
				f.EnvVars = []string{variable}
			}
		case *cli.BoolFlag:
			f.EnvVars = []string{variable}
		}
	}
	return flags
}

func (p *program) server(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	s, err := p.settings(c)
	if err != nil {
		return err
	}
	check := c.Bool("check-config")
	level := new(slog.LevelVar)
	cfg, err := p.nodeConfig(s, level, !check)
	defer clear(cfg.Passphrase) // a node keeps its own copy as long as it runs
	if err != nil {
		return err
	}
	if err := p.warnOfPlants(cfg); err != nil {
		return err
	}
	if check {
		return p.printSettings(c, s)
	}
	if s.ClockOffsetFile != "" {
		if cfg.Now, err = shiftedClock(c.Context, cfg.Log, s.ClockOffsetFile); err != nil {
			return usagef("%w", err)
		}
	}
	hangups := make(chan os.Signal, 1) // one that waits stands for all
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	changes := &reloader{read: func() (serverSettings, error) { return p.settingsAgain(c) }, level: level, log: cfg.Log, running: s}
	for {
		err := p.runServer(c, changes.again(cfg), hangups, changes)
		if !errors.Is(err, node.ErrResync) {
			return err
		}
		p.say("%s: %v", programName, err)
	}
}

// nodeConfig turns the settings and the two secrets into a valid configuration,
// or tells all that is wrong with them.
func (p *program) nodeConfig(s serverSettings, level *slog.LevelVar, mayPrompt bool) (node.Config, error) {
	log, logErr := s.logger(p.err, level)
	cfg := s.config(log)
	var sizeErr, proxyErr, joinErr, passErr error
	if cfg.DiskReserve, sizeErr = parseSize(s.DiskReserve); sizeErr != nil {
		sizeErr = fmt.Errorf("%s: %w", node.Setting("disk-reserve"), sizeErr)
	}
	cfg.TrustedProxies, proxyErr = s.TrustedProxies.networks()
	timing, timingErr := node.TimingOf(s.Timing)
	if timingErr == nil {
		cfg.Timing = timing
	}
	backupErr := s.backups(&cfg)
	cfg.JoinToken, joinErr = p.joinToken(s)
	source := p.passphraseSource(s.PassphraseFile, "passphrase of "+s.DataDir, isNew(s.DataDir))
	source.Prompt = mayPrompt
	checked := cfg
	if cfg.Passphrase, passErr = source.Get(); errors.Is(passErr, keyfile.ErrNoPassphrase) {
		passErr = nil // Validate says it better
	}
	if checked.Passphrase = cfg.Passphrase; passErr != nil {
		checked.Passphrase = []byte("could not be read") // one fault, told once
	}
	if err := errors.Join(checked.Validate(), sizeErr, proxyErr, timingErr, backupErr, joinErr, passErr, logErr); err != nil {
		return cfg, usagef("the settings of this server are not complete:\n%w", err)
	}
	return cfg, nil
}

// isNew tells whether a server starts for the first time: then a mistyped
// passphrase would lock it out of its own keys.
func isNew(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}

// joinToken reads the join token; its file may come from the settings' file,
// which ranks below the environment.
func (p *program) joinToken(s serverSettings) (string, error) {
	const what = "join token"
	env := os.Getenv("EDGECODER_JOIN_TOKEN")
	switch {
	case env != "" && !p.given["join-token-file"]:
		return checkSecret(what, "EDGECODER_JOIN_TOKEN", env)
	case s.JoinTokenFile == "":
		return p.joinCredential(what)
	}
	text, err := p.secretFile(what, s.JoinTokenFile)
	if err != nil {
		return "", err
	}
	return checkSecret(what, s.JoinTokenFile, text)
}

// joinCredential reads the token that systemd hands to a service, if it does.
func (p *program) joinCredential(what string) (string, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY") // systemd.exec(5)
	if dir == "" {
		return "", nil
	}
	path := filepath.Join(dir, "join-token")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	text, err := p.secretFile(what, path)
	if err != nil {
		return "", err
	}
	return checkSecret(what, path, text)
}

func (p *program) printSettings(c *cli.Context, s serverSettings) error {
	if s.ClockOffsetFile != "" {
		if _, err := readClockOffset(s.ClockOffsetFile); err != nil {
			return usagef("%w", err)
		}
	}
	p.say("the settings are good")
	return p.emit(c, s, func(t *table) {
		t.row("data_dir", s.DataDir)
		t.row("name", s.Name)
		t.row("api_addr", s.APIAddr)
		t.row("gossip_addr", s.GossipAddr)
		t.row("raft_addr", orDash(s.RaftAddr))
		t.row("api_cert", orDash(s.APICert))
		t.row("api_key", orDash(s.APIKey))
		t.row("trusted_proxies", orDash(strings.Join(s.TrustedProxies, ",")))
		t.row("bootstrap", fmt.Sprint(s.Bootstrap))
		t.row("join", orDash(strings.Join(s.Join, ",")))
		t.row("join_token_file", orDash(s.JoinTokenFile))
		t.row("passphrase_file", orDash(s.PassphraseFile))
		t.row("disk_reserve", s.DiskReserve)
		t.row("backup_dir", orDash(s.BackupDir))
		t.row("backup_every", s.BackupEvery)
		t.row("backup_keep", s.BackupKeep)
		t.row("require_manifest", orDash(s.RequireManifest))
		t.row("timing", s.Timing)
		t.row("log_level", s.LogLevel)
		t.row("log_format", s.LogFormat)
		if s.ClockOffsetFile != "" {
			t.row("clock_offset_file", s.ClockOffsetFile+" (the wall clock is SHIFTED: for tests of faults only)")
		}
	})
}

// runServer runs a node until a signal stops it, or it stops by itself.
func (p *program) runServer(c *cli.Context, cfg node.Config, hangups <-chan os.Signal, changes *reloader) error {
	n, err := node.Start(c.Context, cfg)
	if err != nil {
		if c.Context.Err() != nil {
			return nil // told to stop while starting
		}
		return didNotStart(cfg.Name, err)
	}
	if err := p.showFirstToken(n.FirstAdminToken(), c.String("admin-token-out")); err != nil {
		return errors.Join(err, stopNode(n))
	}
	if err := n.ForgetAdminToken(); err != nil {
		return errors.Join(fmt.Errorf("erase the admin token from the key file: %w", err), stopNode(n))
	}
	p.say("%s: %s ready: api https://%s, gossip %s, data %s", programName, cfg.Name, cfg.APIAddr, cfg.GossipAddr, cfg.DataDir)
	p.tellSystemd("READY=1\nSTATUS=" + cfg.Name + " serves https://" + cfg.APIAddr)
	for {
		select {
		case <-hangups:
			p.tellSystemd("RELOADING=1")
			changes.reload(n)
			p.tellSystemd("READY=1")
		case <-c.Context.Done():
			p.tellSystemd("STOPPING=1")
			p.say("%s: %s stops", programName, cfg.Name)
			return stopNode(n)
		case <-n.Done():
			if errors.Is(n.Err(), node.ErrManifest) {
				return refusedf("server %s stopped: %w", cfg.Name, n.Err())
			}
			return unknownf("server %s stopped by itself: %w", cfg.Name, n.Err())
		}
	}
}

// didNotStart tells why. The only credential on the way is the join token.
func didNotStart(name string, err error) error {
	return hintFor(fmt.Errorf("server %s did not start: %w", name, err),
		"give a join token that is neither used up nor expired with --join-token-file or EDGECODER_JOIN_TOKEN; an admin makes one: `edgecoder token create --role coordinator`")
}

func stopNode(n *node.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopDeadline)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// showFirstToken hands the first admin token over, the only time it is known.
func (p *program) showFirstToken(token, file string) error {
	switch {
	case token == "":
		return nil
	case file != "":
		if err := keyfile.WriteAtomic(file, []byte(token+"\n")); err != nil {
			return fmt.Errorf("write the new admin token; the next start tries again: %w", err)
		}
		return nil
	}
	p.say("The cluster's new admin token is below; keep it safe, it is shown only now:")
	_, err := fmt.Fprintln(p.out, token)
	return err
}
