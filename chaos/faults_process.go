package chaos

import (
	"context"
	"errors"
	"sync"
	"syscall"
)

// Kill ends servers, with SIGKILL unless Gently, and starts them again.
type Kill struct {
	Target string `json:"target"`
	Gently bool   `json:"gently,omitempty"`

	hit []string
}

// Inject implements Fault.
func (f *Kill) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if f.hit, err = a.pick(ctx, theServer, f.Target); err != nil {
		return nil, err
	}
	if !f.Gently {
		if err := a.Proc.Kill(f.hit...); err != nil {
			return f.hit, err
		}
		a.proof.bite()
	}
	return f.hit, each(f.hit, func(n string) error { return a.Proc.Stop(ctx, n, !f.Gently) })
}

// Heal implements Fault.
func (f *Kill) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return a.Proc.Start(ctx, n) })
}

// Pause stops servers with SIGSTOP: they are neither alive nor dead.
type Pause struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault.
func (f *Pause) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if f.hit, err = a.pick(ctx, theServer, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, func(n string) error { return a.Proc.Signal(n, syscall.SIGSTOP) })
}

// Heal implements Fault.
func (f *Pause) Heal(_ context.Context, a *Arena) error {
	return each(f.hit, func(n string) error { return a.Proc.Signal(n, syscall.SIGCONT) })
}

// Rolling restarts all servers, one after the other, each gracefully.
type Rolling struct {
	down string // the node that is between stop and start
}

// Inject implements Fault.
func (f *Rolling) Inject(ctx context.Context, a *Arena) ([]string, error) {
	nodes, err := a.pick(ctx, theServer, "all")
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		f.down = n
		if err := a.Proc.Stop(ctx, n, false); err != nil {
			return nodes, err
		}
		a.proof.bite()
		if err := a.Proc.Start(ctx, n); err != nil {
			return nodes, err
		}
		f.down = ""
	}
	return nodes, nil
}

// Heal implements Fault.
func (f *Rolling) Heal(ctx context.Context, a *Arena) error {
	if f.down == "" {
		return nil
	}
	return a.Proc.Start(ctx, f.down)
}

// Transfer hands leadership over; nothing breaks, and nothing needs healing.
type Transfer struct{}

// Inject implements Fault.
func (*Transfer) Inject(ctx context.Context, a *Arena) ([]string, error) {
	from, err := a.Admin.Leader(ctx)
	if err != nil {
		return nil, a.refused(err)
	}
	to, err := a.Admin.Transfer(ctx, from)
	if err != nil {
		return []string{from}, a.refused(err)
	}
	a.proof.note("from %s to %s", from, to)
	if from == to {
		a.proof.miss("%s leads as before", from)
	}
	return []string{from}, nil
}

// Heal implements Fault.
func (*Transfer) Heal(context.Context, *Arena) error { return nil }

// each runs do for all nodes at once: a majority dies together.
func each(nodes []string, do func(node string) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
