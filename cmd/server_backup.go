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
		if cfg.BackupEvery, everyErr = parseDuration("backup-every", s.BackupEvery); everyErr != nil {
			everyErr = fmt.Errorf("%s %q: want a duration such as 24h or 30d, or 0 for none", node.Setting("backup-every"), s.BackupEvery)
		}
	}
	if cfg.BackupKeep, keepErr = strconv.Atoi(s.BackupKeep); keepErr != nil {
		keepErr = fmt.Errorf("%s %q: want a number", node.Setting("backup-keep"), s.BackupKeep)
	}
	return errors.Join(everyErr, keepErr)
}
