package node

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
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
	steps []chainStep       // of epoch, oldest first, at most maxSteps
	heads map[uint64]string // of epoch, heads that were looked up by their sizes; at most maxSteps, since members are at few sizes at one time
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
		e.epoch, e.steps, e.heads = epoch, nil, nil
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

// headAt returns the head of the chain at a size of an epoch, looked up once.
func (e *enforcement) headAt(epoch, size uint64, look func(uint64) (string, bool)) (head string, known bool) {
	e.mu.Lock()
	head, known = e.heads[size]
	known = known && e.epoch == epoch
	e.mu.Unlock()
	if known {
		return head, true
	}
	if head, known = look(size); !known {
		return "", false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.epoch == epoch {
		if e.heads == nil || len(e.heads) >= maxSteps {
			e.heads = map[uint64]string{}
		}
		e.heads[size] = head
	}
	return head, true
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

// Enforcement implements api.Enforcers. The channel is closed once another look may find more. Who counts is on record: coordinators, and edges until they are
// removed, whether the pool sees them or not, for one that is cut off or that somebody else says goodbye for may still allow.
func (n *Node) Enforcement(size uint64) (client.Enforcement, <-chan struct{}) {
	moved := n.enforcement.next() // before the look, or a change in between would be missed
	out := client.Enforcement{Members: []client.Enforcing{}}
	rows := map[string]client.Enforcing{}
	here := chainHead{}
	n.machine.Read(func(s *fsm.State) {
		here.Head, here.Size = s.Chain()
		here.Epoch = s.Meta().Epoch
		for _, c := range s.Coordinators() {
			rows[c.ID] = client.Enforcing{ID: c.ID, Name: c.Name, Role: string(c.Role), State: client.MemberUnseen}
		}
		for _, e := range s.Edges() {
			rows[e.NodeID] = client.Enforcing{ID: e.NodeID, Name: e.Name, Role: string(fsm.RoleEdge), State: client.MemberUnseen}
		}
	})
	out.Epoch, out.Size = here.Epoch, cmp.Or(size, here.Size)
	if row, recorded := rows[n.id.NodeID]; recorded {
		row.State, row.ChainSize = gossip.StateAlive, here.Size
		rows[n.id.NodeID] = row
	}
	for _, m := range n.pool.Members() {
		row, recorded := rows[m.Card.NodeID]
		if !recorded || m.Card.NodeID == n.id.NodeID || m.State == gossip.StateUntrusted {
			continue
		}
		row.State = m.State
		if h, err := parseHead(m.Head); err == nil && n.isOurs(h, here, out.Size) {
			row.ChainSize = h.Size
		}
		rows[row.ID] = row
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

// isOurs tells whether a member's head is one that this node's chain had: neither of another epoch, nor beyond the chain, nor of another one. A head that does
// not reach to what is asked about is not compared, since it counts for nothing.
func (n *Node) isOurs(h, here chainHead, asked uint64) bool {
	switch {
	case h.Epoch != here.Epoch || h.Size > here.Size:
		return false
	case h.Size < asked:
		return true
	case h.Size == here.Size:
		return h.Head == here.Head
	}
	head, known := n.enforcement.headAt(h.Epoch, h.Size, n.chainHeadAt)
	return known && h.Head == head
}

// chainHeadAt reads the head that this node's chain had at a size.
func (n *Node) chainHeadAt(size uint64) (head string, known bool) {
	if size == 0 {
		return crypto.BlacklistGenesis, true
	}
	rows, err := n.Records(fsm.StreamBlacklist, size, 1)
	if err != nil || len(rows) != 1 || rows[0].Seq != size {
		return "", false // not on this node's disk yet: it is looked at again
	}
	e, err := crypto.ParseBlacklistEvent(rows[0].Data)
	return e.EventHash, err == nil
}
