package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// agreeTimeout is how long a healed cluster may take to agree again: a node
// that was wiped has to join, catch up and be promoted.
const agreeTimeout = 2 * time.Minute

// mend takes away whatever may still be broken, whichever fault left it so.
func (r *run) mend(ctx context.Context) error {
	var errs []error
	if r.arena.Net != nil {
		errs = append(errs, r.arena.Net.Clear())
	}
	for _, n := range r.field.nodes {
		if r.arena.Clock != nil {
			errs = append(errs, r.arena.Clock.SetOffset(n, 0))
		}
		if r.arena.Disk != nil {
			errs = append(errs, r.arena.Disk.Thaw(n), r.arena.Disk.Free(n))
		}
		_ = r.arena.Proc.Signal(n, syscall.SIGCONT) // it may not run
	}
	return errors.Join(append(errs, each(r.field.Members(), func(n string) error { return r.arena.Proc.Start(ctx, n) }))...)
}

// agree waits until all members are voters, have the same chain, and share a mark
// that was made after from.
func (r *run) agree(ctx context.Context) (detail string, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.opts.Patience, agreeTimeout))
	defer cancel()
	clients, err := r.field.clients()
	if err != nil {
		return "", err
	}
	for _, c := range clients {
		defer c.Close()
	}
	start := time.Now()
	var from uint64
	for {
		var now uint64
		now, err = r.agreed(ctx, clients, from)
		if from == 0 {
			from = now
		}
		if err == nil {
			return fmt.Sprintf("after %s", time.Since(start).Round(100*time.Millisecond)), nil
		}
		if !waitUntil(ctx, time.Now().Add(500*time.Millisecond)) {
			return "", err
		}
	}
}

// agreed tells what is missing, and the highest index that a node has applied.
func (r *run) agreed(ctx context.Context, clients map[string]*client.Client, from uint64) (top uint64, err error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	marks := map[client.Mark]int{}
	heads := map[string]bool{}
	var errs []error
	members, replicas := r.field.Members(), r.field.replicas()
	for _, n := range replicas {
		st, err := clients[n].Status(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n, err))
			continue
		}
		bans, err := clients[n].Bans(ctx, client.Page("", 1))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n, err))
			continue
		}
		heads[fmt.Sprint(bans.Size, bans.ChainHead)] = true
		top = max(top, st.AppliedIndex)
		for _, m := range st.Digests {
			if m.Index > from {
				marks[m]++
			}
		}
		if len(st.Voters) != len(members) {
			errs = append(errs, fmt.Errorf("%s counts %d voters", n, len(st.Voters)))
		}
		if r.Gossip {
			errs = append(errs, gossips(ctx, n, clients[n], members))
		}
	}
	shared := false
	for _, k := range marks {
		shared = shared || k == len(replicas)
	}
	switch {
	case errors.Join(errs...) != nil:
	case len(heads) != 1:
		errs = append(errs, errors.New("the nodes show different chains"))
	case !shared || from == 0:
		errs = append(errs, errors.New("the nodes share no mark that was made after healing"))
	}
	return top, errors.Join(errs...)
}

// gossips wants a node's gossip to have found every member again: halves that
// were apart for long have forgotten each other.
func gossips(ctx context.Context, node string, c *client.Client, members []string) error {
	seen, err := c.Members(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", node, err)
	}
	for _, name := range members {
		if !slices.ContainsFunc(seen.Members, func(m client.Member) bool { return m.Name == name && m.State == "alive" }) {
			return fmt.Errorf("gossip of %s has not found %s again", node, name)
		}
	}
	return nil
}

// finals collects each replica's last word.
func (r *run) finals(ctx context.Context) []judge.Final {
	replicas := r.field.replicas()
	out := make([]judge.Final, len(replicas))
	for i, n := range replicas {
		out[i] = r.final(ctx, n)
	}
	shareRecords(out)
	return out
}

func (r *run) final(ctx context.Context, node string) judge.Final {
	f := judge.Final{Node: node}
	fail := func(err error) judge.Final {
		f.Error = err.Error()
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := r.field.client(node)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	if f.Identity, err = c.Identity(ctx); err != nil {
		return fail(err)
	}
	peers, err := c.MeshPeers(ctx)
	if err != nil {
		return fail(err)
	}
	f.Peers = peers.Peers
	st, err := c.Status(ctx)
	if err != nil {
		return fail(err)
	}
	f.Status = statusOf(st)
	var events []json.RawMessage
	audit, err := c.Audit(ctx, func(event json.RawMessage) error {
		events = append(events, event)
		return nil
	})
	if err != nil {
		return fail(err)
	}
	audit.Events = events
	f.Audit = &audit
	if r.Traffic.Weights.Move > 0 {
		f.Ledger = ledgerFinal(ctx, c)
	}
	return f
}
