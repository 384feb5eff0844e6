package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/edgecoder/edgecoder/node"
)

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// serverSettings are the settings of one server. The same names in yaml, with
// dashes for underscores, are its flags, and EDGECODER_<FLAG> its variables.
type serverSettings struct {
	DataDir         string    `yaml:"data_dir" json:"data_dir"`
	Name            string    `yaml:"name" json:"name"`
	APIAddr         string    `yaml:"api_addr" json:"api_addr"`
	GossipAddr      string    `yaml:"gossip_addr" json:"gossip_addr"`
	RaftAddr        string    `yaml:"raft_addr" json:"raft_addr"`
	APICert         string    `yaml:"api_cert" json:"api_cert"`
	APIKey          string    `yaml:"api_key" json:"api_key"`
	TrustedProxies  proxyList `yaml:"trusted_proxies" json:"trusted_proxies"`
	Bootstrap       bool      `yaml:"bootstrap" json:"bootstrap"`
	Join            seedList  `yaml:"join" json:"join"`
	JoinTokenFile   string    `yaml:"join_token_file" json:"join_token_file"`
	PassphraseFile  string    `yaml:"passphrase_file" json:"passphrase_file"`
	DiskReserve     string    `yaml:"disk_reserve" json:"disk_reserve"`
	BackupDir       string    `yaml:"backup_dir" json:"backup_dir"`
	BackupEvery     string    `yaml:"backup_every" json:"backup_every"`
	BackupKeep      string    `yaml:"backup_keep" json:"backup_keep"`
	RequireManifest string    `yaml:"require_manifest" json:"require_manifest"`
	Timing          string    `yaml:"timing" json:"timing"`
	LogLevel        string    `yaml:"log_level" json:"log_level"`
	LogFormat       string    `yaml:"log_format" json:"log_format"`

	// ClockOffsetFile is set by its hidden flag alone.
	ClockOffsetFile string `yaml:"-" json:"clock_offset_file,omitempty"`
}

// seedList is a list, or in one text a list with commas.
type seedList []string

// UnmarshalYAML accepts both forms.
func (l *seedList) UnmarshalYAML(value *yaml.Node) (err error) {
	*l, err = listOf(value, "join: want a list of HOST:PORT")
	return err
}

// proxyList is a list of networks, in both forms too.
type proxyList []string

// UnmarshalYAML accepts both forms.
func (l *proxyList) UnmarshalYAML(value *yaml.Node) (err error) {
	*l, err = listOf(value, "trusted_proxies: want a list of addresses and networks, such as 10.0.0.0/8")
	return err
}

func listOf(value *yaml.Node, want string) ([]string, error) {
	var text string
	if value.Decode(&text) == nil {
		return splitList(text), nil
	}
	var list []string
	if err := value.Decode(&list); err != nil {
		return nil, fmt.Errorf("line %d: %s", value.Line, want)
	}
	return list, nil
}

func splitList(text string) []string {
	list := []string{}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// networks reads the proxies; an address stands for itself alone.
func (l proxyList) networks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	var faults []error
	for _, text := range l {
		prefix, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %q: want an address or a network, such as 10.0.0.0/8", node.Setting("trusted-proxies"), text))
			continue
		}
		all = append(all, prefix)
	}
	return all, errors.Join(faults...)
}

// defaultSettings are what holds when nobody says anything.
func defaultSettings() serverSettings {
	d := node.DefaultConfig()
	s := serverSettings{APIAddr: d.APIAddr, GossipAddr: d.GossipAddr, RaftAddr: d.RaftAddr, Join: seedList{}, TrustedProxies: proxyList{},
		DiskReserve: sizeText(d.DiskReserve), BackupEvery: "0", BackupKeep: number(d.BackupKeep), Timing: node.TimingLocal, LogLevel: "info", LogFormat: "text"}
	s.Name, _ = os.Hostname() // without one, Validate asks for --name
	return s
}

// settings merges flag over environment over file over default. urfave has
// merged the first two: what is set there came from either.
func (p *program) settings(c *cli.Context) (serverSettings, error) {
	s := defaultSettings()
	s.ClockOffsetFile = c.String("clock-offset-file")
	if path := c.String("config"); path != "" {
		text, err := p.readInput("config", path, maxConfigBytes)
		if err != nil {
			return s, err
		}
		if err := s.merge(text); err != nil {
			return s, usagef("--config %s: %w", path, err)
		}
	}
	for name, field := range map[string]*string{
		"data-dir": &s.DataDir, "name": &s.Name, "api-addr": &s.APIAddr, "gossip-addr": &s.GossipAddr, "raft-addr": &s.RaftAddr,
		"api-cert": &s.APICert, "api-key": &s.APIKey,
		"join-token-file": &s.JoinTokenFile, "passphrase-file": &s.PassphraseFile, "disk-reserve": &s.DiskReserve,
		"backup-dir": &s.BackupDir, "backup-every": &s.BackupEvery, "backup-keep": &s.BackupKeep, "require-manifest": &s.RequireManifest, "timing": &s.Timing, "log-level": &s.LogLevel, "log-format": &s.LogFormat,
	} {
		// An empty variable is one that somebody meant to leave out.
		if value := c.String(name); c.IsSet(name) && (value != "" || p.given[name]) {
			*field = value
		}
	}
	if c.IsSet("bootstrap") {
		s.Bootstrap = c.Bool("bootstrap")
	}
	if c.IsSet("join") && (c.String("join") != "" || p.given["join"]) {
		s.Join = splitList(c.String("join"))
	}
	if c.IsSet("trusted-proxies") && (c.String("trusted-proxies") != "" || p.given["trusted-proxies"]) {
		s.TrustedProxies = splitList(c.String("trusted-proxies"))
	}
	return s, nil
}

// merge reads a file over the settings. A member that nobody knows is refused:
// it is a typing mistake in something that matters.
func (s *serverSettings) merge(text []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(s); err != nil && !errors.Is(err, io.EOF) { // an empty file says nothing
		return err
	}
	var more any
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}

// level returns the level that the log begins with.
func (s *serverSettings) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return level, fmt.Errorf("%s %q: want debug, info, warn or error", node.Setting("log-level"), s.LogLevel)
	}
	return level, nil
}

// logger returns the log that the settings ask for, on standard error. Its
// level is that of the variable from now on.
func (s *serverSettings) logger(w io.Writer, variable *slog.LevelVar) (*slog.Logger, error) {
	level, err := s.level()
	if err != nil {
		return nil, err
	}
	variable.Set(level)
	o := &slog.HandlerOptions{Level: variable}
	switch s.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("%s %q: want text or json", node.Setting("log-format"), s.LogFormat)
}

// config returns what the node wants, without its two secrets.
func (s *serverSettings) config(log *slog.Logger) node.Config {
	cfg := node.DefaultConfig()
	cfg.DataDir, cfg.Name = s.DataDir, s.Name
	cfg.APIAddr, cfg.GossipAddr, cfg.RaftAddr = s.APIAddr, s.GossipAddr, s.RaftAddr
	cfg.APICert, cfg.APIKey = s.APICert, s.APIKey
	cfg.Bootstrap, cfg.Join = s.Bootstrap, s.Join
	cfg.RequireManifest = s.RequireManifest
	cfg.Version, cfg.Log = Version, log
	return cfg
}
