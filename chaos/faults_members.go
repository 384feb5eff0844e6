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
// out, while clients ask on. What a step did not finish while there was traffic,
// healing does.

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
func (f *Grow) Inject(ctx context.Context, a *Arena) (hit []string, err error) {
	if err := a.takeList(ctx); err != nil {
		return nil, err
	}
	for in := a.Admin.Members(); len(in) < f.To && ctx.Err() == nil; in = a.Admin.Members() {
		next := slices.IndexFunc(a.Nodes, func(n string) bool { return !slices.Contains(in, n) })
		if next < 0 {
			return hit, fmt.Errorf("there are %d nodes, and %d are wanted", len(a.Nodes), f.To)
		}
		f.entering = a.Nodes[next]
		hit = append(hit, f.entering)
		a.grip.take(theServer, []string{f.entering}, 1)
		a.novice(f.entering)
		a.Admin.Enlist(f.entering, true)
		a.proof.bite()
		if err := f.Heal(ctx, a); err != nil {
			return hit, whileThereIsTime(ctx, err)
		}
	}
	return hit, anyOf(hit, fmt.Sprintf("there are %d members already", f.To))
}

// Heal implements Fault.
func (f *Grow) Heal(ctx context.Context, a *Arena) error {
	if f.entering == "" {
		return nil
	}
	if err := a.rejoin(ctx, f.entering, false); err != nil {
		return err
	}
	f.entering = ""
	return nil
}

// Turnover renews every member, one after the other: it is removed, its machine
// emptied, and it joins again as a new node.
type Turnover struct {
	leave leave
}

// Inject implements Fault.
func (f *Turnover) Inject(ctx context.Context, a *Arena) (hit []string, err error) {
	if err := a.takeList(ctx); err != nil {
		return nil, err
	}
	for _, n := range a.Admin.Members() {
		if ctx.Err() != nil || len(a.grip.take(theServer, []string{n}, 1)) == 0 {
			continue // there is no time for it, or another fault has it in hand
		}
		if err := a.endanger([]string{n}); err != nil {
			return hit, err
		}
		f.leave.node = n
		if err := f.leave.ask(ctx, a); f.leave.node == "" {
			a.rescued(n)
			return hit, err
		}
		hit = append(hit, n)
		if err := f.Heal(ctx, a); err != nil {
			return hit, whileThereIsTime(ctx, err)
		}
	}
	return hit, anyOf(hit, "other faults have every server in hand")
}

// Heal implements Fault.
func (f *Turnover) Heal(ctx context.Context, a *Arena) error {
	n := f.leave.node
	if err := f.leave.finish(ctx, a); n == "" || err != nil {
		return err
	}
	if err := a.rejoin(ctx, n, false); err != nil {
		return err
	}
	f.leave = leave{}
	return nil
}

// Shrink takes the last members out, one after the other, until there are so many.
type Shrink struct {
	To int `json:"to"`

	leave leave
}

// Inject implements Fault.
func (f *Shrink) Inject(ctx context.Context, a *Arena) (hit []string, err error) {
	if err := a.takeList(ctx); err != nil {
		return nil, err
	}
	for in := a.Admin.Members(); len(in) > f.To && ctx.Err() == nil; in = a.Admin.Members() {
		last := in[len(in)-1]
		if len(a.grip.take(theServer, []string{last}, 1)) == 0 {
			return hit, anyOf(hit, "another fault has "+last+" in hand")
		}
		f.leave.node = last
		if err := f.leave.ask(ctx, a); f.leave.node == "" {
			return hit, err
		}
		hit = append(hit, last)
		if err := f.Heal(ctx, a); err != nil {
			return hit, whileThereIsTime(ctx, err)
		}
	}
	return hit, anyOf(hit, fmt.Sprintf("there are no more than %d members", f.To))
}

// Heal implements Fault.
func (f *Shrink) Heal(ctx context.Context, a *Arena) error {
	n := f.leave.node
	if err := f.leave.finish(ctx, a); n == "" || err != nil {
		return err
	}
	a.Admin.Enlist(n, false)
	f.leave = leave{}
	return nil
}

// leave is a member's way out, which may be finished by another than it was begun by.
type leave struct {
	node string // empty: nobody leaves
	out  bool   // the cluster has let go of it for certain
}

// ask has the member removed and asks until that is certain: whoever shuts a
// machine down for good must know. A refusal ends it, and then nobody leaves; the
// end of ctx does not, since the answer may be on its way.
func (l *leave) ask(ctx context.Context, a *Arena) error {
	for {
		err := a.Admin.Remove(ctx, l.node)
		if err == nil {
			l.out = true
			a.proof.bite()
			return nil
		}
		e := (*client.Error)(nil)
		open := errors.As(err, &e) && (e.Code == client.CodeUnknownOutcome || e.Code == client.CodeUnavailable)
		switch {
		case !open:
			l.node = ""
			return a.refused(err)
		case !waitUntil(ctx, time.Now().Add(rejoinPause)):
			return err
		}
	}
}

// finish makes certain that a member that is to leave has left, and clears its
// machine.
func (l *leave) finish(ctx context.Context, a *Arena) error {
	if l.node == "" {
		return nil
	}
	if !l.out {
		if err := l.ask(ctx, a); err != nil {
			return err
		}
	}
	return a.scrap(ctx, l.node)
}

// whileThereIsTime is the error of a step that had the time to succeed.
func whileThereIsTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// anyOf says why a step hit nobody, if it did not.
func anyOf(hit []string, why string) error {
	if len(hit) > 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBusy, why)
}
