package node

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// readPoint is a moment in the log: a replica that applied Index has every
// write that was acknowledged before the point was asked for.
type readPoint struct {
	_       struct{} `cbor:",toarray"`
	Index   uint64
	ClockMs int64 // the cluster clock as the leader reads it
}

// readIndexer shares one question to the leader among all who wait: who comes
// while one is under way takes part in the next, because an answer must be
// younger than the question.
type readIndexer struct {
	fetch func(context.Context) (readPoint, error)
	limit time.Duration // longest one round may take

	mu      sync.Mutex
	next    *readRound // gathers waiters; nil when nobody waits
	running bool
}

type readRound struct {
	done  chan struct{}
	point readPoint
	err   error
}

// get returns a read point that is younger than the call.
func (r *readIndexer) get(ctx context.Context) (readPoint, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &readRound{done: make(chan struct{})}
	}
	round := r.next
	if !r.running {
		r.running = true
		go r.run()
	}
	r.mu.Unlock()
	select {
	case <-round.done:
		return round.point, round.err
	case <-ctx.Done():
		return readPoint{}, &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "the leader did not confirm the read in time"}
	}
}

// run serves rounds until nobody waits.
func (r *readIndexer) run() {
	for {
		r.mu.Lock()
		round := r.next
		r.next = nil
		if round == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), r.limit)
		round.point, round.err = r.fetch(ctx)
		cancel()
		close(round.done)
	}
}

// readPoint asks whoever leads for a read point; nothing is logged.
func (n *Node) readPoint(ctx context.Context) (readPoint, error) {
	var p readPoint
	err := n.onLeader(ctx, func(ctx context.Context, _ *leadership) (err error) {
		p, err = n.leaderReads.get(ctx)
		return err
	}, func(ctx context.Context, leader string) error {
		return readOnly(n.call(ctx, leader, rpcReadIndex, struct{}{}, &p))
	})
	return p, err
}

// readOnly turns unknown into unavailable: a question changes nothing.
func readOnly(err error) error {
	if err == nil {
		return nil
	}
	e := *asAPIError(err)
	if e.Code == client.CodeUnknownOutcome {
		e.Code = client.CodeUnavailable
	}
	return &e
}

// confirmHere serves a round of questions to this node as the leader.
func (n *Node) confirmHere(ctx context.Context) (readPoint, error) {
	l := n.lead.Load()
	if l == nil {
		return readPoint{}, errNotLeader()
	}
	if err := l.usable(ctx); err != nil {
		return readPoint{}, err
	}
	if e := n.clockRefuses(l); e != nil {
		return readPoint{}, e // its clock would judge timestamps and expiries
	}
	p := readPoint{Index: n.lastCommitted(), ClockMs: n.clockMs()}
	if !n.stillLeads(ctx, l) {
		return readPoint{}, errNotLeader()
	}
	return p, nil
}

// lastCommitted returns the newest committed entry that a state machine gets to
// see. What this leader has applied is not enough: a follower may have applied
// more, and shown it.
func (n *Node) lastCommitted() uint64 {
	commit := n.raft.CommitIndex()
	applied, _ := n.machine.Index()
	var l raft.Log
	for i := commit; i > applied; i-- {
		if n.store.Logs.GetLog(i, &l) == nil && l.Type == raft.LogCommand {
			return i
		}
	}
	return applied
}

// stillLeads asks the voters for their term, after the index was read. A later
// leader, elected before the question, had a majority of voters raise their
// term first; so a majority that still has ours proves that there was none.
// raft's own VerifyLeader counts non-voters and answers to older messages.
func (n *Node) stillLeads(ctx context.Context, l *leadership) bool {
	ids := voters(n.servers())
	same := make(chan bool, len(ids))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, id := range ids {
		if id == n.id.NodeID {
			same <- true
			continue
		}
		go func() { // ends with ctx
			var reply pingReply
			err := n.call(ctx, id, rpcPing, pingRequest{}, &reply)
			same <- err == nil && reply.Term == l.term
		}()
	}
	agree := 0
	for range ids {
		if <-same {
			agree++
		}
		if agree > len(ids)/2 {
			return isVoter(n.servers(), n.id.NodeID) && n.raft.CurrentTerm() == l.term && n.lead.Load() == l
		}
	}
	return false
}

func (n *Node) serveReadIndex(ctx context.Context, _ string, _ struct{}) (readPoint, error) {
	return n.leaderReads.get(ctx)
}

// waitIndex returns once this replica has applied index.
func (n *Node) waitIndex(ctx context.Context, index uint64) error {
	for {
		have, changed := n.machine.Index()
		if have >= index {
			return nil
		}
		if n.disk.starved.Load() {
			return n.disk.errStarved()
		}
		select {
		case <-changed:
		case <-time.After(spaceLook): // starved meanwhile?
		case <-ctx.Done():
			return &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "this replica has not caught up in time"}
		}
	}
}

// Read implements api.Log.
func (n *Node) Read(ctx context.Context, opts api.ReadOptions, f func(*fsm.State)) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	want := opts.MinIndex
	if opts.Strong && !plantStaleStrong { // planted: strong is as good as local
		// Who removes a liar asks who that is, while its word stops this node.
		if err := n.stateServes(nil); err != nil && !(opts.Always && isSuperseded(err)) {
			return 0, err
		}
		p, err := n.reads.get(ctx)
		if err != nil {
			return 0, err
		}
		want = max(want, p.Index)
	}
	if err := n.waitIndex(ctx, want); err != nil {
		return 0, err
	}
	var index uint64
	var diverged *fsm.Divergence
	n.machine.Read(func(s *fsm.State) {
		index, diverged = s.Index(), n.divergedIn(s)
		f(s)
	})
	if !opts.Always {
		if err := n.stateServes(diverged); err != nil { // the very entry that was waited for may have said so
			return 0, err
		}
	}
	return index, nil
}

// Applied implements api.Log.
func (n *Node) Applied() (uint64, <-chan struct{}) { return n.machine.Index() }

// Records implements api.Log.
func (n *Node) Records(stream fsm.Stream, from uint64, limit int) ([]fsm.Record, error) {
	out, err := n.machine.History().Read(stream, from, limit)
	if e := n.unconfirmed(); err == nil && e != nil {
		return nil, e // a snapshot replaces the history before the state
	}
	return out, err
}
