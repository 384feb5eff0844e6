package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Fault is something that breaks a cluster, and mends it again.
type Fault interface {
	// Inject breaks; it tells whom it hit.
	Inject(ctx context.Context, a *Arena) (nodes []string, err error)
	// Heal mends what Inject broke, also after an Inject that failed halfway.
	Heal(ctx context.Context, a *Arena) error
}

var (
	// ErrSkipped says that the machine cannot do a fault.
	ErrSkipped = errors.New("skipped")
	// ErrBusy says that a fault did not get the nodes it wanted, since another
	// one has not healed them yet. Nothing was tried.
	ErrBusy = errors.New("busy")
)

// faults makes the known faults from their parameters.
var faults = map[string]func() Fault{
	"kill":        func() Fault { return &Kill{Target: "leader"} },
	"stop":        func() Fault { return &Kill{Target: "leader", Gently: true} },
	"pause":       func() Fault { return &Pause{Target: "leader"} },
	"rolling":     func() Fault { return &Rolling{} },
	"transfer":    func() Fault { return &Transfer{} },
	"wipe":        func() Fault { return &Wipe{Target: "follower"} },
	"replace":     func() Fault { return &Replace{Target: "follower"} },
	"grow":        func() Fault { return &Grow{To: 5} },
	"turnover":    func() Fault { return &Turnover{} },
	"shrink":      func() Fault { return &Shrink{To: 3} },
	"flip":        func() Fault { return &Flip{Target: "follower", File: "raft.db", Bits: 64} },
	"partition":   func() Fault { return &Partition{Shape: "isolate", Target: "leader"} },
	"netem":       func() Fault { return &Netem{Target: "all"} },
	"gossip_loss": func() Fault { return &Netem{Target: "all", Loss: 0.5, UDPOnly: true} },
	"disk_full":   func() Fault { return &DiskFull{Target: "leader"} },
	"disk_stall":  func() Fault { return &DiskStall{Target: "leader"} },
	"clock":       func() Fault { return &ClockJump{Target: "leader", OffsetMs: 30_000} },
	"clock_drift": func() Fault { return &ClockDrift{Target: "leader", Percent: 10} },
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
