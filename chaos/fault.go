package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// Fault is something that breaks a cluster, and mends it again.
type Fault interface {
	// Inject breaks; it tells whom it hit.
	Inject(ctx context.Context, a *Arena) (nodes []string, err error)
	// Heal mends what Inject broke, also after an Inject that failed halfway.
	Heal(ctx context.Context, a *Arena) error
}

// Arena is what faults may lay hands on. A facility that the machine lacks is
// nil, and faults that need it are skipped.
type Arena struct {
	Nodes  []string
	Rand   *rand.Rand // of the one goroutine that injects
	Leader func(ctx context.Context) (string, error)
	// Remove takes a node out of the cluster for ever, as an operator does.
	Remove func(ctx context.Context, node string) error
	Proc   Processes
	Net    Network
	Disk   Disk
	Clock  Clock
	// Missing says why a facility is nil.
	Missing map[Need]string
}

// Processes are the servers as the operating system sees them.
type Processes interface {
	Start(ctx context.Context, node string) error
	Stop(ctx context.Context, node string, kill bool) error
	Signal(node string, sig os.Signal) error
	DataDir(node string) string
}

// Network is between the nodes; clients reach every node all the time.
type Network interface {
	// Shape sets what happens to packets from one node to another.
	Shape(from, to string, how Shape) error
	// Clear takes all shapes away.
	Clear() error
}

// Shape is what happens to the packets of one direction.
type Shape struct {
	Drop      float64       // share that is lost, 1: all
	Duplicate float64       // share that arrives twice
	Reorder   float64       // share that is held back behind later ones
	Delay     time.Duration // of every packet
	Jitter    time.Duration // more, at random
	UDPOnly   bool          // gossip's packets alone
}

// Disk is each node's own file system.
type Disk interface {
	Fill(node string) error
	Free(node string) error
	Freeze(node string) error
	Thaw(node string) error
}

// Clock moves a server's clock.
type Clock interface {
	SetOffset(node string, offset time.Duration) error
}

// ErrSkipped says that the machine cannot do a fault.
var ErrSkipped = errors.New("skipped")

func (a *Arena) missing(n Need) error {
	return fmt.Errorf("%w: %s", ErrSkipped, cmp.Or(a.Missing[n], "the scenario did not prepare the "+string(n)))
}

// faults makes the known faults from their parameters.
var faults = map[string]func() Fault{
	"kill":        func() Fault { return &Kill{Target: "leader"} },
	"stop":        func() Fault { return &Kill{Target: "leader", Gently: true} },
	"pause":       func() Fault { return &Pause{Target: "leader"} },
	"rolling":     func() Fault { return &Rolling{} },
	"wipe":        func() Fault { return &Wipe{Target: "follower"} },
	"replace":     func() Fault { return &Replace{Target: "follower"} },
	"flip":        func() Fault { return &Flip{Target: "follower", File: "raft.db", Bits: 64} },
	"partition":   func() Fault { return &Partition{Shape: "isolate", Target: "leader"} },
	"netem":       func() Fault { return &Netem{Target: "all"} },
	"gossip_loss": func() Fault { return &Netem{Target: "all", Loss: 0.5, UDPOnly: true} },
	"disk_full":   func() Fault { return &DiskFull{Target: "leader"} },
	"disk_stall":  func() Fault { return &DiskStall{Target: "leader"} },
	"clock":       func() Fault { return &ClockJump{Target: "leader", OffsetMs: 30_000} },
}

// FaultNames lists the faults.
func FaultNames() []string { return slices.Sorted(maps.Keys(faults)) }

// NewFault returns the fault that a spec describes; parameters it does not know
// are an error.
func NewFault(s Spec) (Fault, error) {
	make, ok := faults[s.Name]
	if !ok {
		return nil, fmt.Errorf("there is no fault %q; there are %v", s.Name, FaultNames())
	}
	f := make()
	if len(s.Params) > 0 {
		dec := json.NewDecoder(bytes.NewReader(s.Params))
		dec.DisallowUnknownFields()
		if err := dec.Decode(f); err != nil {
			return nil, fmt.Errorf("parameters of %s: %w", s.Name, err)
		}
	}
	return f, nil
}

// spec writes a fault as data.
func spec(name string, params any) Spec {
	if params == nil {
		return Spec{Name: name}
	}
	text, err := json.Marshal(params)
	if err != nil {
		panic(err) // plain types always encode
	}
	return Spec{Name: name, Params: text}
}

// pick returns the nodes that a target stands for: leader, follower, followers,
// one, minority, majority, all, or a node's name. Who leads is asked for anew; with
// no leader any node will do.
func (a *Arena) pick(ctx context.Context, target string) ([]string, error) {
	if slices.Contains(a.Nodes, target) {
		return []string{target}, nil
	}
	shuffled := slices.Clone(a.Nodes)
	a.Rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	half := len(shuffled) / 2
	switch target {
	case "one":
		return shuffled[:1], nil
	case "minority":
		return shuffled[:half], nil
	case "majority":
		return shuffled[:half+1], nil
	case "all":
		return slices.Clone(a.Nodes), nil
	case "leader", "follower", "followers":
		leader, err := a.Leader(ctx)
		if err != nil {
			return shuffled[:1], nil
		}
		if target == "leader" {
			return []string{leader}, nil
		}
		others := slices.DeleteFunc(shuffled, func(n string) bool { return n == leader })
		if target == "followers" {
			return others, nil
		}
		return others[:min(1, len(others))], nil
	}
	return nil, fmt.Errorf("target %q is none of leader, follower, followers, one, minority, majority, all, %v", target, a.Nodes)
}
