package node

import (
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

var errTerm = errors.New("no election can have reached this term")

// termGuard is raft's transport without the messages that only a liar sends. To
// raft one of them is lost, which never harms it. An observer has no word in
// terms at all: it learns them from leaders, and its answer deposes none.
type termGuard struct {
	*raft.NetworkTransport
	observer func(nodeID string) bool
	term     func() uint64 // raft's current term; set by follow
	calls    chan raft.RPC
	open     chan struct{} // closed by follow
	closed   chan struct{}
	once     sync.Once
}

func newTermGuard(t *raft.NetworkTransport, observer func(nodeID string) bool) *termGuard {
	return &termGuard{NetworkTransport: t, observer: observer, calls: make(chan raft.RPC), open: make(chan struct{}), closed: make(chan struct{})}
}

// follow lets messages through to a raft that has started.
func (g *termGuard) follow(term func() uint64) {
	g.term = term
	close(g.open)
	go g.pass()
}

func (g *termGuard) pass() {
	for {
		select {
		case <-g.closed:
			return
		case rpc := <-g.NetworkTransport.Consumer():
			if err := g.fault(rpc.Command); err != nil {
				rpc.Respond(nil, err)
				continue
			}
			select {
			case <-g.closed:
				return
			case g.calls <- rpc:
			}
		}
	}
}

// Consumer implements raft.Transport.
func (g *termGuard) Consumer() <-chan raft.RPC { return g.calls }

// SetHeartbeatHandler implements raft.Transport.
func (g *termGuard) SetHeartbeatHandler(handle func(raft.RPC)) {
	g.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		select {
		case <-g.open:
		case <-g.closed:
			rpc.Respond(nil, raft.ErrTransportShutdown)
			return
		}
		if err := g.fault(rpc.Command); err != nil {
			rpc.Respond(nil, err)
			return
		}
		handle(rpc)
	})
}

// fault tells why raft must not see a message.
func (g *termGuard) fault(command any) error {
	switch m := command.(type) {
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
	return g.absurd(resp.Term)
}

// RequestPreVote implements raft.WithPreVote.
func (g *termGuard) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := g.NetworkTransport.RequestPreVote(id, target, args, resp); err != nil {
		return err
	}
	return g.absurd(resp.Term)
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

// deposing refuses the answer by which an observer would depose the leader.
func (g *termGuard) deposing(id raft.ServerID, told, own uint64) error {
	if told > own && g.observer(string(id)) {
		return fmt.Errorf("observer %s tells of term %d, this leader is of %d: %w", id, told, own, errTerm)
	}
	return nil
}

// Close implements raft.WithClose.
func (g *termGuard) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.NetworkTransport.Close()
}

// observes asks the address book, not the state: raft must not wait for a disk
// that holds the state up.
func (n *Node) observes(id string) bool {
	a, _, known := n.book.recordOf(id)
	return known && a.Role == fsm.RoleObserver
}
