package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// A cluster that lost its majority goes on from one copy. The other copies
// still believe in the old configuration: enough of them together would elect
// a leader and go on from the past, and nobody could merge the two. So a copy
// that was left behind is retired: its server refuses to start.

const fileRetired = "retired.json"

// Retirement says why a data directory must not run again.
type Retirement struct {
	AtMs   int64  `json:"at_ms"`
	Reason string `json:"reason"`
}

// ErrRetired is wrapped by the refusal to start on a retired directory.
var ErrRetired = errors.New("this data directory is retired")

// Retire marks the data directory of a stopped server. It needs no passphrase;
// removing the file takes it back.
func Retire(dir, reason string, now time.Time) error {
	unlock, err := lockFound(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(retire(dir, reason, now), unlock())
}

// retire is Retire for whoever holds the lock. The first reason stands.
func retire(dir, reason string, now time.Time) error {
	if had, err := retirement(dir); had != nil || err != nil {
		return err
	}
	text, err := json.MarshalIndent(Retirement{AtMs: now.UnixMilli(), Reason: reason}, "", "  ")
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(filepath.Join(dir, fileRetired), append(text, '\n'))
}

// retirement returns the mark of a directory, nil when it has none.
func retirement(dir string) (*Retirement, error) {
	path := filepath.Join(dir, fileRetired)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r Retirement
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

// checkRetired refuses a retired directory.
func checkRetired(dir string) error {
	r, err := retirement(dir)
	if err != nil || r == nil {
		return err
	}
	return fmt.Errorf("%w since %s: %s. The cluster went on without this copy: move %s away and join with a new token "+
		"(`edgecoder token create --role coordinator`), or remove %s if it was retired by mistake",
		ErrRetired, time.UnixMilli(r.AtMs).UTC().Format(time.RFC3339), r.Reason, dir, filepath.Join(dir, fileRetired))
}
