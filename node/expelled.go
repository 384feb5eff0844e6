package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
)

// A node that was removed never applies the entry that says so: from that entry
// on nobody talks to it. But its operator must learn why it stands still, so the
// members answer its pings with this one word. A few of them lying stop nobody: it
// takes a majority of the coordinators that this node has on record, and two of
// them at least. With one other on record its word is told, and stops nothing.

const reasonRemoved = "removed"

// errRemoved says that a peer's id was removed.
var errRemoved = errors.New("it was removed from the cluster: it may join again with an empty data directory")

func wasRemoved(id string) *client.Error {
	return &client.Error{Code: client.CodeUnavailable, Reason: reasonRemoved, RetryAfter: 5 * time.Second,
		Detail: fmt.Sprintf("node %s was removed from the cluster", id)}
}

// expulsion is what the others say of this node's own membership.
type expulsion struct {
	mu sync.Mutex
	by map[string]bool // who says that it was removed; bounded by the configuration, which alone is asked; guarded by mu

	told   atomic.Pointer[client.Error] // why this node must not serve; nil when it may. Written by the ping loop
	unsure atomic.Bool                  // the only other coordinator on record says so. Written by the ping loop
	last   time.Time                    // when it was last logged; the ping loop's own
}

// minAccusers is how many must say that a node was removed before it stops: one
// alone may be the liar.
const minAccusers = 2

// tellEvery is how often the log says it: raft's own complaints are many.
const tellEvery = time.Minute

// hear notes a coordinator's word.
func (e *expulsion) hear(id string, removed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !removed {
		delete(e.by, id)
		return
	}
	if e.by == nil {
		e.by = map[string]bool{}
	}
	e.by[id] = true
}

// majority returns who says so, if they are most of the coordinators on record,
// and whether they are enough to stop for.
func (e *expulsion) majority(known []string) (by []string, enough bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	by = slices.DeleteFunc(slices.Clone(known), func(id string) bool { return !e.by[id] })
	if 2*len(by) <= len(known) {
		return nil, false
	}
	return by, len(by) >= minAccusers
}

// judgeRemoval decides whether this node was removed, and tells it. Duty of the
// ping loop.
func (n *Node) judgeRemoval() {
	by, enough := n.removal.majority(n.book.coordinators(n.id.NodeID))
	n.removal.unsure.Store(len(by) > 0 && !enough)
	if !enough {
		n.removal.told.Store(nil)
		if len(by) > 0 && time.Since(n.removal.last) >= tellEvery {
			n.removal.last = time.Now()
			n.log.Warn(onlyOtherSaysRemoved, "coordinator", by[0])
		}
		return
	}
	if time.Since(n.removal.last) < tellEvery && n.removal.told.Load() != nil {
		return
	}
	n.removal.last = time.Now()
	e := wasRemoved(n.id.NodeID)
	e.Detail += fmt.Sprintf(", say %d of its coordinators: this server takes part in nothing any more, and its id never comes back. "+
		"Stop it; to have this machine in the cluster again, move its data directory away and start with --join and a new token (`edgecoder token create --role coordinator`)", len(by))
	n.log.Error(e.Detail, "data_dir", n.cfg.DataDir)
	if n.removal.told.Swap(e) == nil {
		n.note("removed", audit.LevelHigh, reasonRemoved, map[string]string{"by": strings.Join(by, ",")})
	}
}

// onlyOtherSaysRemoved is what a node of two says of the other's word.
const onlyOtherSaysRemoved = "the only other coordinator on record says that this node was removed from the cluster: if an administrator did that, stop this server and move its data directory away; if nobody did, look at the other"

// expelled is an error once most of the others say that this node was removed.
func (n *Node) expelled() error {
	if e := n.removal.told.Load(); e != nil {
		return e
	}
	return nil
}
