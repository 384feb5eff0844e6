package node

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/fsm"
)

// maxTermJump is how far above its own a node believes a term. Each election
// adds one, so that nobody who was only away is ever so far behind; and terms
// cannot run out (raft has 64 bits) before 2^32 messages of a liar, each of
// which waits for the disk.
const maxTermJump = 1 << 32

var (
	errTerm   = errors.New("no election can have reached this term")
	errNoVote = errors.New("an observer takes part in no election")
)

// termGuard is raft's transport without the messages that only a liar sends. To
// raft one of them is lost, which never harms it. An observer has no word in
// terms at all: it learns them from leaders, and its answer deposes none.
type termGuard struct {
	*raft.NetworkTransport
	observes bool // this node is an observer: it neither votes nor stands for election
	observer func(nodeID string) bool
	reign    *reign
	term     func() uint64  // raft's current term; set by follow
	beat     func(raft.RPC) // raft's handler of heartbeats, set before follow
	calls    chan raft.RPC
	open     chan struct{} // closed by follow
	closed   chan struct{}
	once     sync.Once

	// handling is held for reading by heartbeats that raft is handling, on goroutines
	// of the transport: they write terms, so the store stays open for them.
	handling sync.RWMutex
}

func newTermGuard(t *raft.NetworkTransport, observes bool, observer func(nodeID string) bool, reign *reign) *termGuard {
	return &termGuard{NetworkTransport: t, observes: observes, observer: observer, reign: reign, calls: make(chan raft.RPC), open: make(chan struct{}), closed: make(chan struct{})}
}

// follow lets messages through to a raft that has started.
func (g *termGuard) follow(raft standing) {
	g.term, g.reign.raft = raft.CurrentTerm, raft
	close(g.open)
}

// hear takes the messages of a node, until over is closed.
func (g *termGuard) hear(from string, t *raft.NetworkTransport, over <-chan struct{}) {
	t.SetHeartbeatHandler(func(rpc raft.RPC) { g.judge(from, rpc, over, func() { g.heartbeat(rpc) }) })
	go func() {
		for {
			select {
			case <-g.closed:
				return
			case <-over:
				return
			case rpc := <-t.Consumer():
				if pass := func() { g.pass(rpc, over) }; waits(rpc.Command) {
					go g.judge(from, rpc, over, pass)
				} else {
					g.judge(from, rpc, over, pass)
				}
			}
		}
	}()
}

// judge passes a message on, or answers it with what is wrong with it.
func (g *termGuard) judge(from string, rpc raft.RPC, over <-chan struct{}, pass func()) {
	select {
	case <-g.open:
	case <-over:
		return
	case <-g.closed:
		rpc.Respond(nil, raft.ErrTransportShutdown)
		return
	}
	if err := cmp.Or(g.fault(rpc.Command), g.reign.fault(from, rpc.Command)); err != nil {
		rpc.Respond(nil, err)
		return
	}
	pass()
}

func (g *termGuard) pass(rpc raft.RPC, over <-chan struct{}) {
	select {
	case <-g.closed:
	case <-over:
	case g.calls <- rpc:
	}
}

// Consumer implements raft.Transport.
func (g *termGuard) Consumer() <-chan raft.RPC { return g.calls }

// SetHeartbeatHandler implements raft.Transport.
func (g *termGuard) SetHeartbeatHandler(handle func(raft.RPC)) { g.beat = handle }

// heartbeat has raft handle one, unless it has ended.
func (g *termGuard) heartbeat(rpc raft.RPC) {
	g.handling.RLock()
	defer g.handling.RUnlock()
	select {
	case <-g.closed:
		rpc.Respond(nil, raft.ErrTransportShutdown)
	default:
		g.beat(rpc)
	}
}

// fault tells why raft must not see a message.
func (g *termGuard) fault(command any) error {
	switch m := command.(type) {
	case *raft.TimeoutNowRequest:
		// raft stands for election on one whether it has a vote or not, in a term
		// of its own, and would follow nobody below it.
		if g.observes {
			return errNoVote
		}
	case *raft.AppendEntriesRequest:
		for _, entry := range m.Entries {
			if entry.Term > m.Term {
				return fmt.Errorf("an entry of term %d from a leader of term %d: %w", entry.Term, m.Term, errTerm)
			}
		}
		return g.absurd(m.Term)
	case *raft.InstallSnapshotRequest:
		return g.absurd(max(m.Term, m.LastLogTerm))
	case *raft.RequestVoteRequest:
		if g.observes {
			return errNoVote // raft takes the term whether it may vote or not
		}
		return g.absurd(m.Term)
	case *raft.RequestPreVoteRequest:
		return g.absurd(m.Term)
	}
	return nil
}

func (g *termGuard) absurd(term uint64) error {
	if now := g.term(); term > now && term-now > maxTermJump {
		return fmt.Errorf("term %d, this node is at %d: %w", term, now, errTerm)
	}
	return nil
}

// RequestVote implements raft.Transport.
func (g *termGuard) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := g.NetworkTransport.RequestVote(id, target, args, resp); err != nil {
		return err
	}
	return cmp.Or(g.absurd(resp.Term), g.reign.deposes(string(id), resp.Term, args.Term))
}

// RequestPreVote implements raft.WithPreVote.
func (g *termGuard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := g.NetworkTransport.RequestPreVote(id, target, args, resp); err != nil {
		return err
	}
	return cmp.Or(g.absurd(resp.Term), g.reign.deposes(string(id), resp.Term, args.Term))
}

// TimeoutNow implements raft.Transport.
func (g *termGuard) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	g.reign.handsOver(string(id))
	return g.NetworkTransport.TimeoutNow(id, target, args, resp)
}

// AppendEntries implements raft.Transport.
func (g *termGuard) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := g.NetworkTransport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	return g.deposing(id, resp.Term, args.Term)
}

// AppendEntriesPipeline implements raft.Transport. Observers get one message
// after the other: the answers of a pipeline go past this guard.
func (g *termGuard) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	if g.observer(string(id)) {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	return g.NetworkTransport.AppendEntriesPipeline(id, target)
}

// InstallSnapshot implements raft.Transport.
func (g *termGuard) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := g.NetworkTransport.InstallSnapshot(id, target, args, resp, data); err != nil {
		return err
	}
	return g.deposing(id, resp.Term, args.Term)
}

// deposing judges an answer that would depose the leader; an observer's never does.
func (g *termGuard) deposing(id raft.ServerID, told, own uint64) error {
	if told > own && g.observer(string(id)) {
		return fmt.Errorf("observer %s tells of term %d, this leader is of %d: %w", id, told, own, errTerm)
	}
	return g.reign.deposes(string(id), told, own)
}

// Close implements raft.WithClose.
func (g *termGuard) Close() error {
	g.once.Do(func() { close(g.closed) })
	err := g.NetworkTransport.Close()
	g.handling.Lock() // once the last one is through
	defer g.handling.Unlock()
	return err
}

// observes asks the address book, not the state: raft must not wait for a disk
// that holds the state up.
func (n *Node) observes(id string) bool {
	a, _, known := n.book.recordOf(id)
	return known && a.Role == fsm.RoleObserver
}
