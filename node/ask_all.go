package node

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/edgecoder/edgecoder/fsm"
)

// askAll asks every coordinator at once, this node too, and returns what came of each
// in the order of their ids, at the latest after the time for requests.
func askAll[T any](ctx context.Context, n *Node, ask func(context.Context, fsm.Coordinator) T) []T {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	var nodes []fsm.Coordinator
	n.machine.Read(func(s *fsm.State) { nodes = s.Coordinators() })
	if !slices.ContainsFunc(nodes, func(c fsm.Coordinator) bool { return c.ID == n.id.NodeID }) {
		nodes = append(nodes, fsm.Coordinator{ID: n.id.NodeID, Name: n.cfg.Name})
	}
	slices.SortFunc(nodes, func(a, b fsm.Coordinator) int { return cmp.Compare(a.ID, b.ID) })
	out := make([]T, len(nodes))
	var all sync.WaitGroup
	for i, c := range nodes {
		all.Go(func() { out[i] = ask(ctx, c) })
	}
	all.Wait()
	return out
}
