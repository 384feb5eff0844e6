package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// launch starts a server unless it runs. Where it has to join it gets a fresh
// join token; a data directory that joined needs none.
func (c *Cluster) launch(ctx context.Context, name string) error {
	n, err := c.Node(name)
	if err != nil || n.Running() {
		return err
	}
	join := needsJoin(n)
	if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
		return err
	}
	args, env := c.serverArgs(n), serverEnviron()
	switch first := c.Record().Nodes[0]; {
	case join && (n.Joined || n.Name != first.Name):
		token, err := c.joinToken(ctx, n)
		if err != nil {
			return fmt.Errorf("make a join token for %s: %w", n.Name, err)
		}
		args = append(args, "--join="+strings.Join(c.seedsFor(n), ","))
		env = serverEnviron("EDGECODER_JOIN_TOKEN=" + token)
	case !n.Joined && n.Name == first.Name:
		args = append(args, "--bootstrap", "--admin-token-out="+c.path(adminTokenName))
	}
	binary, err := c.binary()
	if err != nil {
		return err
	}
	p, err := spawn(binary, args, env, n.Log, c.detach)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	c.mu.Lock()
	c.procs[n.Name] = p
	c.mu.Unlock()
	return c.update(n.Name, func(n *Node) { n.PID = p.pid })
}

// serverArgs are the arguments that every start of n has in common.
func (c *Cluster) serverArgs(n Node) []string {
	args := []string{
		"server", "--name=" + n.Name, "--data-dir=" + n.DataDir,
		"--api-addr=" + strings.TrimPrefix(n.API, "https://"), "--gossip-addr=" + n.Gossip,
		"--passphrase-file=" + c.path(passphraseName),
	}
	if n.Raft != "" {
		args = append(args, "--raft-addr="+n.Raft)
	}
	return args
}

// seedsFor are the gossip addresses of all others.
func (c *Cluster) seedsFor(n Node) []string {
	var seeds []string
	for _, other := range c.Record().Nodes {
		if other.Name != n.Name {
			seeds = append(seeds, other.Gossip)
		}
	}
	return seeds
}

func (c *Cluster) joinToken(ctx context.Context, n Node) (string, error) {
	api, err := c.Client()
	if err != nil {
		return "", err
	}
	defer api.Close()
	t, err := api.CreateToken(ctx, client.TokenRequest{
		Role: "coordinator", Uses: 1, TTLMs: joinTokenLife.Milliseconds(), Label: "join of " + n.Name,
	})
	return t.Token, err
}

// readiness is how much of an answer a wait is content with.
type readiness bool

const (
	mustBeReady readiness = true  // /readyz: leader known, caught up
	aliveWillDo readiness = false // /healthz
)

// waitAnswer waits until the server of n answers, or ends.
func (c *Cluster) waitAnswer(ctx context.Context, n Node, need readiness) error {
	return c.wait(ctx, n, func(ctx context.Context, api *client.Client) error {
		if need == aliveWillDo {
			return api.Health(ctx)
		}
		return api.Ready(ctx)
	})
}

// waitWhole waits until every node knows the leader and counts all as voters.
func (c *Cluster) waitWhole(ctx context.Context, nodes []Node) error {
	return c.each(ctx, nodes, func(ctx context.Context, n Node) error {
		return c.wait(ctx, n, func(ctx context.Context, api *client.Client) error {
			if err := api.Ready(ctx); err != nil {
				return err
			}
			s, err := api.Status(ctx)
			switch {
			case err != nil:
				return err
			case s.Leader == nil:
				return fmt.Errorf("it knows no leader")
			case len(s.Voters) != len(nodes):
				return fmt.Errorf("%d of %d nodes are voters", len(s.Voters), len(nodes))
			}
			return nil
		})
	})
}

const (
	pollInterval = 100 * time.Millisecond
	askTimeout   = 5 * time.Second
	tailLines    = 15
)

// ErrNotUp says that a server did not come up, or not in time.
var ErrNotUp = errors.New("server did not come up")

// wait asks the server of n until ask is content. The error names the node,
// the last answer and the end of its log.
func (c *Cluster) wait(ctx context.Context, n Node, ask func(context.Context, *client.Client) error) error {
	var last error
	err := poll(ctx, pollInterval, func() (bool, error) {
		if p := c.process(n.Name); p != nil && p.ended() {
			return false, fmt.Errorf("the server ended: %v", p.err)
		}
		last = c.ask(ctx, n, ask)
		return last == nil, nil
	})
	if err == nil {
		return nil
	}
	if last != nil {
		err = fmt.Errorf("%w (last answer: %v)", err, last) // an answer to us, not to our caller
	}
	return fmt.Errorf("%w: %s: %w\n--- the end of %s:\n%s", ErrNotUp, n.Name, err, n.Log, Tail(n.Log, tailLines))
}

func (c *Cluster) ask(ctx context.Context, n Node, ask func(context.Context, *client.Client) error) error {
	token, _ := os.ReadFile(c.path(adminTokenName)) // not there yet while the first node starts
	api, err := c.clientAs(string(token), n.Name)
	if err != nil {
		return err // no CA yet
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return ask(ctx, api)
}

func (c *Cluster) process(name string) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.procs[name]
}
