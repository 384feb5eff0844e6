package cmd

import (
	"log/slog"
	"reflect"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/node"
)

// reloader applies, on SIGHUP, what may change while a server runs: the level
// of the log and the certificate of the API. Of the rest it says what waits
// for a restart.
type reloader struct {
	read    func() (serverSettings, error) // what the file and the environment say now
	level   *slog.LevelVar
	log     *slog.Logger
	running serverSettings // what this server works with
}

// certificates is what a reloader needs of a node.
type certificates interface {
	ReloadAPICertificate(certFile, keyFile string) error
}

// reload never fails: what is refused is logged, and the old stays.
func (r *reloader) reload(n certificates) {
	now, err := r.read()
	if err != nil {
		r.log.Error("the settings could not be read again: they stay as they are", "error", err)
		now = r.running // its certificate may have changed all the same
	}
	if level, err := now.level(); err != nil {
		r.log.Error("the new log level is refused, the old one stays", "error", err)
	} else {
		r.level.Set(level)
		r.running.LogLevel = now.LogLevel
	}
	if err := n.ReloadAPICertificate(now.APICert, now.APIKey); err != nil {
		r.log.Error("the API certificate is refused, the old one stays", "error", err)
	} else {
		r.running.APICert, r.running.APIKey = now.APICert, now.APIKey
	}
	if changed := changedSettings(r.running, now); len(changed) > 0 {
		r.log.Warn("these settings changed and wait for a restart of this server", "settings", changed)
	}
	r.log.Info("settings read again", "log_level", r.level.Level(), "api_cert", r.running.APICert)
}

// again returns the configuration for another start in this process, with what
// the last reload changed.
func (r *reloader) again(cfg node.Config) node.Config {
	cfg.APICert, cfg.APIKey = r.running.APICert, r.running.APIKey
	return cfg
}

// changedSettings names, as the file does, the settings that differ and cannot
// change while a server runs.
func changedSettings(a, b serverSettings) []string {
	b.LogLevel, b.APICert, b.APIKey = a.LogLevel, a.APICert, a.APIKey
	var names []string
	before, after := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range before.NumField() {
		if !reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			names = append(names, before.Type().Field(i).Tag.Get("yaml"))
		}
	}
	return names
}

// settingsAgain reads the settings once more. Standard input was read to its end.
func (p *program) settingsAgain(c *cli.Context) (serverSettings, error) {
	if c.String("config") == "-" {
		return serverSettings{}, usagef("--config -: standard input cannot be read twice; give a file")
	}
	return p.settings(c)
}
