package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Kill sends SIGKILL to servers, all in the same moment: it takes no lock, so
// that none outlives the others by the time that another change takes. Stop
// with kill waits until they are gone, and records it.
func (c *Cluster) Kill(names ...string) error {
	nodes := make([]Node, len(names))
	for i, name := range names {
		n, err := c.Node(name)
		if err != nil {
			return err
		}
		nodes[i] = n
	}
	var errs []error
	for _, n := range nodes {
		if !n.Running() {
			errs = append(errs, fmt.Errorf("%s does not run", n.Name))
		} else if err := kill(n.PID); err != nil {
			errs = append(errs, fmt.Errorf("%s: kill pid %d: %w", n.Name, n.PID, err))
		}
	}
	return errors.Join(errs...)
}

// Belongs tells whether the data directory is a member's: a server writes the
// cluster CA there once it belongs to a cluster. Keys alone may be those of a
// join that was refused.
func (n Node) Belongs() bool {
	_, err := os.Stat(filepath.Join(n.DataDir, caName))
	return !errors.Is(err, fs.ErrNotExist)
}
