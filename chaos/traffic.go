package chaos

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
)

// traffic is what the clients share.
type traffic struct {
	rec    *recorder
	field  *field
	mix    Traffic
	seed   uint64
	agents []agent // with the keys that they began with
	memory *memory
	money  *money
	bans   banBook
	keys   *keyring
	healed chan struct{} // a fault was healed
}

func newTraffic(rec *recorder, f *field, mix Traffic, seed uint64, agents []agent, m *money) *traffic {
	return &traffic{rec: rec, field: f, mix: mix, seed: seed, agents: agents, keys: newKeyring(agents), money: m, memory: newMemory(mix.widestWindow()), healed: make(chan struct{}, 1)}
}

// afterHealing has old requests asked again soon.
func (t *traffic) afterHealing() {
	select {
	case t.healed <- struct{}{}:
	default: // it is on its way already
	}
}

// run sends traffic until ctx ends. Every attempt that was begun is recorded
// to its end.
func (t *traffic) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, t.mix.Clients+1)
	for i := range t.mix.Clients {
		wg.Go(func() { errs[i] = t.work(ctx, i) })
	}
	wg.Go(func() { errs[t.mix.Clients] = t.remind(ctx) })
	wg.Go(func() { t.poll(ctx) })
	wg.Wait()
	return errors.Join(errs...)
}

// worker is one client of the traffic.
type worker struct {
	*traffic
	id      int
	rng     *rand.Rand
	clients map[string]*client.Client
	shunned map[string]time.Time // nodes that kept us waiting, and until when
	sweeps  bool                 // what it asks counts as the last sweep's
}

func (t *traffic) worker(id int) (*worker, error) {
	clients, err := t.field.clients()
	if err != nil {
		return nil, err
	}
	return &worker{traffic: t, id: id, rng: rand.New(rand.NewPCG(t.seed, uint64(id)+1)), clients: clients, shunned: map[string]time.Time{}}, nil
}

func (w *worker) close() {
	for _, c := range w.clients {
		c.Close()
	}
}

func (t *traffic) work(ctx context.Context, id int) error {
	w, err := t.worker(id)
	if err != nil {
		return err
	}
	defer w.close()
	pace := time.NewTicker(time.Duration(float64(time.Second) / t.mix.Rate))
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pace.C:
			w.act(context.WithoutCancel(ctx)) // what was asked is answered
		}
	}
}

// act does one operation drawn from the mix.
func (w *worker) act(ctx context.Context) {
	m := w.mix.Weights
	k := w.rng.IntN(m.total())
	for _, choice := range []struct {
		weight int
		do     func(context.Context)
	}{
		{m.Claim, w.claim}, {m.Replay, w.replay}, {m.Retry, w.retry}, {m.Ban, w.ban}, {m.BanRead, w.banRead},
		{m.PolicySet, w.policySet}, {m.PolicyRead, w.policyRead}, {m.ChainRead, w.bansRead}, {m.Rekey, w.rekey}, {m.Move, w.move}, {m.AccountRead, w.accountRead},
	} {
		if k -= choice.weight; k < 0 {
			choice.do(ctx)
			return
		}
	}
}

// shunTime is how long a worker stays away from a node that kept it waiting.
const shunTime = 2 * time.Second

// node draws a node, other than the given one if it can, and rather one that
// answers: else one paused node would stop all clients.
func (w *worker) node(not string) string { return w.draw(w.field.Members(), not) }

// reader draws who is asked what any replica may answer.
func (w *worker) reader() string { return w.draw(w.field.replicas(), "") }

func (w *worker) draw(from []string, not string) string {
	now := time.Now()
	var good []string
	for _, n := range from {
		if n != not && (now.After(w.shunned[n]) || w.rng.IntN(20) == 0) {
			good = append(good, n)
		}
	}
	if len(good) == 0 {
		good = from
	}
	return good[w.rng.IntN(len(good))]
}

// ask records one attempt at a node.
func (w *worker) ask(ctx context.Context, op judge.Op, do func(ctx context.Context, c *client.Client, op *judge.Op) error) judge.Op {
	op.Client, op.Sweep = w.id, w.sweeps
	done := w.rec.ask(op, func(op *judge.Op) error { return do(ctx, w.clients[op.Node], op) })
	if done.Outcome != judge.OK && time.Duration(done.EndNS-done.StartNS) > time.Second || done.Code == client.CodeUnavailable {
		w.shunned[op.Node] = time.Now().Add(shunTime)
	}
	return done
}

func (w *worker) claim(ctx context.Context) {
	r, err := sign(w.rng, w.keys.drawn(w.agents, w.rng), time.Now().Add(w.mix.agentOff(w.rng)))
	if err != nil {
		panic(err) // our own requests are well-formed
	}
	r.node = w.node("")
	op := w.admit(ctx, r, r.node)
	w.memory.put(r, op)
}

// replay sends what was sent before under another claim id: something recent,
// whatever came of it, or something admitted, whatever its age.
func (w *worker) replay(ctx context.Context) {
	r := w.memory.recent(w.rng)
	if old := w.memory.aged(w.rng); old != nil && w.rng.IntN(2) == 0 {
		r = old
	}
	if r != nil {
		w.admit(ctx, r.replayed(), w.node(r.node))
	}
}

// retry asks again under the same claim id, rather for what is unknown.
func (w *worker) retry(ctx context.Context) {
	r := w.memory.aged(w.rng)
	if open := w.memory.unknown(w.rng); open != nil && w.rng.IntN(4) > 0 {
		r = open
	}
	if r != nil {
		w.admit(ctx, r, w.node(""))
	}
}

func (w *worker) admit(ctx context.Context, r *signedRequest, node string) judge.Op {
	claim := r.claim
	return w.ask(ctx, judge.Op{Kind: judge.KindClaim, Node: node, Claim: &claim}, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		out, err := c.Admit(ctx, r.wire)
		if err != nil {
			return err
		}
		cl := op.Claim
		cl.Verdict, cl.Code, cl.Index, cl.ClockMs, cl.Repeated = out.Verdict, out.Code, out.Index, out.ClockMs, out.Repeated
		op.Index = out.Index
		return nil
	})
}

// statusClient is the client number of the poller.
const statusClient = 1000

// pollEvery is how often each node is asked for its status.
const pollEvery = 500 * time.Millisecond

// poll records what the nodes say of themselves.
func (t *traffic) poll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, node := range slices.Concat(t.field.nodes, t.field.observers) {
		wg.Go(func() {
			c, err := t.field.client(node)
			if err != nil {
				return
			}
			defer c.Close()
			tick := time.NewTicker(cmp.Or(time.Duration(t.mix.Poll), pollEvery))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if slices.Contains(t.field.replicas(), node) {
						t.status(ctx, c, node)
					}
				}
			}
		})
	}
	wg.Wait()
}

func (t *traffic) status(ctx context.Context, c *client.Client, node string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t.rec.ask(judge.Op{Kind: judge.KindStatus, Client: statusClient, Node: node, Status: &judge.Status{}}, func(op *judge.Op) error {
		st, err := c.Status(ctx)
		op.Status = statusOf(st)
		return err
	})
}

func statusOf(st client.Status) *judge.Status {
	out := &judge.Status{NodeID: st.Node.ID, State: st.State, Term: st.Term, Epoch: st.Epoch, AppliedIndex: st.AppliedIndex, Digests: st.Digests}
	if st.Leader != nil {
		out.Leader = st.Leader.Name
	}
	return out
}
