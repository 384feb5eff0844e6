package node

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// fixedStanding is raft as a reign sees it.
type fixedStanding struct {
	term  uint64
	state raft.RaftState
}

func (s fixedStanding) CurrentTerm() uint64   { return s.term }
func (s fixedStanding) State() raft.RaftState { return s.state }

func headerOf(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

// claim, takeOver and standNow are what a leader, its heir and again a leader send.
func claim(r *reign, from string, term uint64) error {
	return r.fault(from, &raft.AppendEntriesRequest{RPCHeader: headerOf(from), Term: term})
}

func takeOver(r *reign, from string, term uint64) error {
	return r.fault(from, &raft.RequestVoteRequest{RPCHeader: headerOf(from), Term: term, LeadershipTransfer: true})
}

func standNow(r *reign, from string) error {
	return r.fault(from, &raft.TimeoutNowRequest{RPCHeader: headerOf(from)})
}

// TestReignOfALeaderThatIsHeard: nobody ends it but itself; when it is silent,
// anybody may.
func TestReignOfALeaderThatIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReign(LocalTiming())
		r.raft = fixedStanding{term: 5, state: raft.Follower}
		check := func(what string, err error, heard bool) {
			t.Helper()
			if heard && err != nil || !heard && !errors.Is(err, errReign) {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("the leader", claim(r, "leader", 5), true)
		check("another in the same term", claim(r, "liar", 5), false)
		check("another in the next", claim(r, "liar", 6), false)
		check("another that sends a snapshot", r.fault("liar", &raft.InstallSnapshotRequest{RPCHeader: headerOf("liar"), Term: 6}), false)
		check("another of an old term, which raft answers", claim(r, "old", 4), true)
		check("another that hands over", standNow(r, "liar"), false)
		check("the leader that hands over", standNow(r, "leader"), true)
		if err := r.fault("liar", &raft.AppendEntriesRequest{RPCHeader: headerOf("leader"), Term: 5}); err == nil {
			t.Error("a message under another's name")
		}
		beating := make(chan struct{})
		go func() {
			defer close(beating)
			for range 10 {
				time.Sleep(LocalTiming().Heartbeat / 5)
				check("the leader's heartbeat", claim(r, "leader", 5), true)
			}
		}()
		check("a hand-over that the leader knows nothing of", takeOver(r, "liar", 6), false)
		<-beating
		check("a hand-over after which the leader is silent", takeOver(r, "heir", 6), true)
		time.Sleep(LocalTiming().Silence)
		check("the next leader", claim(r, "next", 6), true)
		r.raft = fixedStanding{term: 7, state: raft.Follower} // it voted since
		check("who was elected", claim(r, "elected", 7), true)
	})
}

// TestReignOfThisNode: whoever leads is deposed by a hand-over that it began and by
// answers of a majority, at a pace.
func TestReignOfThisNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReign(LocalTiming())
		r.raft = fixedStanding{term: 5, state: raft.Leader}
		r.leader, r.term = "before", 4
		for what, err := range map[string]error{
			"a claim": claim(r, "liar", 6), "the last leader's": claim(r, "before", 6), "a hand-over": takeOver(r, "liar", 6), "a request to stand": standNow(r, "liar"),
		} {
			if !errors.Is(err, errReign) {
				t.Errorf("%s: %v", what, err)
			}
		}
		r.handsOver("heir")
		if err := takeOver(r, "heir", 6); err != nil {
			t.Errorf("a hand-over that this node began: %v", err)
		}
		if err := takeOver(r, "liar", 6); err == nil {
			t.Error("another takes over meanwhile")
		}
		time.Sleep(2 * LocalTiming().Election)
		if err := takeOver(r, "heir", 6); err == nil {
			t.Error("a hand-over is open for ever")
		}
		heeded := 0
		for range 600 { // a minute of answers
			if r.deposes("liar", 6, 5) == nil {
				heeded++
			}
			if r.deposes("honest", 5, 5) != nil {
				t.Fatal("an answer of this term is refused")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if most := deposeBurst + int(time.Minute/deposePause); heeded < deposeBurst || heeded > most {
			t.Errorf("%d answers of newer terms count in a minute, at most %d should", heeded, most)
		}
	})
}

// TestOneCoordinatorCannotUnseatTheLeader: it calls elections and claims to lead
// without end, and is removed all the same.
func TestOneCoordinatorCannotUnseatTheLeader(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	lead := c.leader()
	liar := c.nodes[(lead+1)%3]
	port := raft.NewNetworkTransport(newStreamLayer(liar.id.NodeID, &peerDialer{book: liar.book, creds: liar.creds, net: machineNetwork{}}), 3, 5*time.Second, io.Discard)
	t.Cleanup(func() { _ = port.Close() })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	before := c.nodes[lead].raft.CurrentTerm()
	sent := make(chan int, 1)
	go func() {
		count := 0
		defer func() { sent <- count }()
		for ; pause(ctx, 5*time.Millisecond); count++ {
			for _, v := range []*Node{c.nodes[lead], c.nodes[(lead+2)%3]} {
				own, id, term := headerOf(liar.id.NodeID), raft.ServerID(v.id.NodeID), v.raft.CurrentTerm()+uint64(count%2)
				switch count % 4 {
				case 0, 1:
					_ = port.AppendEntries(id, raft.ServerAddress(id), &raft.AppendEntriesRequest{RPCHeader: own, Term: term, PrevLogEntry: 1 << 40, PrevLogTerm: 1}, &raft.AppendEntriesResponse{})
				case 2:
					_ = port.TimeoutNow(id, raft.ServerAddress(id), &raft.TimeoutNowRequest{RPCHeader: own}, &raft.TimeoutNowResponse{})
				case 3:
					go func() { // it waits
						_ = port.RequestVote(id, raft.ServerAddress(id), &raft.RequestVoteRequest{RPCHeader: own, Term: term, LeadershipTransfer: true}, &raft.RequestVoteResponse{})
					}()
				}
			}
		}
	}()
	pause(ctx, 2*time.Second)
	if _, err := c.client(lead, c.admin).RemovePeer(ctx, liar.id.NodeID, true); err != nil {
		t.Errorf("it cannot be removed: %v", err)
	}
	stop()
	// A leader that starves for a moment may lose one election; the attack would have had hundreds.
	if terms := c.nodes[lead].raft.CurrentTerm() - before; terms > 2 {
		t.Errorf("%d terms while it was removed", terms)
	}
	if n := <-sent; n < 20 {
		t.Errorf("only %d rounds were sent", n)
	}
}
