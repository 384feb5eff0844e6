package node

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// handed is a listener of the connections that a test hands it.
type handed struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (l *handed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}
func (l *handed) Close() error   { l.once.Do(func() { close(l.over) }); return nil }
func (l *handed) Addr() net.Addr { return idAddr("here") }

// handing dials by handing one end of a pipe over, as the connection of a node.
type handing struct {
	*handed // none comes back
	to      chan net.Conn
	node    string
	mux     *mux
}

func (h handing) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case h.to <- &peerConn{Conn: there, nodeID: h.node, peer: peerName{id: h.node}, mux: h.mux}:
		return here, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

// TestInboundKnowsWhoSent: each message counts as of the node on whose connection it
// came, a node that has none left leaves nothing behind, and nobody waits for a raft
// that ended.
func TestInboundKnowsWhoSent(t *testing.T) {
	l := &handed{conns: make(chan net.Conn), over: make(chan struct{})}
	heard := make(chan string, 8)
	in := newInbound(l, raft.NetworkTransportConfig{MaxPool: 1, Timeout: 10 * time.Second, Logger: raftLogger(testLog(t))},
		func(from string, port *raft.NetworkTransport, over <-chan struct{}) {
			go func() {
				for {
					select {
					case rpc := <-port.Consumer():
						heard <- from
						if rpc.Command.(*raft.RequestVoteRequest).Term > 0 { // 0: it ended
							rpc.Respond(&raft.RequestVoteResponse{}, nil)
						}
					case <-over:
						return
					}
				}
			}()
		})
	served := make(chan struct{})
	go func() { in.serve(); close(served) }()
	mux := &mux{peers: map[*peerConn]struct{}{}}
	ports := map[string]*raft.NetworkTransport{}
	for _, id := range []string{"a", "b"} {
		ports[id] = raft.NewNetworkTransport(handing{&handed{over: make(chan struct{})}, l.conns, id, mux}, 1, 10*time.Second, io.Discard)
		defer ports[id].Close()
	}
	vote := func(as string, term uint64) error {
		return ports[as].RequestVote("here", "here", &raft.RequestVoteRequest{RPCHeader: headerOf("liar"), Term: term}, &raft.RequestVoteResponse{})
	}
	for _, id := range []string{"a", "b", "a"} {
		if err := vote(id, 1); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != id {
			t.Errorf("a message of %s counts as of %s", id, got)
		}
	}
	nodes := func() int { in.mu.Lock(); defer in.mu.Unlock(); return len(in.nodes) }
	if nodes() != 2 {
		t.Errorf("%d nodes", nodes())
	}
	ports["a"].CloseStreams()
	for end := time.Now().Add(10 * time.Second); nodes() != 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if nodes() != 1 {
		t.Errorf("%d nodes after one left", nodes())
	}
	waits := make(chan error, 1)
	go func() { waits <- vote("b", 0) }()
	<-heard
	_ = l.Close()
	<-served
	select {
	case err := <-waits:
		if err == nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a message waits for an answer of a raft that ended")
	}
}
