package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// Here nothing breaks: an operator lets nodes in, renews them, and takes them
// out, while clients ask on. What a step could not finish in its time, healing
// does.

// takeList waits until no other step changes who is in the cluster.
func (a *Arena) takeList(ctx context.Context) error {
	for len(a.grip.take(theList, []string{"cluster"}, 1)) == 0 {
		if !waitUntil(ctx, time.Now().Add(rejoinPause)) {
			return fmt.Errorf("%w: another step still changes the membership", ErrBusy)
		}
	}
	return nil
}

// Grow lets new nodes in, one after the other, until there are so many.
type Grow struct {
	To int `json:"to"`

	entering string // the node that was let in and does not vote yet
}

// Inject implements Fault.
func (f *Grow) Inject(ctx context.Context, a *Arena) ([]string, error) {
	if err := a.takeList(ctx); err != nil {
		return nil, err
	}
	var hit []string
	for len(a.Admin.Members()) < f.To {
		in := a.Admin.Members()
		next := slices.IndexFunc(a.Nodes, func(n string) bool { return !slices.Contains(in, n) })
		if next < 0 {
			return hit, fmt.Errorf("there are %d nodes, and %d are wanted", len(a.Nodes), f.To)
		}
		f.entering = a.Nodes[next]
		hit = append(hit, f.entering)
		a.grip.take(theServer, hit[len(hit)-1:], 1)
		a.Admin.Enlist(f.entering, true)
		a.proof.bite()
		if err := a.rejoin(ctx, f.entering, false); err != nil {
			return hit, err
		}
		f.entering = ""
	}
	if len(hit) == 0 {
		return nil, fmt.Errorf("%w: there are %d members already", ErrBusy, f.To)
	}
	return hit, nil
}

// Heal implements Fault.
func (f *Grow) Heal(ctx context.Context, a *Arena) error {
	if f.entering == "" {
		return nil
	}
	return a.rejoin(ctx, f.entering, false)
}

// Turnover renews every member, one after the other: it is removed, its machine
// emptied, and it joins again as a new node.
type Turnover struct {
	leaving string // the node that was removed and does not vote again yet
}

// Inject implements Fault.
func (f *Turnover) Inject(ctx context.Context, a *Arena) ([]string, error) {
	if err := a.takeList(ctx); err != nil {
		return nil, err
	}
	var hit []string
	for _, n := range a.Admin.Members() {
		if len(a.grip.take(theServer, []string{n}, 1)) == 0 {
			continue // another fault has it in hand
		}
		if err := a.endanger([]string{n}); err != nil {
			return hit, err
		}
		if err := a.dismiss(ctx, n); err != nil {
			a.rescued(n)
			if len(hit) == 0 {
				err = a.refused(err)
			}
			return hit, err
		}
		f.leaving = n
		hit = append(hit, n)
		if err := f.Heal(ctx, a); err != nil {
			return hit, err
		}
	}
	if len(hit) == 0 {
		return nil, fmt.Errorf("%w: other faults have every server in hand", ErrBusy)
	}
	return hit, nil
}

// Heal implements Fault.
func (f *Turnover) Heal(ctx context.Context, a *Arena) error {
	if f.leaving == "" {
		return nil
	}
	if err := a.scrap(ctx, f.leaving); err != nil {
		return err
	}
	if err := a.rejoin(ctx, f.leaving, false); err != nil {
		return err
	}
	f.leaving = ""
	return nil
}

// Shrink takes the last members out, one after the other, until there are so many.
type Shrink struct {
	To int `json:"to"`

	leaving string // the node that was removed and may still run
}

// Inject implements Fault.
func (f *Shrink) Inject(ctx context.Context, a *Arena) ([]string, error) {
	if err := a.takeList(ctx); err != nil {
		return nil, err
	}
	var hit []string
	for in := a.Admin.Members(); len(in) > f.To; in = a.Admin.Members() {
		last := in[len(in)-1]
		if len(a.grip.take(theServer, []string{last}, 1)) == 0 {
			return hit, fmt.Errorf("%w: another fault has %s in hand", ErrBusy, last)
		}
		if err := a.dismiss(ctx, last); err != nil {
			if len(hit) == 0 {
				err = a.refused(err)
			}
			return hit, err
		}
		f.leaving = last
		a.Admin.Enlist(last, false)
		hit = append(hit, last)
		if err := f.Heal(ctx, a); err != nil {
			return hit, err
		}
	}
	if len(hit) == 0 {
		return nil, fmt.Errorf("%w: there are no more than %d members", ErrBusy, f.To)
	}
	return hit, nil
}

// Heal implements Fault.
func (f *Shrink) Heal(ctx context.Context, a *Arena) error {
	if f.leaving == "" {
		return nil
	}
	if err := a.scrap(ctx, f.leaving); err != nil {
		return err
	}
	f.leaving = ""
	return nil
}

// dismiss has a member removed, and asks until it is certain: whoever shuts a
// machine down for good has to know that the cluster let go of it.
func (a *Arena) dismiss(ctx context.Context, node string) error {
	for {
		err := a.Admin.Remove(ctx, node)
		e := (*client.Error)(nil)
		if errors.As(err, &e) && (e.Code == client.CodeUnknownOutcome || e.Code == client.CodeUnavailable) && waitUntil(ctx, time.Now().Add(rejoinPause)) {
			continue
		}
		if err == nil {
			a.proof.bite()
		}
		return err
	}
}
