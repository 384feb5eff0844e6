package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// Restart restarts every server in turn, the leader last, so that leadership
// moves once: each is stopped gracefully, and must be ready, a voter, and as far
// as the others were, before the next one stops. So at most one is away at a time
// and nothing that is acknowledged depends on it. With a binary, servers run that
// one from now on; the record says so once the first came back with it. All must
// run when it begins, and it ends at the first that does not come back.
func (c *Cluster) Restart(ctx context.Context, binary string) error {
	order, err := c.restartOrder(ctx)
	if err != nil {
		return err
	}
	if binary != "" {
		if c.next, err = tryBinary(ctx, binary); err != nil {
			return fmt.Errorf("the binary to run: %w; nothing was restarted", err)
		}
		defer func() { c.next = "" }()
	}
	for i, name := range order {
		if err := c.restartOne(ctx, name); err != nil {
			return fmt.Errorf("%w\n%d of %d servers were restarted, %v were not: look at it before you go on", err, i, len(order), order[i:])
		}
		if i == 0 && c.next != "" {
			if err := c.keepBinary(ctx, c.next); err != nil {
				return fmt.Errorf("%s runs %s, but the record does not say so: %w", name, c.next, err)
			}
		}
	}
	return nil
}

// restartOrder returns the names of all servers, the leader's last, if every one
// runs, is ready and knows all others as voters.
func (c *Cluster) restartOrder(ctx context.Context) ([]string, error) {
	nodes := c.Record().Nodes
	for _, n := range nodes {
		if !n.Running() {
			return nil, fmt.Errorf("%s does not run: start it first, a restart takes one server at a time from a whole cluster", n.Name)
		}
	}
	waiting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.waitWhole(waiting, nodes); err != nil {
		return nil, fmt.Errorf("the cluster is not whole, nothing was restarted: %w", err)
	}
	var first, last []string
	for _, s := range c.Status(ctx) {
		if s.State == "leader" {
			last = append(last, s.Name)
			continue
		}
		first = append(first, s.Name)
	}
	return append(first, last...), nil
}

// tryTime is how long a binary may take to tell its version.
const tryTime = 10 * time.Second

// tryBinary returns the real path of a program that may be run, and runs at all.
func tryBinary(ctx context.Context, binary string) (string, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return "", err
	}
	if path, err = checkBinary(path); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	try := exec.CommandContext(ctx, path, "version")
	try.Env = serverEnviron()
	if err := try.Run(); err != nil {
		return "", fmt.Errorf("`%s version` fails: %w", quote(path), err)
	}
	return path, nil
}

// keepBinary has servers run a program from now on.
func (c *Cluster) keepBinary(ctx context.Context, path string) error {
	return c.locked(ctx, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rec.Binary = path
		return writeRecord(c.dir, c.rec, c.ready)
	})
}

func (c *Cluster) restartOne(ctx context.Context, name string) error {
	if err := c.Stop(ctx, name, false); err != nil {
		return err
	}
	if err := c.Start(ctx, name); err != nil {
		return err
	}
	var goal uint64
	for _, s := range c.Status(ctx) {
		if s.Name != name {
			goal = max(goal, s.AppliedIndex)
		}
	}
	n, err := c.Node(name)
	if err != nil {
		return err
	}
	c.note("waiting until %s has caught up to index %d", name, goal)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.wait(ctx, n, func(ctx context.Context, api *client.Client) error {
		if err := api.Ready(ctx); err != nil {
			return err
		}
		return c.caughtUp(ctx, api, goal)
	})
}

// caughtUp tells why a server does not count as one that came back.
func (c *Cluster) caughtUp(ctx context.Context, api *client.Client, goal uint64) error {
	s, err := api.Status(ctx)
	switch {
	case err != nil:
		return err
	case s.Leader == nil:
		return errors.New("it knows no leader")
	case len(s.Voters) != len(c.Record().Nodes):
		return fmt.Errorf("%d of %d nodes are voters", len(s.Voters), len(c.Record().Nodes))
	case s.AppliedIndex < goal:
		return fmt.Errorf("it has applied index %d, the others had %d when it started", s.AppliedIndex, goal)
	}
	return nil
}
