package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/cluster"
)

// Scenario is a chaos run as data.
type Scenario struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Seed        uint64   `json:"seed"`
	Nodes       int      `json:"nodes"`
	Members     int      `json:"members,omitempty"` // of the nodes, in the cluster at the start; 0: all
	Duration    Duration `json:"duration"`          // of the traffic
	Traffic     Traffic  `json:"traffic"`
	Steps       []Step   `json:"steps,omitempty"`
	Random      *Random  `json:"random,omitempty"` // draws further steps from the seed
	Needs       []Need   `json:"needs,omitempty"`  // what the run prepares before the cluster starts
	Timing      string   `json:"timing,omitempty"` // of the servers, empty: their default
	Gossip      bool     `json:"gossip,omitempty"` // at the end every member's gossip must have found every other again
}

// Need is a facility of the machine that must be prepared before the servers start.
type Need string

// The needs.
const (
	NeedNetwork Need = "network" // a network namespace for each node (root)
	NeedDisk    Need = "disk"    // a small file system of its own for each node (root)
	NeedClock   Need = "clock"   // servers that read their clock offset from a file
)

// Step is one fault at its time. It is healed after For; with For zero it
// heals by itself or stays until the end.
type Step struct {
	At    Duration `json:"at"`
	For   Duration `json:"for,omitempty"`
	Fault Spec     `json:"fault"`
}

// Spec names a fault and its parameters.
type Spec struct {
	Name   string          `json:"name"`
	Params json.RawMessage `json:"params,omitempty"`
}

// Traffic is what the clients do. Rates are per client and second.
type Traffic struct {
	Clients int     `json:"clients"`
	Agents  int     `json:"agents"`
	Rate    float64 `json:"rate"` // operations per client and second, at most
	Weights Weights `json:"weights"`
	// SkewMs is the policy's at the start, 0: the server's default. When given,
	// agents' clocks are off by up to most of it, ahead and behind.
	SkewMs int64 `json:"skew_ms,omitempty"`
	// NarrowMs is the window of the agent that is held to narrowRequests, 0: narrowWindowMs. Slow traffic needs a wider one.
	NarrowMs int64 `json:"narrow_ms,omitempty"`
	// Accounts of the ledger between which all clients move money, 0: defaultAccounts.
	Accounts int `json:"accounts,omitempty"`
	// Islands are groups of a few accounts with a short history each, 0: defaultIslands.
	Islands int `json:"islands,omitempty"`
	// Poll is how often each node is asked for its status, 0: pollEvery.
	Poll Duration `json:"poll,omitempty"`
}

// Weights are the shares of the kinds of operations.
type Weights struct {
	Claim      int `json:"claim"`       // a fresh signed request, sometimes a forged one
	Replay     int `json:"replay"`      // one that was sent before, at another node under another claim id
	Retry      int `json:"retry"`       // the same claim again
	Ban        int `json:"ban"`         // and lift, in turn
	BanRead    int `json:"ban_read"`    // strong or local
	PolicySet  int `json:"policy_set"`  // after a read
	PolicyRead int `json:"policy_read"` // strong or local
	ChainRead  int `json:"chain_read"`
	Rekey      int `json:"rekey,omitempty"` // an agent changes its key, once an hour at most
	// Of the ledger; without either it is not opened.
	Move        int `json:"move,omitempty"`         // transfers, holds and their ends, batches, linked or not
	AccountRead int `json:"account_read,omitempty"` // strong or local
}

// Duration reads and prints as "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// DefaultTraffic keeps two cores busy without starving the servers.
func DefaultTraffic() Traffic {
	return Traffic{Clients: 4, Agents: 8, Rate: 40,
		Weights: Weights{Claim: 40, Replay: 14, Retry: 10, Ban: 6, BanRead: 10, PolicySet: 1, PolicyRead: 3, ChainRead: 4, Move: 18, AccountRead: 6}}
}

// Validate reports everything that is wrong with a scenario at once.
func (s *Scenario) Validate() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(s.Name == "", "a scenario needs a name")
	wrong(s.Nodes < 1 || s.Nodes > cluster.MaxNodes, "%d nodes, want 1 to %d", s.Nodes, cluster.MaxNodes)
	wrong(s.Members < 0 || s.Members > s.Nodes, "%d members of %d nodes", s.Members, s.Nodes)
	wrong(s.Duration <= 0, "the duration must be positive")
	wrong(s.Traffic.Clients < 1 || s.Traffic.Agents < 2 || s.Traffic.Rate <= 0, "traffic needs a client, two agents and a rate")
	wrong(s.Traffic.Weights.total() <= 0, "traffic needs weights")
	for i, step := range s.Steps {
		wrong(step.At < 0 || step.At > s.Duration, "step %d is outside the run", i+1)
		if _, err := NewFault(step.Fault); err != nil {
			errs = append(errs, fmt.Errorf("step %d: %w", i+1, err))
		}
	}
	if s.Random != nil {
		errs = append(errs, s.Random.validate())
	}
	return errors.Join(errs...)
}

func (w Weights) total() int {
	return w.Claim + w.Replay + w.Retry + w.Ban + w.BanRead + w.PolicySet + w.PolicyRead + w.ChainRead + w.Rekey + w.Move + w.AccountRead
}
