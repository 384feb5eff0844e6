package node

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// Who enforces what: coordinators publish the head of their chain, edges report theirs, both signed. This node holds what it heard against
// the times at which its own chain grew.

// maxSteps bounds how many steps of the chain wait for members: those of a burst are few, since heads are announced together.
const maxSteps = 1024

// chainStep is a size that the chain reached here.
type chainStep struct {
	size uint64
	at   time.Time // monotonic
}

// enforcement measures how long members take to enforce, and wakes who waits for them.
type enforcement struct {
	delay prometheus.Histogram

	mu    sync.Mutex // guards what follows
	epoch uint64
	steps []chainStep // of epoch, oldest first, at most maxSteps
	moved chan struct{}
}

func newEnforcement() *enforcement {
	return &enforcement{moved: make(chan struct{}), delay: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "edgecoder_ban_enforced_duration_seconds",
		Help:    "Time from a ban or lift in the chain of this node until it heard that a member enforces it, each member once, where this node leads.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)})}
}

// grew notes that this replica's chain reached a size.
func (e *enforcement) grew(epoch, size uint64, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if epoch != e.epoch {
		e.epoch, e.steps = epoch, nil
	}
	if n := len(e.steps); n > 0 && size <= e.steps[n-1].size {
		return
	}
	if len(e.steps) == maxSteps {
		e.steps = append(e.steps[:0], e.steps[maxSteps/2:]...)
	}
	e.steps = append(e.steps, chainStep{size, at})
	e.wake()
}

// reached notes that a member enforces the chain from one size on up to another; measured: the delays count.
func (e *enforcement) reached(epoch, from, to uint64, at time.Time, measured bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if epoch == e.epoch && measured {
		for _, s := range e.steps {
			if s.size > from && s.size <= to {
				e.delay.Observe(at.Sub(s.at).Seconds())
			}
		}
	}
	e.wake()
}

// wake lets waiters look again. Under mu.
func (e *enforcement) wake() {
	close(e.moved)
	e.moved = make(chan struct{})
}

func (e *enforcement) next() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.moved
}

// hearEnforced takes note of a member's head that was accepted; was is the one before. It is called by gossip's loop.
func (n *Node) hearEnforced(was, is chainHead) {
	n.enforcement.reached(is.Epoch, was.Size, is.Size, time.Now(), n.lead.Load() != nil && was.Epoch == is.Epoch)
}

// maxShown bounds the members that an answer names: those that lag come first, and the counts are of all.
const maxShown = 256

// Enforcement implements api.Enforcers. The channel is closed once another look may find more.
func (n *Node) Enforcement(size uint64) (client.Enforcement, <-chan struct{}) {
	moved := n.enforcement.next() // before the look, or a change in between would be missed
	out := client.Enforcement{Members: []client.Enforcing{}}
	rows := map[string]client.Enforcing{}
	n.machine.Read(func(s *fsm.State) {
		_, have := s.Chain()
		out.Epoch, out.Size = s.Meta().Epoch, cmp.Or(size, have)
		for _, c := range s.Coordinators() {
			row := client.Enforcing{ID: c.ID, Name: c.Name, Role: string(c.Role), State: client.MemberUnseen}
			if c.ID == n.id.NodeID {
				row.State, row.ChainSize = gossip.StateAlive, have
			}
			rows[c.ID] = row
		}
	})
	for _, m := range n.pool.Members() {
		n.enforcing(rows, m, out.Epoch)
	}
	for _, row := range rows {
		row.Enforces = row.ChainSize >= out.Size
		out.Count(row)
		out.Members = append(out.Members, row)
	}
	slices.SortFunc(out.Members, func(a, b client.Enforcing) int {
		if a.Enforces != b.Enforces {
			return map[bool]int{false: -1, true: 1}[a.Enforces]
		}
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	out.Members = out.Members[:min(len(out.Members), maxShown)]
	return out, moved
}

// enforcing adds what a member of the pool says. Coordinators count by the records, whether the pool sees them or not; edges count unless they said goodbye or
// are not trusted, so one that died counts until the pool forgets it, after a day.
func (n *Node) enforcing(rows map[string]client.Enforcing, m gossip.Member, epoch uint64) {
	row, recorded := rows[m.Card.NodeID]
	switch {
	case m.Card.NodeID == n.id.NodeID || m.State == gossip.StateUntrusted:
		return
	case !recorded && (m.Card.Role != string(fsm.RoleEdge) || m.State == gossip.StateLeft):
		return
	case !recorded:
		row = client.Enforcing{ID: m.Card.NodeID, Name: m.Card.Name, Role: m.Card.Role}
	}
	row.State = m.State
	if h, err := parseHead(m.Head); err == nil && h.Epoch == epoch {
		row.ChainSize = h.Size
	}
	rows[m.Card.NodeID] = row
}
