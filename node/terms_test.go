package node

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// termPair is a guarded transport, whose raft is at term 5 and hears node x at an
// address, and a plain one that gives the answers of answer.
func termPair(t *testing.T, observes bool, answer func(raft.RPC)) (guarded *termGuard, plain *raft.NetworkTransport, at raft.ServerAddress) {
	t.Helper()
	transport := func() *raft.NetworkTransport {
		n, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, 10*time.Second, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	incoming := transport()
	guarded, plain = newTermGuard(transport(), observes, func(id string) bool { return id == "observer" }, newReign(LocalTiming())), transport()
	t.Cleanup(func() { _ = guarded.Close() })
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	go func() {
		for {
			select {
			case rpc := <-plain.Consumer():
				answer(rpc)
			case rpc := <-guarded.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 5, Success: true}, nil)
			case <-over:
				return
			}
		}
	}()
	guarded.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Term: 5, Success: true}, nil) })
	guarded.follow(fixedStanding{term: 5})
	guarded.hear("x", incoming, over)
	return guarded, plain, incoming.LocalAddr()
}

// TestTermsThatNoElectionReached: raft takes any higher term for its own, so one
// message at the end of all terms would end the cluster.
func TestTermsThatNoElectionReached(t *testing.T) {
	t.Parallel()
	_, plain, at := termPair(t, false, nil)
	id := raft.ServerID("coordinator")
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("x"), Addr: []byte("x")}
	appends := func(term uint64, entries ...*raft.Log) error {
		return plain.AppendEntries(id, at, &raft.AppendEntriesRequest{RPCHeader: header, Term: term, PrevLogEntry: uint64(len(entries)), PrevLogTerm: uint64(len(entries)), Entries: entries}, &raft.AppendEntriesResponse{})
	}
	for what, err := range map[string]error{
		"heartbeat":        appends(math.MaxUint64),
		"entries":          appends(6+maxTermJump, &raft.Log{Term: 5, Type: raft.LogNoop}),
		"entry of later":   appends(5, &raft.Log{Term: 6, Type: raft.LogNoop}),
		"vote":             plain.RequestVote(id, at, &raft.RequestVoteRequest{RPCHeader: header, Term: math.MaxUint64}, &raft.RequestVoteResponse{}),
		"vote beforehand":  plain.RequestPreVote(id, at, &raft.RequestPreVoteRequest{RPCHeader: header, Term: math.MaxUint64}, &raft.RequestPreVoteResponse{}),
		"snapshot":         plain.InstallSnapshot(id, at, &raft.InstallSnapshotRequest{RPCHeader: header, Term: math.MaxUint64}, &raft.InstallSnapshotResponse{}, strings.NewReader("")),
		"snapshot of late": plain.InstallSnapshot(id, at, &raft.InstallSnapshotRequest{RPCHeader: header, Term: 5, LastLogTerm: math.MaxUint64}, &raft.InstallSnapshotResponse{}, strings.NewReader("")),
	} {
		if err == nil || !strings.Contains(err.Error(), errTerm.Error()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"heartbeat": appends(5 + maxTermJump),
		"entries":   appends(6, &raft.Log{Term: 6, Type: raft.LogNoop}),
		"older":     appends(4),
	} {
		if err != nil {
			t.Errorf("%s of a term that may be: %v", what, err)
		}
	}
}

// TestTermsInAnswers: a candidate takes them too, and a leader steps down; but not
// at the word of an observer.
func TestTermsInAnswers(t *testing.T) {
	t.Parallel()
	guarded, plain, _ := termPair(t, false, func(rpc raft.RPC) {
		switch rpc.Command.(type) {
		case *raft.RequestVoteRequest:
			rpc.Respond(&raft.RequestVoteResponse{Term: math.MaxUint64}, nil)
		case *raft.RequestPreVoteRequest:
			rpc.Respond(&raft.RequestPreVoteResponse{Term: math.MaxUint64}, nil)
		case *raft.InstallSnapshotRequest:
			rpc.Respond(&raft.InstallSnapshotResponse{Term: 6}, nil)
		default:
			rpc.Respond(&raft.AppendEntriesResponse{Term: 6}, nil)
		}
	})
	at := plain.LocalAddr()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}
	if err := guarded.RequestVote("coordinator", at, &raft.RequestVoteRequest{RPCHeader: header, Term: 6}, &raft.RequestVoteResponse{}); !errors.Is(err, errTerm) {
		t.Errorf("the answer to a vote: %v", err)
	}
	if err := guarded.RequestPreVote("coordinator", at, &raft.RequestPreVoteRequest{RPCHeader: header, Term: 6}, &raft.RequestPreVoteResponse{}); !errors.Is(err, errTerm) {
		t.Errorf("the answer to a vote beforehand: %v", err)
	}
	for id, want := range map[raft.ServerID]error{"observer": errTerm, "coordinator": nil} {
		if err := guarded.AppendEntries(id, at, &raft.AppendEntriesRequest{RPCHeader: header, Term: 5}, &raft.AppendEntriesResponse{}); !errors.Is(err, want) {
			t.Errorf("%s answers to entries: %v", id, err)
		}
		if err := guarded.InstallSnapshot(id, at, &raft.InstallSnapshotRequest{RPCHeader: header, Term: 5}, &raft.InstallSnapshotResponse{}, strings.NewReader("")); !errors.Is(err, want) {
			t.Errorf("%s answers to a snapshot: %v", id, err)
		}
	}
	if _, err := guarded.AppendEntriesPipeline("observer", at); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("a pipeline to an observer: %v", err)
	}
}

// TestObserversTakePartInNoElection: raft stands for election, and takes a term,
// whether it has a vote or not, and would then follow no leader below it.
func TestObserversTakePartInNoElection(t *testing.T) {
	t.Parallel()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}
	for _, observes := range []bool{false, true} {
		_, plain, at := termPair(t, observes, nil)
		id := raft.ServerID("coordinator")
		for what, err := range map[string]error{
			"asked to lead": plain.TimeoutNow(id, at, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}),
			"asked to vote": plain.RequestVote(id, at, &raft.RequestVoteRequest{RPCHeader: header, Term: 6}, &raft.RequestVoteResponse{}),
		} {
			if refused := err != nil && strings.Contains(err.Error(), errNoVote.Error()); refused != observes {
				t.Errorf("observer %t, %s: %v", observes, what, err)
			}
		}
	}
}

// TestNoHeartbeatOutlivesTheGuard: raft handles them on goroutines of the transport,
// and what they write needs the store, which closes behind the guard.
func TestNoHeartbeatOutlivesTheGuard(t *testing.T) {
	t.Parallel()
	guarded, _, _ := termPair(t, false, nil)
	entered, free := make(chan struct{}), make(chan struct{})
	guarded.beat = func(raft.RPC) { close(entered); <-free } // once: a second one would panic
	go guarded.heartbeat(raft.RPC{})
	<-entered
	closed := make(chan struct{})
	go func() { _ = guarded.Close(); close(closed) }()
	<-guarded.closed
	select {
	case <-closed:
		t.Error("the guard was closed while raft handled a heartbeat")
	case <-time.After(20 * time.Millisecond): // it waits, for as long as we like
	}
	close(free)
	<-closed
	answer := make(chan raft.RPCResponse, 1)
	guarded.heartbeat(raft.RPC{RespChan: answer})
	if got := <-answer; !errors.Is(got.Error, raft.ErrTransportShutdown) {
		t.Errorf("a heartbeat after the end: %v", got.Error)
	}
}
