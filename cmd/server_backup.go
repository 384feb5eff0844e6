package cmd

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/edgecoder/edgecoder/node"
)

// backups turns the settings of scheduled backups into the node's; all faults
// are told together.
func (s *serverSettings) backups(cfg *node.Config) error {
	var everyErr, keepErr error
	cfg.BackupDir = s.BackupDir
	if s.BackupEvery != "" && s.BackupEvery != "0" {
		cfg.BackupEvery, everyErr = parseDuration("backup-every", s.BackupEvery)
	}
	if cfg.BackupKeep, keepErr = strconv.Atoi(s.BackupKeep); keepErr != nil {
		keepErr = fmt.Errorf("--backup-keep %q: want a number", s.BackupKeep)
	}
	return errors.Join(everyErr, keepErr)
}
