package node

import (
	"context"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/fsm"
)

// sendLoop takes every verified request and has the leader decide them in one
// batch; what arrives meanwhile is the next batch.
func (n *Node) sendLoop(ctx context.Context) {
	for {
		items := n.admit.ready.take(ctx, maxVerify)
		if items == nil {
			return
		}
		batch, sent := newBatch(items)
		if len(sent) == 0 {
			continue
		}
		reply, err := n.decide(ctx, batch)
		if err == nil && len(reply.Results) != len(sent) {
			err = &client.Error{Code: client.CodeUnknownOutcome, Detail: "the leader answered another number of claims"}
		}
		if err != nil {
			n.undecided(ctx, sent, asAPIError(err))
			continue
		}
		for i, a := range sent {
			a.decided(api.AdmitOutcome{Result: reply.Results[i], MaxSkewMs: reply.MaxSkewMs})
		}
	}
}

// decided answers what a leader decided. When an earlier try may have been
// admitted, a denial tells of it only if that one would have been found: all
// others may be of what came since (the window was left, the agent banned, the
// token revoked, the cluster restored), and the request may have been admitted.
func (a *admission) decided(o api.AdmitOutcome) {
	if a.maybe && o.Result.Code != fsm.CodeOK && !o.Result.Code.NeverAdmitted() {
		a.fail(errUnknown())
		return
	}
	a.answer(o)
}

// undecided deals with a batch that got no answer. Once its outcome is unknown
// it goes round while its callers wait: the claim tag makes asking again safe,
// whoever leads now gives the first answer if there is one.
func (n *Node) undecided(ctx context.Context, sent []*admission, e *client.Error) {
	var again []*admission
	for _, a := range sent {
		a.maybe = a.maybe || e.Code == client.CodeUnknownOutcome
		if a.maybe && client.RetryOf(e.Code) != client.RetryNo { // worth asking again
			again = append(again, a)
		} else {
			a.fail(e)
		}
	}
	if len(again) > 0 && pause(ctx, retryPause) {
		n.admit.ready.put(stillWanted(again)...)
	}
}

// newBatch joins the claims of requests whose callers still wait.
func newBatch(items []*admission) (fsm.AdmitBatch, []*admission) {
	var batch fsm.AdmitBatch
	var sent []*admission
	callers := map[string]uint16{}
	for _, a := range items {
		if !a.markSent() {
			continue
		}
		caller, ok := callers[a.TokenID]
		if !ok {
			caller = uint16(len(batch.Callers))
			callers[a.TokenID] = caller
			batch.Callers = append(batch.Callers, a.TokenID)
		}
		a.claim.Caller = caller
		batch.Claims = append(batch.Claims, a.claim)
		sent = append(sent, a)
	}
	return batch, sent
}

// admitReply is the leader's answer to a batch.
type admitReply struct {
	_         struct{} `cbor:",toarray"`
	Results   []fsm.ClaimResult
	MaxSkewMs int64
}

// decide has a batch decided by whoever leads.
func (n *Node) decide(ctx context.Context, batch fsm.AdmitBatch) (admitReply, error) {
	var reply admitReply
	if n.isObserver() {
		return reply, errObserver()
	}
	err := n.onLeader(ctx, func(ctx context.Context, l *leadership) (err error) {
		reply, err = n.decideHere(ctx, l, batch)
		return err
	}, func(ctx context.Context, leader string) error {
		return n.call(ctx, leader, rpcAdmit, batch, &reply)
	})
	return reply, err
}

func (n *Node) serveAdmit(ctx context.Context, _ string, batch fsm.AdmitBatch) (admitReply, error) {
	l := n.lead.Load()
	if l == nil {
		return admitReply{}, errNotLeader()
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Request)
	defer cancel()
	return n.decideHere(ctx, l, batch)
}

// admitUnit is one node's batch of admissions waiting at the leader.
type admitUnit = unit[fsm.AdmitBatch, admitReply]

func (n *Node) decideHere(ctx context.Context, l *leadership, batch fsm.AdmitBatch) (admitReply, error) {
	if err := l.usable(ctx); err != nil {
		return admitReply{}, err
	}
	if len(batch.Claims) > fsm.MaxClaims || len(batch.Callers) > fsm.MaxCallers {
		return admitReply{}, &client.Error{Code: client.CodeTooLarge, Detail: "a batch over its bounds"}
	}
	u := newUnit[fsm.AdmitBatch, admitReply](ctx, batch)
	l.units.put(u)
	return u.await(l, errUnknown())
}

// batchLoop merges the batches of all nodes into one log entry at a time: one
// fsync on each of a majority serves hundreds of requests.
func (n *Node) batchLoop(ctx context.Context, l *leadership) {
	var waiting []*admitUnit
	for {
		if len(waiting) == 0 {
			if waiting = l.units.take(ctx, maxUnits); waiting == nil {
				return
			}
		}
		var units []*admitUnit
		units, waiting = fill(waiting, roomForClaims())
		if len(units) == 0 {
			continue
		}
		all, err := n.commitUnits(l, units)
		for _, u := range units {
			r := unitReply[admitReply]{err: err}
			if err == nil {
				r.reply = admitReply{Results: all.Results[:len(u.batch.Claims)], MaxSkewMs: all.MaxSkewMs}
				all.Results = all.Results[len(u.batch.Claims):]
			}
			u.reply <- r
		}
	}
}

// roomForClaims tells which batches fit one entry together.
func roomForClaims() func(*fsm.AdmitBatch) bool {
	claims, callers := 0, 0
	return func(b *fsm.AdmitBatch) bool {
		claims, callers = claims+len(b.Claims), callers+len(b.Callers)
		return claims <= fsm.MaxClaims && callers <= fsm.MaxCallers
	}
}

// commitUnits proposes one entry for all units and waits for it.
func (n *Node) commitUnits(l *leadership, units []*admitUnit) (admitReply, error) {
	var all fsm.AdmitBatch
	for _, u := range units {
		base := uint16(len(all.Callers))
		all.Callers = append(all.Callers, u.batch.Callers...)
		for _, c := range u.batch.Claims {
			c.Caller += base
			all.Claims = append(all.Claims, c)
		}
	}
	if err := n.Serving(); err != nil {
		return admitReply{}, err
	}
	cmd, err := fsm.New(fsm.Actor{NodeID: n.id.NodeID}, all)
	if err != nil {
		return admitReply{}, &client.Error{Code: client.CodeInternal, Detail: err.Error()}
	}
	n.meter.batch.Observe(float64(len(all.Claims)))
	future, err := n.enqueue(l, cmd)
	if err != nil {
		return admitReply{}, err
	}
	if plantAckEarly { // planted: no majority has it yet
		if reply, ok := n.plantedReply(all); ok {
			return reply, nil
		}
	}
	res, err := future.finish()
	if err != nil {
		return admitReply{}, err
	}
	if !res.OK() {
		return admitReply{}, &client.Error{Code: client.CodeUnavailable, Detail: res.Detail, Reason: string(res.Code)}
	}
	var skew int64
	n.machine.Read(func(s *fsm.State) { skew = s.Policy().MaxSkewMs })
	return admitReply{Results: res.Claims, MaxSkewMs: skew}, nil
}
