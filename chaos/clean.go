package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/edgecoder/edgecoder/cluster"
)

// Clean removes what a run left behind whose harness was killed: servers,
// namespaces, mounts and loop devices that its list names and that are still
// the same. Everything in the run's directory stays.
func Clean(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	m, err := loadMade(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was made, or all of it is gone
	}
	if err != nil {
		return fmt.Errorf("read what the run made: %w", err)
	}
	if m.Harness.alive() {
		return fmt.Errorf("the run in %s still goes on, as pid %d: end that first", dir, m.Harness.PID)
	}
	if err := m.stopServers(ctx); err != nil {
		return err
	}
	return m.remove()
}

func (m *made) stopServers(ctx context.Context) error {
	c, err := cluster.Load(m.Cluster)
	if err != nil {
		if left, _ := filepath.Glob(filepath.Join(m.Cluster, "*.json")); len(left) == 0 {
			return nil // no server was started
		}
		return err
	}
	for _, x := range m.Mounts {
		if mountedAt(x.Dir) == x.Device {
			_ = sh("fsfreeze", "--unfreeze", x.Dir) // it most likely is not frozen
		}
	}
	return stopAll(ctx, c)
}

// stopAll stops the servers, also those that are paused.
func stopAll(ctx context.Context, c *cluster.Cluster) error {
	for _, n := range c.Record().Nodes {
		if n.Running() {
			_ = syscall.Kill(n.PID, syscall.SIGCONT) // it may have ended just now
		}
	}
	return c.Down(ctx)
}
