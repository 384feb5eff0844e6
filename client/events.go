package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"
)

// Types of events (GET /v1/events).
const (
	EventBan        = "ban"        // a blacklist event that bans
	EventLift       = "lift"       // a blacklist event that lifts
	EventAgent      = "agent"      // enrolled, approved, suspended, revoked
	EventToken      = "token"      // made, revoked
	EventPolicy     = "policy"     // changed
	EventMembership = "membership" // a coordinator joined, moved, left
	EventManifest   = "manifest"   // trust changed, a manifest was accepted
	EventKey        = "key"        // a key was scheduled, rotated, revoked
	EventRecovery   = "recovery"   // genesis, restore, recovery, clock repair: a new epoch
	EventAdmin      = "admin"      // any other administrative action
	// EventReset ends a stream: what it told is no past of the cluster any more.
	EventReset = "reset"
)

// EventTypes lists the types that a caller may ask for.
func EventTypes() []string {
	return []string{EventBan, EventLift, EventAgent, EventToken, EventPolicy, EventMembership, EventManifest, EventKey, EventRecovery, EventAdmin}
}

// EventStart is the id before the first event of all.
const EventStart = "0"

// HeaderLastEventID resumes a stream of events behind the event of that id.
const HeaderLastEventID = "Last-Event-ID"

// ReasonReset is the reason of a conflict: the id of an event belongs to a past
// that a recovery gave up.
const ReasonReset = "reset"

// Event is a committed change of the cluster.
type Event struct {
	ID      string          `json:"id,omitempty"` // resumes behind this event at any node
	Type    string          `json:"type"`
	Index   uint64          `json:"index"` // log index that it came from
	AtMs    int64           `json:"at_ms"`
	Epoch   uint64          `json:"epoch"`             // recovery epoch in which it was read
	Action  string          `json:"action"`            // such as agent_enroll
	Subject string          `json:"subject,omitempty"` // what it is about: an agent, a token id, a coordinator id
	Detail  string          `json:"detail,omitempty"`
	Actor   *EventActor     `json:"actor,omitempty"`
	Seq     uint64          `json:"seq,omitempty"`   // in the chain, of a ban or lift
	Event   json.RawMessage `json:"event,omitempty"` // the record of the chain, likewise
	Delta   *BlacklistDelta `json:"delta,omitempty"` // what it changes, likewise; its cursor goes on at BlacklistDelta
}

// EventActor is who stands behind an administrative action.
type EventActor struct {
	TokenID string `json:"token_id,omitempty"`
	NodeID  string `json:"node_id,omitempty"`
	Via     string `json:"via,omitempty"` // the coordinator that authenticated the caller; from feature level 6 on
}

// EventFilter says which events a caller wants.
type EventFilter struct {
	After string   // id of the last event that was seen; EventStart: from the beginning; empty: from now on
	Types []string // of EventTypes; none: all that the token may read
}

// eventSilence is how long a stream may be silent: servers send something every
// ten seconds, so one that says nothing for three times that is gone.
const eventSilence = 30 * time.Second

// errStopped: the caller of Events wants no more.
var errStopped = errors.New("stopped")

// Events yields events until ctx ends, and resumes at the next address when a
// stream breaks off. An error ends it: the cluster could not be reached, the
// token may not, or, with ReasonReset, a recovery gave up what was told.
func (c *Client) Events(ctx context.Context, filter EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		f := &follower{after: filter.After, types: filter.Types, yield: yield, cancel: cancel}
		for {
			f.heard = false
			err := c.do(ctx, f.call())
			switch e := (*Error)(nil); {
			case f.reset != nil:
				yield(Event{}, f.reset)
				return
			case f.stopped || ctx.Err() != nil:
				return
			case errors.As(err, &e) && RetryOf(e.Code) != RetryNo && f.heard:
				continue // it broke off after it had told something
			case err != nil:
				yield(Event{}, err)
				return
			}
		}
	}
}

// follower is one Events under way.
type follower struct {
	after   string // id of the last event that was heard of
	types   []string
	yield   func(Event, error) bool
	cancel  context.CancelFunc
	heard   bool // something came over the current streams
	stopped bool
	reset   *Error
}

func (f *follower) call() *call {
	q := newCall(http.MethodGet, "/v1/events", nil)
	q.untimed = true
	q.header.Set("Accept", "text/event-stream")
	if len(f.types) > 0 {
		q.query.Set("types", strings.Join(f.types, ","))
	}
	f.resume(q)
	q.read = func(body io.Reader) error { return f.read(body, q) }
	return q
}

// resume has the next try of a call go on behind the last event.
func (f *follower) resume(q *call) {
	if f.after != "" {
		q.header.Set(HeaderLastEventID, f.after)
	}
}

// read passes on the events of one stream. It always ends with an error: a
// stream of events has no end of its own.
func (f *follower) read(body io.Reader, q *call) error {
	silence := time.AfterFunc(eventSilence, func() {
		if closer, ok := body.(io.Closer); ok {
			_ = closer.Close() // the read that waits on it fails
		}
	})
	defer silence.Stop()
	stream := newEventReader(body)
	for {
		m, err := stream.next()
		if err != nil {
			return fmt.Errorf("the stream of events ended: %w", err)
		}
		silence.Reset(eventSilence)
		f.heard = true
		if m.id != "" {
			f.after = m.id
			f.resume(q)
		}
		if m.data == "" {
			continue // a heartbeat
		}
		if err := f.pass(m); err != nil {
			return err
		}
	}
}

func (f *follower) pass(m message) error {
	e := Event{}
	if err := json.Unmarshal([]byte(m.data), &e); err != nil {
		return fmt.Errorf("event %q: %w", m.id, err)
	}
	e.ID = m.id
	if m.event == EventReset {
		f.reset = &Error{Code: CodeConflict, Reason: ReasonReset, Detail: e.Detail}
		f.cancel()
		return errStopped
	}
	if !f.yield(e, nil) {
		f.stopped = true
		f.cancel()
		return errStopped
	}
	return nil
}
