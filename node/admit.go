package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// The admission path of the node that received the request:
//
//	Admit → fresh → verifyLoop → ready → sendLoop → leader's batchLoop → log
//	                     └→ doubtful → confirm (read point) → denial, or ready
//
// Nothing waits for a timer: each loop takes whatever came while it was busy.

// maxWaiting bounds the requests between Admit and their answers on one node:
// at 15,000 a second it is a second of work, more would only answer too late.
const maxWaiting = 16 << 10

// admission is one request on its way. The fields from claim on are written by
// one loop at a time, as it travels.
type admission struct {
	api.AdmitRequest
	call  *admitCall
	slot  int // in call.outcomes
	claim fsm.Claim
	tries int
	// maybe is set once a leader may have acted on it: from then on its outcome
	// is known or unknown, never "certainly not done".
	maybe bool
	keys  []crypto.PublicKey // that the signature was verified with, or failed to
	// denial is what this replica thinks of it before the leader confirmed the read.
	denial fsm.Code
}

// admitCall is one Admit: its outcomes are filled by the loops, under mu.
type admitCall struct {
	ctx  context.Context
	done chan struct{}

	mu       sync.Mutex
	outcomes []api.AdmitOutcome
	missing  int
	answered []bool
	sent     []bool // being decided by a leader, now or earlier: a missing answer means unknown
}

// answer settles one request; the first answer stands.
func (a *admission) answer(o api.AdmitOutcome) {
	c := a.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answered[a.slot] {
		return
	}
	c.answered[a.slot] = true
	c.outcomes[a.slot] = o
	if c.missing--; c.missing == 0 {
		close(c.done)
	}
}

func (a *admission) fail(e *client.Error) {
	own := *e
	own.ClaimID = a.ClaimID
	if a.maybe { // whatever the last try ended with says nothing of the first
		own.Code, own.Detail = client.CodeUnknownOutcome, errUnknown().Detail
	}
	a.answer(api.AdmitOutcome{Err: &own})
}

// markSent notes that a leader may act on the request from now on; false means
// that its caller is gone and it must not be sent.
func (a *admission) markSent() bool {
	c := a.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answered[a.slot] {
		return false
	}
	c.sent[a.slot] = true
	return true
}

// intake is a bounded queue whose reader takes everything at once.
type intake[T any] struct {
	mu    sync.Mutex
	items []T
	bell  chan struct{}
}

func newIntake[T any]() *intake[T] { return &intake[T]{bell: make(chan struct{}, 1)} }

func (q *intake[T]) put(items ...T) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	q.items = append(q.items, items...)
	q.mu.Unlock()
	q.ring()
}

func (q *intake[T]) ring() {
	select {
	case q.bell <- struct{}{}:
	default:
	}
}

// take returns up to limit items, waiting for the first; nil when ctx ends.
func (q *intake[T]) take(ctx context.Context, limit int) []T {
	for {
		q.mu.Lock()
		if n := min(limit, len(q.items)); n > 0 {
			out := q.items[:n:n]
			q.items = q.items[n:]
			more := len(q.items) > 0
			q.mu.Unlock()
			if more {
				q.ring()
			}
			return out
		}
		q.items = nil
		q.mu.Unlock()
		select {
		case <-q.bell:
		case <-ctx.Done():
			return nil
		}
	}
}

// admitter is the admission path of one node.
type admitter struct {
	fresh   *intake[*admission]
	ready   *intake[*admission]
	keys    verifyKeys // owned by verifyLoop
	mu      sync.Mutex
	waiting int // admissions without an answer; guarded by mu
}

func newAdmitter() *admitter {
	return &admitter{fresh: newIntake[*admission](), ready: newIntake[*admission](), keys: newVerifyKeys()}
}

// reserve makes room for n admissions, or says that there is none.
func (a *admitter) reserve(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting+n > maxWaiting {
		return false
	}
	a.waiting += n
	return true
}

func (a *admitter) release(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting -= n
}

// Admit implements api.Admitter. It fails closed: what no majority confirmed
// within the time for a request is not admitted.
func (n *Node) Admit(ctx context.Context, requests []api.AdmitRequest) []api.AdmitOutcome {
	if e := n.disk.full(); e != nil {
		return allFailed(requests, e)
	}
	if !n.admit.reserve(len(requests)) {
		return allFailed(requests, &client.Error{Code: client.CodeOverloaded, RetryAfter: time.Second,
			Detail: fmt.Sprintf("%d admissions are waiting on this node: try another one", maxWaiting)})
	}
	defer n.admit.release(len(requests))
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	call := &admitCall{ctx: ctx, done: make(chan struct{}), missing: len(requests),
		outcomes: make([]api.AdmitOutcome, len(requests)), answered: make([]bool, len(requests)), sent: make([]bool, len(requests))}
	items := make([]*admission, len(requests))
	for i, r := range requests {
		items[i] = &admission{AdmitRequest: r, call: call, slot: i}
	}
	n.admit.fresh.put(items...)
	select {
	case <-call.done:
	case <-ctx.Done():
		call.giveUp(items)
	}
	call.mu.Lock()
	defer call.mu.Unlock()
	return call.outcomes
}

// giveUp answers what is still open when the time is over. Whether a request
// was sent and its answer are settled under one lock.
func (c *admitCall) giveUp(items []*admission) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, a := range items {
		if c.answered[i] {
			continue
		}
		e := &client.Error{Code: client.CodeUnavailable, RetryAfter: time.Second, Detail: "no leader with a majority in time; nothing was admitted"}
		if c.sent[i] {
			e = errUnknown()
		}
		e.ClaimID = a.ClaimID
		c.answered[i], c.outcomes[i].Err = true, e
	}
}

func errUnknown() *client.Error {
	return &client.Error{Code: client.CodeUnknownOutcome, RetryAfter: time.Second,
		Detail: "no majority confirmed in time: it may or may not have been admitted, ask again with this claim id"}
}

func allFailed(requests []api.AdmitRequest, e *client.Error) []api.AdmitOutcome {
	out := make([]api.AdmitOutcome, len(requests))
	for i, r := range requests {
		own := *e
		own.ClaimID = r.ClaimID
		out[i].Err = &own
	}
	return out
}

// newClaim builds the claim of a request whose signature key verified.
func (a *admission) newClaim(key crypto.PublicKey) {
	s := &a.Signed
	a.claim = fsm.Claim{AgentID: s.AgentID, Key: key.Fingerprint(), TimestampMs: s.TimestampMs, Nonce: s.Nonce,
		Tag: a.tag(), Profile: s.Profile(), ExpiresMs: s.ExpiresMs(), Self: a.TokenID == fsm.SelfCaller}
	if a.ClaimChosen {
		a.claim.ClaimID = fsm.NewClaimID(a.TokenID, a.ClaimID)
	}
}

// tag tells a retry of the same admission from another request under its nonce.
func (a *admission) tag() fsm.ClaimTag {
	s := &a.Signed
	if s.Message != nil {
		return fsm.NewMessageClaimTag(a.TokenID, a.ClaimID, s.Message.Base)
	}
	return fsm.NewClaimTag(a.TokenID, a.ClaimID, s.Method, s.Path, s.BodySHA256, s.TimestampMs)
}
