package chaos

import (
	"fmt"
	"slices"
	"sync"
)

// part is what a fault takes in hand of a node. Faults of different parts may
// meet at one node, as real accidents do: a paused server behind a bad network.
type part string

const (
	theServer part = "server" // its process, data and disk
	theWire   part = "network"
	theClock  part = "clock"
	theList   part = "membership" // who is in the cluster: an operator changes it one node at a time
)

type heldPart struct {
	what part
	node string
}

// holds tells which parts of which nodes some fault has in hand: from its
// injection until it has healed, so that none runs onto what another broke.
type holds struct {
	mu     sync.Mutex // guards what follows
	held   map[heldPart]bool
	atRisk map[string]bool // nodes whose data are gone or damaged, and that do not vote again yet

	weak []string // carry no majority for the whole run; fixed
}

func newHolds(weak ...string) *holds {
	return &holds{held: map[heldPart]bool{}, atRisk: map[string]bool{}, weak: weak}
}

// grip is one step's share of the holds.
type grip struct {
	all  *holds
	mine []heldPart
}

// take takes up to n of the nodes that nobody has in hand.
func (g *grip) take(what part, from []string, n int) []string {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	var got []string
	for _, node := range from {
		if h := (heldPart{what, node}); len(got) < n && !g.all.held[h] {
			g.all.held[h] = true
			g.mine = append(g.mine, h)
			got = append(got, node)
		}
	}
	return got
}

// refused is what to make of a cluster that would not do what an operator asked:
// while other faults last that is its right, and nothing was tried.
func (a *Arena) refused(err error) error {
	a.grip.all.mu.Lock()
	defer a.grip.all.mu.Unlock()
	if len(a.grip.all.held) > len(a.grip.mine) {
		return fmt.Errorf("%w: under other faults the cluster refused: %w", ErrBusy, err)
	}
	return err
}

// release lets go of everything. Data at risk stay so until rescued.
func (g *grip) release() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	for _, h := range g.mine {
		delete(g.all.held, h)
	}
	g.mine = nil
}

// endanger puts the data of nodes at risk, unless that could lose for ever what
// a majority had: then it refuses.
func (a *Arena) endanger(nodes []string) error {
	all := a.grip.all
	all.mu.Lock()
	defer all.mu.Unlock()
	members, risk := a.Admin.Members(), 0
	for _, n := range members {
		if all.atRisk[n] || slices.Contains(nodes, n) || slices.Contains(all.weak, n) {
			risk++
		}
	}
	if most := (len(members) - 1) / 2; risk > most {
		return fmt.Errorf("%w: %d nodes at once would have their data at risk, or carry no majority anyway; %d are the most", ErrBusy, risk, most)
	}
	for _, n := range nodes {
		all.atRisk[n] = true
	}
	return nil
}

// minority is how many members may be wrong together without being most of those
// that vote: one whose data are gone may be taken out of the count at any time.
func (a *Arena) minority(members []string) int {
	all := a.grip.all
	all.mu.Lock()
	defer all.mu.Unlock()
	voting := 0
	for _, n := range members {
		if !all.atRisk[n] {
			voting++
		}
	}
	return max(1, (voting-1)/2)
}

// novice says that a node is let in that has no vote yet, and so carries no
// majority: until it votes that is as if its data were gone.
func (a *Arena) novice(node string) {
	all := a.grip.all
	all.mu.Lock()
	defer all.mu.Unlock()
	all.atRisk[node] = true
}

// rescued says that a node has its data again: it votes.
func (a *Arena) rescued(node string) {
	all := a.grip.all
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.atRisk, node)
}

// takeNetwork takes the network of all nodes: a shape lies between two of them.
func (a *Arena) takeNetwork() error {
	if got := a.grip.take(theWire, a.Nodes, len(a.Nodes)); len(got) != len(a.Nodes) {
		return fmt.Errorf("%w: another fault still has the network in hand", ErrBusy)
	}
	return nil
}
