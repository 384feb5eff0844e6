package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

const (
	// sweepOld bounds how many requests of each sort the sweep asks again.
	sweepOld = 300
	// sweepTries is how often it asks for one thing whose outcome stays unknown.
	sweepTries = 4
	sweepPause = time.Second
)

// sweep asks once more, after healing: for what was asked before, for something
// new of each kind through every node, and for every ban at every node.
func (r *run) sweep(ctx context.Context, t *traffic) error {
	w, err := t.worker(t.mix.Clients)
	if err != nil {
		return err
	}
	defer w.close()
	members := r.field.Members()
	for i, s := range t.memory.last() {
		w.admit(ctx, s.replayed(), members[i%len(members)])
	}
	w.askAgain(ctx, sweepOld)
	for i, n := range members {
		w.sweepNode(ctx, i, n)
	}
	w.sweepMoney(ctx, members)
	for _, a := range t.agents {
		for _, n := range members {
			w.readBan(ctx, a.id, n, true, []client.Option{client.Strong()})
		}
	}
	for _, n := range members {
		w.bansRead(ctx)
		w.readPolicy(ctx, n, true, []client.Option{client.Strong()})
	}
	return nil
}

// sweepNode has a node take one fresh admission, ban, lift and change of
// policy: it must serve like any other. In between the ban must hold.
func (w *worker) sweepNode(ctx context.Context, i int, node string) {
	target := w.agents[1+2*(i%max(1, (len(w.agents)-1)/2))] // of those that the traffic bans
	w.insist(ctx, w.fresh(w.agents[0]), node)               // never banned
	ban, body := w.newBan(target.id, fmt.Sprintf("ban of the last sweep through %s", node))
	ban.Node, ban.Ban.ExpiresMs, body.ExpiresAtMs = node, 0, 0
	w.persist(ctx, func() judge.Op { return w.sendBan(ctx, ban, body) })
	w.admit(ctx, w.fresh(target), w.node(node))
	lift := w.newLift(target.id, fmt.Sprintf("lift of the last sweep through %s", node), node)
	w.persist(ctx, func() judge.Op { return w.sendLift(ctx, lift) })
	read := w.readPolicy(ctx, node, true, []client.Option{client.Strong()})
	if read.Outcome == judge.OK {
		set := w.newPolicy(read, node)
		w.persist(ctx, func() judge.Op { return w.sendPolicy(ctx, set) })
	}
}

// fresh makes an honest request of an agent.
func (w *worker) fresh(a agent) *signedRequest {
	r, _, err := signHonest(w.rng, w.keys.newest(a), time.Now())
	if err != nil {
		panic(err) // our own requests are well-formed
	}
	return r
}

func (w *worker) insist(ctx context.Context, r *signedRequest, node string) {
	w.persist(ctx, func() judge.Op { return w.admit(ctx, r, node) })
}

// persist asks, as part of the sweep, until the outcome is known or it was
// asked often enough.
func (w *worker) persist(ctx context.Context, ask func() judge.Op) {
	w.sweeps = true
	defer func() { w.sweeps = false }()
	for range sweepTries {
		if ask().Outcome != judge.Unknown || !waitUntil(ctx, time.Now().Add(sweepPause)) {
			return
		}
	}
}
