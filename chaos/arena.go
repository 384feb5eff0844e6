package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// Arena is what faults may lay hands on. A facility that the machine lacks is
// nil, and faults that need it are skipped.
type Arena struct {
	Nodes []string   // all there may be; those in the cluster are Admin's to tell
	Rand  *rand.Rand // of the one goroutine that injects
	Admin Admin
	Proc  Processes
	Net   Network
	Disk  Disk
	Clock Clock
	// Missing says why a facility is nil.
	Missing map[Need]string

	grip  *grip  // what this step has in hand
	proof *proof // that its fault really bit
}

// Admin asks and tells the cluster what an operator would.
type Admin interface {
	// Leader asks anew who leads.
	Leader(ctx context.Context) (string, error)
	// Members are the nodes that are to be in the cluster, a slice of the caller's.
	Members() []string
	// Enlist says that a node is to be in the cluster from now on, or not.
	Enlist(node string, in bool)
	// Voter fails unless the leader counts the server that runs as node among its voters.
	Voter(ctx context.Context, node string) error
	// Skews are the nodes' own words on how far their clocks are off; who does
	// not answer is left out.
	Skews(ctx context.Context) map[string]time.Duration
	// Remove takes a node out of the cluster for ever.
	Remove(ctx context.Context, node string) error
	// Transfer hands leadership to any other node and tells who has it then.
	Transfer(ctx context.Context, from string) (to string, err error)
}

// Processes are the servers as the operating system sees them.
type Processes interface {
	Start(ctx context.Context, node string) error
	Stop(ctx context.Context, node string, kill bool) error
	// Kill sends SIGKILL to all in the same moment; Stop waits and records it.
	Kill(nodes ...string) error
	Signal(node string, sig os.Signal) error
	// Settle waits until a server serves, or has ended.
	Settle(ctx context.Context, node string) error
	DataDir(node string) string
	// Belongs tells whether the data directory is that of a member.
	Belongs(node string) bool
}

// Network is between the nodes; clients reach every node all the time.
type Network interface {
	// Shape sets what happens to packets from one node to another.
	Shape(from, to string, how Shape) error
	// Toll counts the packets that met a shape since Clear.
	Toll() Toll
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

// Toll is how many packets a bad network touched.
type Toll struct{ Lost, Late, Twice uint64 }

// Disk is each node's own file system.
type Disk interface {
	// Fill ends when the file system says that no space is left; else it fails.
	Fill(node string) error
	Free(node string) error
	Freeze(node string) error
	Thaw(node string) error
}

// Clock moves a server's clock.
type Clock interface {
	SetOffset(node string, offset time.Duration) error
}

func (a *Arena) missing(n Need) error {
	return fmt.Errorf("%w: %s", ErrSkipped, cmp.Or(a.Missing[n], "the scenario did not prepare the "+string(n)))
}

// pick takes in hand the nodes that a target stands for, as far as no other
// fault has them: their server, or their clock.
func (a *Arena) pick(ctx context.Context, what part, target string) ([]string, error) {
	from, n, err := a.candidates(ctx, target)
	if err != nil {
		return nil, err
	}
	hit := a.grip.take(what, from, n)
	if len(hit) == 0 {
		return nil, fmt.Errorf("%w: another fault still has the %s of %v in hand", ErrBusy, what, from)
	}
	return hit, nil
}

// aim returns the nodes that a target stands for, whoever has them in hand.
func (a *Arena) aim(ctx context.Context, target string) ([]string, error) {
	from, n, err := a.candidates(ctx, target)
	return from[:min(n, len(from))], err
}

// candidates returns the nodes that a target may mean, and how many of them:
// leader, follower, followers, one, minority, majority, all (of the members), or a
// node's name.
// Who leads is asked anew; with no leader any node will do.
func (a *Arena) candidates(ctx context.Context, target string) ([]string, int, error) {
	if slices.Contains(a.Nodes, target) {
		return []string{target}, 1, nil
	}
	members := a.Admin.Members()
	half := len(members) / 2
	switch target {
	case "one":
		return a.shuffled(), 1, nil
	case "minority":
		return a.shuffled(), a.minority(members), nil
	case "majority":
		return a.shuffled(), half + 1, nil
	case "all":
		return members, len(members), nil
	case "leader", "follower", "followers":
		return a.byRole(ctx, target)
	}
	return nil, 0, fmt.Errorf("target %q is none of leader, follower, followers, one, minority, majority, all, %v", target, a.Nodes)
}

func (a *Arena) byRole(ctx context.Context, target string) ([]string, int, error) {
	shuffled := a.shuffled()
	leader, err := a.Admin.Leader(ctx)
	switch {
	case err != nil:
		return shuffled, 1, nil
	case target == "leader":
		return []string{leader}, 1, nil
	}
	others := slices.DeleteFunc(shuffled, func(n string) bool { return n == leader })
	if len(others) == 0 {
		return nil, 0, fmt.Errorf("nobody follows %s", leader)
	}
	if target == "followers" {
		return others, len(others), nil
	}
	return others, 1, nil
}

func (a *Arena) shuffled() []string {
	out := a.Admin.Members()
	a.Rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
