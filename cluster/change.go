package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	// stopTimeout is longer than the 15 s that a server gives itself.
	stopTimeout = 20 * time.Second
	// killTimeout: the kernel needs a moment to take a process down.
	killTimeout = 5 * time.Second
	// startTimeout bounds the start of one server with its old data.
	startTimeout = 90 * time.Second
)

// Start starts a stopped or killed server with its old data and returns when
// it is ready to serve. While too few nodes run for a quorum nobody can be
// ready, so then it is enough that the server answers. A node that never was in
// the cluster, or whose data directory was wiped, joins as a new one.
func (c *Cluster) Start(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var n Node
	need := mustBeReady
	err := c.locked(ctx, func() (err error) {
		if n, err = c.Node(name); err != nil {
			return err
		}
		if n.Running() {
			return fmt.Errorf("%s runs already, as pid %d", name, n.PID)
		}
		c.note("starting %s", name)
		if err := c.launch(ctx, name); err != nil {
			return err
		}
		if !c.quorum() {
			c.note("too few nodes run for a quorum: %s will answer, but cannot serve yet, unless it was recovered to go on alone", name)
			need = aliveWillDo
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The lock is free again: without the others this node might never be ready.
	err = c.waitAnswer(ctx, n, need)
	if p := c.process(name); err != nil && p != nil && p.ended() {
		dead := c.locked(context.WithoutCancel(ctx), func() error {
			return c.update(name, func(n *Node) {
				if n.PID == p.pid { // nobody started it again meanwhile
					n.PID = 0
				}
			})
		})
		return errors.Join(err, dead)
	}
	if err != nil || n.Joined && written(c.path(caName)) {
		return err
	}
	return c.locked(ctx, func() error {
		if err := c.linkCA(); err != nil { // it led to a server that was wiped
			return err
		}
		return c.update(name, func(n *Node) { n.Joined = true })
	})
}

// needsJoin tells whether a start of n needs a join token: it never became a
// voter, or somebody wiped its data directory.
func needsJoin(n Node) bool { return !n.Joined || !n.Belongs() }

// quorum tells whether more than half of the nodes run, of those that are or
// were in the cluster.
func (c *Cluster) quorum() bool {
	running, in := 0, 0
	for _, n := range c.Record().Nodes {
		if n.Joined || n.Running() {
			in++
		}
		if n.Running() {
			running++
		}
	}
	return running > in/2
}

// Stop stops a server: gracefully, or with SIGKILL. A graceful stop that takes
// too long is an error; it is the caller's to kill then.
func (c *Cluster) Stop(ctx context.Context, name string, kill bool) error {
	return c.locked(ctx, func() error {
		n, err := c.Node(name)
		if err != nil {
			return err
		}
		how := gracefully
		if kill {
			how = byForce
		}
		return c.halt(ctx, n, how)
	})
}

// Down stops all servers at once and keeps their data. One that does not stop
// in time is killed, which is an error all the same.
func (c *Cluster) Down(ctx context.Context) error {
	return c.locked(ctx, func() error {
		return c.all(c.Record().Nodes, func(n Node) error { return c.halt(ctx, n, orKill) })
	})
}

// Purge removes what Up made; the servers must be stopped. Files that are not
// ours stay, and with them the directory.
func (c *Cluster) Purge(ctx context.Context) error {
	return c.locked(ctx, func() error {
		for _, n := range c.Record().Nodes {
			if n.Running() {
				return fmt.Errorf("%s still runs: stop it first", n.Name)
			}
			if err := errors.Join(os.RemoveAll(c.path(n.Name)), remove(n.Log)); err != nil {
				return err
			}
		}
		var errs []error
		// The lock is the last: from then on another command may hold a new one.
		for _, name := range []string{adminTokenName, meshTokenName, passphraseName, caName, envName, readyName, startingName, lockName} {
			errs = append(errs, remove(c.path(name)))
		}
		os.Remove(c.dir) // fails when something else is in it, and so it should
		return errors.Join(errs...)
	})
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// manner is how a server is stopped.
type manner int

const (
	gracefully manner = iota // SIGTERM, and an error if it takes too long
	orKill                   // the same, then SIGKILL
	byForce                  // SIGKILL
)

// halt stops the server of n and records it; the lock must be held.
func (c *Cluster) halt(ctx context.Context, n Node, how manner) error {
	if n.Running() {
		c.note("stopping %s (pid %d)", n.Name, n.PID)
		if err := stopProcess(ctx, n, how); err != nil {
			if n.Running() {
				return err
			}
			return errors.Join(err, c.update(n.Name, func(n *Node) { n.PID = 0 }))
		}
	}
	return c.update(n.Name, func(n *Node) { n.PID = 0 })
}

func stopProcess(ctx context.Context, n Node, how manner) error {
	if how == byForce {
		return killProcess(n)
	}
	if err := terminate(n.PID); err != nil {
		return fmt.Errorf("%s: stop pid %d: %w", n.Name, n.PID, err)
	}
	waiting, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := waitGone(waiting, n.PID, n.DataDir); err == nil {
		return nil
	}
	if how == gracefully {
		return fmt.Errorf("%s (pid %d) did not stop within %s: look at %s, or use --kill", n.Name, n.PID, stopTimeout, n.Log)
	}
	why := "did not stop in time and was killed"
	if errors.Is(ctx.Err(), context.Canceled) {
		why = "was killed while it stopped, as asked"
	}
	return errors.Join(fmt.Errorf("%s (pid %d) %s; its data is safe", n.Name, n.PID, why), killProcess(n))
}

// killProcess does not listen to the caller's context: a kill is what remains
// when there is no time left.
func killProcess(n Node) error {
	if err := kill(n.PID); err != nil {
		return fmt.Errorf("%s: kill pid %d: %w", n.Name, n.PID, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := waitGone(ctx, n.PID, n.DataDir); err != nil {
		return fmt.Errorf("%s: pid %d is still there %s after SIGKILL", n.Name, n.PID, killTimeout)
	}
	return nil
}
