package node

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxRelinks bounds how often a refused event is linked again; with proposals
// bounded, more means that something else is wrong.
const maxRelinks = 16

// linker links blacklist events. Events are linked to the one before them
// without waiting for it to commit; when one is refused, those linked behind it
// are refused as stale and link again from the head that stands.
type linker struct {
	mu   sync.Mutex
	head string // of the newest event in flight; "" when none is known
}

// appendEvent links, signs and proposes an event until the log takes it.
func (n *Node) appendEvent(ctx context.Context, l *leadership, cmd fsm.Command) (fsm.Result, error) {
	body, err := fsm.BodyOf[fsm.BlacklistAppend](cmd)
	if err != nil {
		return fsm.Result{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	for range maxRelinks {
		future, err := n.linkAndEnqueue(l, cmd, body)
		if err != nil {
			return fsm.Result{}, err
		}
		res, err := await(ctx, future)
		stale := err == nil && res.Code == fsm.CodeStale && res.Field == "prevEventHash"
		l.chain.answered(err == nil && res.OK() && !res.Repeated)
		if !stale {
			return res, err
		}
	}
	return fsm.Result{}, &client.Error{Code: client.CodeUnavailable, Detail: "the chain's head moved too often, nothing was done: ask again"}
}

// linkAndEnqueue holds the lock while it enqueues, so that log order is link order.
func (n *Node) linkAndEnqueue(l *leadership, cmd fsm.Command, body fsm.BlacklistAppend) (raft.ApplyFuture, error) {
	c := &l.chain
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head == "" {
		n.machine.Read(func(s *fsm.State) { c.head, _ = s.Chain() })
	}
	event := body.Event
	if event.TimestampMs == 0 {
		event.TimestampMs = n.clockMs()
	}
	if body.Lift {
		ended := event.TimestampMs - 1
		event.ExpiresAtMs = &ended
	}
	event.Link(c.head, n.id.signingKey())
	linked, err := fsm.New(cmd.Actor, fsm.BlacklistAppend{Event: event, ReporterKey: body.ReporterKey, Lift: body.Lift})
	if err != nil {
		return nil, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	linked.Idem = cmd.Idem
	future, err := n.enqueue(l, linked)
	if err != nil {
		return nil, err
	}
	c.head = event.EventHash
	return future, nil
}

// answered notes the end of one event. After a refusal, what is known of the
// head in flight is void.
func (c *linker) answered(taken bool) {
	if taken {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = ""
}
