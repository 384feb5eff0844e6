package chaos

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Random draws a schedule of faults from a seed: the same seed gives the same
// steps, whatever the machine. One fault at a time may be joined by a second
// one of another kind, since real accidents come in pairs.
type Random struct {
	Faults map[string]int `json:"faults"` // weight by name
	Every  Duration       `json:"every"`  // mean time from one fault to the next
	Min    Duration       `json:"min"`    // shortest fault
	Max    Duration       `json:"max"`    // longest fault
	Pairs  float64        `json:"pairs"`  // share of faults that come with a second one
}

func (r *Random) validate() error {
	var errs []error
	if r.Every <= 0 || r.Min <= 0 || r.Max < r.Min || r.Pairs < 0 || r.Pairs > 1 {
		errs = append(errs, errors.New("random: want 0 < every, 0 < min <= max, 0 <= pairs <= 1"))
	}
	if len(r.Faults) == 0 {
		errs = append(errs, errors.New("random: no faults"))
	}
	for name, weight := range r.Faults {
		if _, ok := faults[name]; !ok || weight < 1 {
			errs = append(errs, fmt.Errorf("random: %q with weight %d: want a known fault and a positive weight", name, weight))
		}
	}
	return errors.Join(errs...)
}

// Schedule returns the steps of a scenario in the order of their times.
func (s *Scenario) Schedule() []Step {
	steps := slices.Clone(s.Steps)
	if s.Random != nil {
		steps = append(steps, s.Random.draw(s.Seed, time.Duration(s.Duration), s.Nodes)...)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return steps
}

// calm is left at both ends of a drawn schedule, so that it is seen that the
// cluster works before and after.
const calm = 5 * time.Second

func (r *Random) draw(seed uint64, duration time.Duration, nodes int) []Step {
	rng := rand.New(rand.NewPCG(seed, 0xedcec0de))
	var steps []Step
	for at := calm; at < duration-calm; {
		first := r.pickFault(rng, "")
		long := max(between(rng, time.Duration(r.Min), time.Duration(r.Max)), least(first))
		long = min(long, duration-calm-at)
		steps = append(steps, r.step(rng, first, at, long)...)
		if rng.Float64() < r.Pairs {
			second := r.pickFault(rng, first)
			late := between(rng, 0, long)
			if second != "" && !clash(first, second) {
				steps = append(steps, r.step(rng, second, at+late, long-late)...)
			}
		}
		at += long + between(rng, time.Duration(r.Every)/2, time.Duration(r.Every)*3/2)
	}
	return steps
}

// step draws a fault, unless there is too little time left for it to bite.
func (r *Random) step(rng *rand.Rand, name string, at, long time.Duration) []Step {
	s := Step{At: Duration(at), For: Duration(long), Fault: drawSpec(rng, name)}
	switch {
	case name == "transfer" || name == "grow" || name == "shrink":
		s.For = 0
	case long < least(name):
		return nil
	}
	return []Step{s}
}

// least is how long a fault must last to be seen to bite: some take their time.
func least(name string) time.Duration {
	switch name {
	case "transfer", "grow", "shrink":
		return 0
	case "kill", "pause":
		return 200 * time.Millisecond
	}
	return 4 * time.Second
}

// between returns a time in [low, high], rounded to milliseconds so that
// schedules read well.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return (low + time.Duration(rng.Int64N(int64(high-low)))).Round(time.Millisecond)
}

func (r *Random) pickFault(rng *rand.Rand, not string) string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(r.Faults)), func(n string) bool { return n == not })
	total := 0
	for _, n := range names {
		total += r.Faults[n]
	}
	if total == 0 {
		return ""
	}
	k := rng.IntN(total)
	for _, n := range names {
		if k -= r.Faults[n]; k < 0 {
			return n
		}
	}
	return ""
}

// clash tells whether two faults undo each other: one would start a server
// that the other holds down, or clear the other's shapes.
func clash(a, b string) bool {
	group := map[string]int{"kill": 1, "stop": 1, "rolling": 1, "wipe": 1, "replace": 1, "flip": 1, "pause": 1, "disk_full": 1, "disk_stall": 1,
		"partition": 2, "netem": 2, "gossip_loss": 2}
	return group[a] != 0 && group[a] == group[b]
}

// drawSpec draws the parameters of a fault.
func drawSpec(rng *rand.Rand, name string) Spec {
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	switch name {
	case "kill", "pause":
		return spec(name, map[string]any{"target": one("leader", "leader", "follower", "one", "majority", "all")})
	case "stop", "replace", "disk_full", "disk_stall":
		return spec(name, map[string]any{"target": one("leader", "follower")})
	case "grow":
		return spec(name, map[string]any{"to": 4 + rng.IntN(2)})
	case "shrink":
		return spec(name, map[string]any{"to": 3 + rng.IntN(2)})
	case "partition":
		return spec(name, map[string]any{"shape": one("isolate", "halves", "bridge", "oneway", "deaf"), "target": one("leader", "follower")})
	case "netem":
		return spec(name, map[string]any{"target": one("leader", "one", "all"), "delay_ms": 5 + rng.IntN(150), "jitter_ms": rng.IntN(80),
			"loss": float64(rng.IntN(20)) / 100, "duplicate": float64(rng.IntN(10)) / 100, "reorder": float64(rng.IntN(20)) / 100})
	case "clock":
		sign := int64(1 - 2*rng.IntN(2))
		return spec(name, map[string]any{"target": one("leader", "one", "minority"), "offset_ms": sign * (1_000 + rng.Int64N(600_000))})
	case "flip":
		return spec(name, map[string]any{"target": "follower", "bits": 1 + rng.IntN(256)})
	}
	return Spec{Name: name, Params: json.RawMessage(nil)}
}
