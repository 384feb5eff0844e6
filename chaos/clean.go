package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/cluster"
)

// killTimeout bounds the end of servers that were killed.
const killTimeout = 10 * time.Second

// Clean removes what a run left behind whose harness was killed: servers,
// namespaces, mounts and loop devices that its list names and that are still
// the same. Everything in the run's directory stays, but for the secrets of its
// cluster if they were not to be kept.
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
	if err := m.dropSecrets(); err != nil {
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
	m.thaw()
	return stopAll(ctx, c)
}

// stopAll stops the servers, also those that are paused. That it was not done
// in good order is no error once they are gone.
func stopAll(ctx context.Context, c *cluster.Cluster) error {
	for _, n := range c.Record().Nodes {
		if n.Running() {
			_ = syscall.Kill(n.PID, syscall.SIGCONT) // it may have ended just now
		}
	}
	err := c.Down(ctx)
	if err != nil && ctx.Err() != nil { // no time is left for good order
		err = killServers(c)
	}
	for _, n := range c.Record().Nodes {
		if n.Running() {
			return fmt.Errorf("stop %s: %w", n.Name, cmp.Or(err, errors.New("it still runs")))
		}
	}
	return nil
}

func killServers(c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	var errs []error
	for _, n := range c.Record().Nodes {
		errs = append(errs, c.Stop(ctx, n.Name, true))
	}
	return errors.Join(errs...)
}
