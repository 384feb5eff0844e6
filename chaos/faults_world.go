package chaos

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	hit, err := a.pick(ctx, cmp.Or(f.Target, "one"))
	if err != nil {
		return nil, err
	}
	cutOff := map[string]bool{}
	for _, from := range a.Nodes {
		for _, to := range a.Nodes {
			cut, err := f.cuts(a.Nodes, hit, from, to)
			if err != nil {
				return hit, err
			}
			if from == to || !cut {
				continue
			}
			cutOff[from] = true
			if err := a.Net.Shape(from, to, Shape{Drop: 1}); err != nil {
				return hit, err
			}
		}
	}
	if f.Shape == "halves" || f.Shape == "bridge" { // they have no target
		return slices.Sorted(maps.Keys(cutOff)), nil
	}
	return hit, nil
}

// cuts tells whether packets from one node to another are lost.
func (f *Partition) cuts(nodes, hit []string, from, to string) (bool, error) {
	in := func(n string) bool { return slices.Contains(hit, n) }
	low := func(n string) bool { return slices.Index(nodes, n) < len(nodes)/2 }
	middle := nodes[len(nodes)/2]
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
func (f *Partition) Heal(_ context.Context, a *Arena) error {
	if a.Net == nil {
		return nil
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
	hit, err := a.pick(ctx, f.Target)
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
func (f *Netem) Heal(_ context.Context, a *Arena) error {
	if a.Net == nil {
		return nil
	}
	return a.Net.Clear()
}

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
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, a.Disk.Fill)
}

// Heal implements Fault. A server that ended over it is started again.
func (f *DiskFull) Heal(ctx context.Context, a *Arena) error {
	if err := each(f.hit, a.freeDisk); err != nil {
		return err
	}
	return each(f.hit, func(n string) error { return a.Proc.Start(ctx, n) })
}

func (a *Arena) freeDisk(n string) error { return a.Disk.Free(n) }

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
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	return f.hit, each(f.hit, a.Disk.Freeze)
}

// Heal implements Fault. A stalled leader ends itself (DESIGN.md section 11).
func (f *DiskStall) Heal(ctx context.Context, a *Arena) error {
	if err := each(f.hit, func(n string) error { return a.Disk.Thaw(n) }); err != nil {
		return err
	}
	return each(f.hit, func(n string) error { return a.Proc.Start(ctx, n) })
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
	if f.hit, err = a.pick(ctx, f.Target); err != nil {
		return nil, err
	}
	return f.hit, f.set(a, time.Duration(f.OffsetMs)*time.Millisecond)
}

func (f *ClockJump) set(a *Arena, offset time.Duration) error {
	return each(f.hit, func(n string) error { return a.Clock.SetOffset(n, offset) })
}

// Heal implements Fault.
func (f *ClockJump) Heal(_ context.Context, a *Arena) error { return f.set(a, 0) }
