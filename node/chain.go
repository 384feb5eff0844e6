package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/audit"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// maxRelinks bounds how often a refused event is linked again; with proposals
// bounded, more means that something else is wrong.
const maxRelinks = 16

// linker links blacklist events. Events are linked to the one before them
// without waiting for it to commit; when one is refused, those linked behind it
// are refused as stale and link again from the head that stands.
type linker struct {
	turn chan struct{} // holds the one token; whoever has it owns the fields
	head string        // of the newest event in flight; "" when none is known
	// generation counts how often head was voided: a refusal of an event that was
	// linked before says nothing of what was linked since.
	generation int
}

func newLinker() linker {
	l := linker{turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// appendEvent links, signs and proposes an event until the log takes it.
func (n *Node) appendEvent(ctx context.Context, l *leadership, cmd fsm.Command) (fsm.Result, error) {
	body, err := fsm.BodyOf[fsm.BlacklistAppend](cmd)
	if err != nil {
		return fsm.Result{}, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	if err := n.completeEvent(&body.Event); err != nil {
		return fsm.Result{}, err
	}
	for range maxRelinks {
		future, generation, err := n.linkAndEnqueue(ctx, l, cmd, body)
		if err != nil {
			return fsm.Result{}, err
		}
		res, err := n.await(ctx, future)
		if err != nil || !res.OK() || res.Repeated {
			l.chain.void(generation)
		}
		if err != nil || res.Code != fsm.CodeStale || res.Field != "prevEventHash" {
			return res, err
		}
	}
	return fsm.Result{}, &client.Error{Code: client.CodeUnavailable, Detail: "the chain's head moved too often, nothing was done: ask again"}
}

// completeEvent holds an event that any coordinator may have forwarded to what
// every verifier of the chain asks and Apply does not: an event that they refuse
// would make the chain, and each backup of it, unsound for ever. The id is the
// leader's own, so that none is used twice.
func (n *Node) completeEvent(e *crypto.BlacklistEvent) error {
	if e.EvidenceSignatureVerified {
		err := e.VerifyReporter()
		if err == nil && e.TimestampMs == 0 {
			err = errors.New("the event carries no time of the reporter's")
		}
		if err != nil {
			n.log.Warn("an event was refused: whoever sent it says that its reporter's signature was verified, and it does not verify",
				"agent", e.AgentID, "reporter", e.ReporterID, "by", e.ReportedBy, "error", err)
			n.note(typeChainTamper, audit.LevelCritical, "reporter_unproven", map[string]string{"where": "an event that a coordinator forwarded", "subject": e.AgentID, "reporter": e.ReporterID, "by": e.ReportedBy, "detail": err.Error()})
			return &client.Error{Code: client.CodeInvalid, Field: "reporter_signature", Detail: err.Error()}
		}
	}
	var err error
	e.EventID, err = crypto.NewUUID(rand.Reader)
	return err
}

// linkAndEnqueue holds the turn while it enqueues, so that log order is link order.
func (n *Node) linkAndEnqueue(ctx context.Context, l *leadership, cmd fsm.Command, body fsm.BlacklistAppend) (proposal, int, error) {
	c := &l.chain
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return proposal{}, 0, &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "too many events are being linked; nothing was done"}
	}
	if c.head == "" {
		n.machine.Read(func(s *fsm.State) { c.head, _ = s.Chain() })
	}
	event := body.Event
	if event.TimestampMs == 0 {
		event.TimestampMs = n.clockMs()
		if e := n.clockRefuses(l); e != nil { // before anybody is blamed for what this clock says
			return proposal{}, 0, e
		}
	}
	if body.Lift {
		ended := event.TimestampMs - 1
		event.ExpiresAtMs = &ended
	} else if event.EndsBeforeItBegins() { // it would lift a ban for whoever follows the chain
		return proposal{}, 0, &client.Error{Code: client.CodeInvalid, Field: "expires_at_ms",
			Detail: fmt.Sprintf("%d is not after the event's own time %d", *event.ExpiresAtMs, event.TimestampMs)}
	}
	key := n.id.signingKey()
	defer clear(key)
	event.Link(c.head, key)
	linked, err := fsm.New(cmd.Actor, fsm.BlacklistAppend{Event: event, ReporterKey: body.ReporterKey, Lift: body.Lift})
	if err != nil {
		return proposal{}, 0, &client.Error{Code: client.CodeInvalid, Detail: err.Error()}
	}
	linked.Idem = cmd.Idem
	future, err := n.enqueue(l, linked)
	if err != nil {
		return proposal{}, 0, err
	}
	c.head = event.EventHash
	if plantStaleHead {
		c.head = "" // planted: the next event asks the state, which lags behind
	}
	return future, c.generation, nil
}

// voidAll forgets the head in flight because the chain itself was replaced.
func (c *linker) voidAll() {
	<-c.turn
	defer func() { c.turn <- struct{}{} }()
	c.generation++
	c.head = ""
}

// void forgets the head in flight after an event of that generation was not taken.
func (c *linker) void(generation int) {
	<-c.turn
	defer func() { c.turn <- struct{}{} }()
	if c.generation == generation {
		c.generation++
		c.head = ""
	}
}
