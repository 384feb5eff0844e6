package chaos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Partition cuts nodes off from each other; clients still reach all of them.
// Shapes: isolate (the target from all others), halves, bridge (halves that
// one node sees both of), oneway (the target's packets are lost, it still
// hears), deaf (the target hears nothing, its packets arrive).
type Partition struct {
	Shape  string `json:"shape"`
	Target string `json:"target,omitempty"`
}

// Inject implements Fault.
func (f *Partition) Inject(ctx context.Context, a *Arena) ([]string, error) {
	if a.Net == nil {
		return nil, a.missing(NeedNetwork)
	}
	if err := a.takeNetwork(); err != nil {
		return nil, err
	}
	hit, err := a.aim(ctx, cmp.Or(f.Target, "one"))
	if err != nil {
		return nil, err
	}
	order := inOrder(a, hit)
	members := a.Admin.Members()
	for _, from := range members {
		for _, to := range members {
			cut, err := f.cuts(order, hit, from, to)
			if err != nil {
				return hit, err
			}
			if from == to || !cut {
				continue
			}
			if err := a.Net.Shape(from, to, Shape{Drop: 1}); err != nil {
				return hit, err
			}
		}
	}
	if f.Shape == "halves" || f.Shape == "bridge" {
		a.proof.note("in the order %v", order)
	}
	return hit, nil
}

// inOrder draws the order in which halves and bridges lie: the target first,
// that is in the minority and at an end, the others by chance.
func inOrder(a *Arena, hit []string) []string {
	others := slices.DeleteFunc(a.shuffled(), func(n string) bool { return slices.Contains(hit, n) })
	return append(slices.Clone(hit), others...)
}

// cuts tells whether packets from one node to another are lost; order is how
// halves and bridges lie.
func (f *Partition) cuts(order, hit []string, from, to string) (bool, error) {
	in := func(n string) bool { return slices.Contains(hit, n) }
	low := func(n string) bool { return slices.Index(order, n) < len(order)/2 }
	middle := order[len(order)/2]
	switch f.Shape {
	case "isolate":
		return in(from) != in(to), nil
	case "halves":
		return low(from) != low(to), nil
	case "bridge":
		return from != middle && to != middle && low(from) != low(to), nil
	case "oneway":
		return in(from) && !in(to), nil
	case "deaf":
		return !in(from) && in(to), nil
	}
	return false, fmt.Errorf("partition shape %q is none of isolate, halves, bridge, oneway, deaf", f.Shape)
}

// Heal implements Fault.
func (f *Partition) Heal(_ context.Context, a *Arena) error { return a.clearNetwork() }

// clearNetwork mends the network, and says what it cost while it was bad.
func (a *Arena) clearNetwork() error {
	toll := a.Net.Toll()
	if toll == (Toll{}) {
		a.proof.miss("no packet was lost, late or doubled")
	} else {
		a.proof.note("%d packets lost, %d late, %d doubled", toll.Lost, toll.Late, toll.Twice)
	}
	return a.Net.Clear()
}

// Netem makes the network of nodes bad, in both directions.
type Netem struct {
	Target    string  `json:"target"`
	DelayMs   int     `json:"delay_ms,omitempty"`
	JitterMs  int     `json:"jitter_ms,omitempty"`
	Loss      float64 `json:"loss,omitempty"`
	Duplicate float64 `json:"duplicate,omitempty"`
	Reorder   float64 `json:"reorder,omitempty"`
	UDPOnly   bool    `json:"udp_only,omitempty"`
}

// Inject implements Fault.
func (f *Netem) Inject(ctx context.Context, a *Arena) ([]string, error) {
	if a.Net == nil {
		return nil, a.missing(NeedNetwork)
	}
	if err := a.takeNetwork(); err != nil {
		return nil, err
	}
	hit, err := a.aim(ctx, f.Target)
	if err != nil {
		return nil, err
	}
	how := Shape{Drop: f.Loss, Duplicate: f.Duplicate, Reorder: f.Reorder, UDPOnly: f.UDPOnly,
		Delay: time.Duration(f.DelayMs) * time.Millisecond, Jitter: time.Duration(f.JitterMs) * time.Millisecond}
	for _, from := range a.Nodes {
		for _, to := range a.Nodes {
			if from == to || !(slices.Contains(hit, from) || slices.Contains(hit, to)) {
				continue
			}
			if err := a.Net.Shape(from, to, how); err != nil {
				return hit, err
			}
		}
	}
	return hit, nil
}

// Heal implements Fault.
func (f *Netem) Heal(_ context.Context, a *Arena) error { return a.clearNetwork() }

// DiskFull fills a node's file system to the last byte.
type DiskFull struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault.
func (f *DiskFull) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if a.Disk == nil {
		return nil, a.missing(NeedDisk)
	}
	if f.hit, err = a.pick(ctx, theServer, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, a.Disk.Fill)
}

// Heal implements Fault. A server that ended over it is started again.
func (f *DiskFull) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error {
		if err := a.Disk.Free(n); err != nil {
			return err
		}
		return a.revive(ctx, n)
	})
}

// revive starts a server whose disk is good again, unless it lives. One that
// ends itself over the disk may be in the middle of it: then it still runs.
func (a *Arena) revive(ctx context.Context, n string) error {
	if err := a.Proc.Settle(ctx, n); err != nil {
		a.proof.note("%v", err)
	}
	return a.Proc.Start(ctx, n)
}

// DiskStall makes every write of a node hang.
type DiskStall struct {
	Target string `json:"target"`

	hit []string
}

// Inject implements Fault.
func (f *DiskStall) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if a.Disk == nil {
		return nil, a.missing(NeedDisk)
	}
	if f.hit, err = a.pick(ctx, theServer, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, a.Disk.Freeze)
}

// Heal implements Fault. A stalled leader ends itself (DESIGN.md section 11),
// which it can do only once the disk moves again.
func (f *DiskStall) Heal(ctx context.Context, a *Arena) error {
	return each(f.hit, func(n string) error {
		if err := a.Disk.Thaw(n); err != nil {
			return err
		}
		return a.revive(ctx, n)
	})
}

// ClockJump moves the wall clock of nodes.
type ClockJump struct {
	Target   string `json:"target"`
	OffsetMs int64  `json:"offset_ms"`

	hit []string
}

// Inject implements Fault.
func (f *ClockJump) Inject(ctx context.Context, a *Arena) (nodes []string, err error) {
	if a.Clock == nil {
		return nil, a.missing(NeedClock)
	}
	if f.hit, err = a.pick(ctx, theClock, f.Target); err != nil {
		return nil, err
	}
	offset := time.Duration(f.OffsetMs) * time.Millisecond
	if err := f.set(a, offset); err != nil {
		return f.hit, err
	}
	a.proof.bite()
	proveSkew(ctx, a, f.hit, offset)
	return f.hit, nil
}

// clockShows is how long a jump may take to show: servers read their offset ten
// times a second and ask each other for the time every second or so.
const clockShows = 5 * time.Second

// proveSkew waits until the nodes themselves say that the clocks of some are apart
// from the others'.
func proveSkew(ctx context.Context, a *Arena, nodes []string, offset time.Duration) {
	last, compared := "", false
	for end := time.Now().Add(clockShows); time.Now().Before(end) && waitUntil(ctx, time.Now().Add(clockShows/20)); {
		skews := a.Admin.Skews(ctx)
		for hit, off := range skews {
			for other, theirs := range skews {
				if !slices.Contains(nodes, hit) || slices.Contains(nodes, other) {
					continue
				}
				compared = true
				last = fmt.Sprintf("%s says that its clock is %s off, %s %s", hit, off, other, theirs)
				if (off - theirs - offset).Abs() < offset.Abs()/2 {
					a.proof.note("%s", last)
					return
				}
			}
		}
	}
	if compared {
		a.proof.miss("%s", last)
	} else {
		a.proof.note("no two clocks could be compared")
	}
}

func (f *ClockJump) set(a *Arena, offset time.Duration) error {
	return each(f.hit, func(n string) error { return a.Clock.SetOffset(n, offset) })
}

// Heal implements Fault.
func (f *ClockJump) Heal(_ context.Context, a *Arena) error { return f.set(a, 0) }
