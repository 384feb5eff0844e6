package cluster

import (
	"context"
	"time"
)

// NodeStatus is what can be seen of one node from outside.
type NodeStatus struct {
	Name         string `json:"name"`
	PID          int    `json:"pid"` // 0 while stopped
	Running      bool   `json:"running"`
	API          string `json:"api"`
	State        string `json:"state"` // leader, follower, …; empty when it does not answer
	Leader       string `json:"leader,omitempty"`
	Term         uint64 `json:"term"`
	AppliedIndex uint64 `json:"applied_index"`
	DigestIndex  uint64 `json:"digest_index"`
	Digest       string `json:"digest,omitempty"`
	Voters       int    `json:"voters"`
	Error        string `json:"error,omitempty"` // why a running node did not answer
}

// statusTimeout bounds the question to one node: a status must not hang on the
// very node that hangs.
const statusTimeout = 3 * time.Second

// Status asks every node by itself.
func (c *Cluster) Status(ctx context.Context) []NodeStatus {
	nodes := c.Record().Nodes
	out := make([]NodeStatus, len(nodes))
	at := make(map[string]int, len(nodes))
	for i, n := range nodes {
		at[n.Name] = i
	}
	c.all(nodes, func(n Node) error { // every failure is in its row
		out[at[n.Name]] = c.statusOf(ctx, n)
		return nil
	})
	return out
}

func (c *Cluster) statusOf(ctx context.Context, n Node) NodeStatus {
	row := NodeStatus{Name: n.Name, API: n.API}
	if !n.Running() {
		return row
	}
	row.PID, row.Running = n.PID, true
	api, err := c.Client(n.Name)
	if err != nil {
		row.Error = err.Error()
		return row
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s, err := api.Status(ctx)
	if err != nil {
		row.Error = err.Error()
		return row
	}
	row.State, row.Term, row.AppliedIndex = s.State, s.Term, s.AppliedIndex
	row.DigestIndex, row.Digest, row.Voters = s.DigestIndex, s.Digest, len(s.Voters)
	if s.Leader != nil {
		row.Leader = s.Leader.Name
	}
	return row
}

// WaitReady waits until every running node is ready and knows a leader.
func (c *Cluster) WaitReady(ctx context.Context) error {
	if err := c.reload(); err != nil {
		return err
	}
	var running []Node
	for _, n := range c.Record().Nodes {
		if n.Running() {
			running = append(running, n)
		}
	}
	return c.each(ctx, running, func(ctx context.Context, n Node) error { return c.waitAnswer(ctx, n, mustBeReady) })
}
