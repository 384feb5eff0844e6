package chaos

import (
	"context"
	stdcrypto "crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edgecoder/edgecoder/chaos/judge"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// banBook remembers whom the traffic believes banned, and which bans ended
// unknown, to ask again under the same key.
type banBook struct {
	mu     sync.Mutex
	banned map[string]bool
	open   []judge.Op
	bodies map[string]client.BanRequest // by idempotency key
	serial int
}

// banned agents are the odd ones but the last; the others keep admissions flowing.
func (t *traffic) bannable(rng *rand.Rand) agent {
	n := (len(t.agents) - 1) / 2
	return t.agents[1+2*rng.IntN(max(1, n))]
}

// plan decides what to do about an agent: ban it, lift its ban, or ask again
// for a ban whose outcome is unknown. Two workers may well do the same at once.
func (b *banBook) plan(rng *rand.Rand, agent string) (lift bool, again *judge.Op, serial int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serial++
	if len(b.open) > 0 && rng.IntN(2) == 0 {
		op := b.open[0]
		b.open = b.open[1:]
		return false, &op, b.serial
	}
	return b.banned[agent], nil, b.serial
}

func (b *banBook) done(op judge.Op, body client.BanRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.banned == nil {
		b.banned, b.bodies = map[string]bool{}, map[string]client.BanRequest{}
	}
	switch {
	case op.Kind == judge.KindLift:
		b.banned[op.Lift.Agent] = op.Outcome == judge.Unknown
	case op.Outcome == judge.OK:
		b.banned[op.Ban.Agent] = true
	case op.Outcome == judge.Unknown:
		b.bodies[op.Key] = body
		b.open = append(b.open, op)
	}
}

func (b *banBook) body(key string) client.BanRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bodies[key]
}

func (w *worker) ban(ctx context.Context) {
	target := w.bannable(w.rng)
	lift, again, serial := w.bans.plan(w.rng, target.id)
	switch {
	case again != nil:
		op := judge.Op{Kind: judge.KindBan, Node: w.node(again.Node), Key: again.Key,
			Ban: &judge.Ban{Agent: again.Ban.Agent, Reason: again.Ban.Reason, ExpiresMs: again.Ban.ExpiresMs, SignedMs: again.Ban.SignedMs}}
		w.sendBan(ctx, op, w.bans.body(again.Key))
	case lift:
		w.sendLift(ctx, w.newLift(target.id, fmt.Sprintf("lift %d of client %d", serial, w.id), w.node("")))
	default:
		op, body := w.newBan(target.id, fmt.Sprintf("ban %d of client %d", serial, w.id))
		w.sendBan(ctx, op, body)
	}
}

// newBan makes a ban; some expire, well beyond the few seconds by which clocks may be off, some carry their reporter's signature.
func (w *worker) newBan(agentID, reason string) (judge.Op, client.BanRequest) {
	body := client.BanRequest{AgentID: agentID, ReasonCode: crypto.ReasonManualReview, Reason: reason,
		EvidenceSHA256: crypto.Sum([]byte(reason)).String(), ReporterID: "chaos"}
	now := time.Now()
	if w.rng.IntN(5) == 0 {
		body.ExpiresAtMs = now.Add(time.Duration(15+w.rng.IntN(26)) * time.Second).UnixMilli()
	}
	if w.rng.IntN(3) == 0 {
		w.report(&body, now)
	}
	op := judge.Op{Kind: judge.KindBan, Node: w.node(""), Key: client.NewClaimID(),
		Ban: &judge.Ban{Agent: agentID, Reason: reason, ExpiresMs: body.ExpiresAtMs, SignedMs: body.TimestampMs}}
	return op, body
}

// report has the first agent, which is never banned, sign as the reporter.
func (w *worker) report(body *client.BanRequest, now time.Time) {
	a := w.agents[0]
	body.ReasonCode, body.ReporterID, body.TimestampMs = "policy_violation", a.id, now.UnixMilli()
	text := crypto.ReporterEvidence{AgentID: body.AgentID, ReasonCode: body.ReasonCode, Reason: body.Reason,
		EvidenceHashSHA256: body.EvidenceSHA256, ReporterID: body.ReporterID, TimestampMs: body.TimestampMs}.Canonical()
	sig, err := a.key.Sign(nil, text, stdcrypto.Hash(0))
	if err != nil {
		panic(err) // Ed25519 cannot fail
	}
	body.ReporterPublicKey, body.ReporterSignature = a.public().PEM(), base64.StdEncoding.EncodeToString(sig)
}

func (w *worker) sendBan(ctx context.Context, op judge.Op, body client.BanRequest) judge.Op {
	ban := *op.Ban
	op.Ban = &ban
	done := w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		out, err := c.Ban(ctx, body, client.IdempotencyKey(op.Key))
		op.Ban.Change, op.Index = changeOf(out), out.Index
		return err
	})
	w.bans.done(done, body)
	return done
}

func (w *worker) newLift(agentID, reason, node string) judge.Op {
	return judge.Op{Kind: judge.KindLift, Node: node, Key: client.NewClaimID(), Lift: &judge.Lift{Agent: agentID, Reason: reason}}
}

func (w *worker) sendLift(ctx context.Context, op judge.Op) judge.Op {
	lift := *op.Lift // what is asked stays, the answer is this attempt's
	op.Lift = &lift
	done := w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		out, err := c.Lift(ctx, lift.Agent, lift.Reason, client.IdempotencyKey(op.Key))
		op.Lift.Change, op.Index = changeOf(out), out.Index
		return err
	})
	w.bans.done(done, client.BanRequest{})
	return done
}

func changeOf(c client.BlacklistChange) judge.Change {
	return judge.Change{EventID: c.EventID, Head: c.ChainHead, Size: c.Size, Repeated: c.Repeated}
}

// levels draws how fresh a read must be.
func (w *worker) level() (strong bool, opts []client.Option) {
	if w.rng.IntN(2) == 0 {
		return true, []client.Option{client.Strong()}
	}
	return false, nil
}

func (w *worker) banRead(ctx context.Context) {
	strong, opts := w.level()
	w.readBan(ctx, w.bannable(w.rng).id, w.reader(), strong, opts)
}

func (w *worker) readBan(ctx context.Context, agentID, node string, strong bool, opts []client.Option) {
	op := judge.Op{Kind: judge.KindBanRead, Node: node, Strong: strong, BanRead: &judge.BanRead{Agent: agentID}}
	w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		ban, err := c.BanOn(ctx, agentID, append(opts, client.Index(&op.Index))...)
		if e := (*client.Error)(nil); errors.As(err, &e) && e.Code == client.CodeNotFound {
			return nil // not in force is an answer
		}
		op.BanRead.InForce, op.BanRead.EventID, op.BanRead.Seq = err == nil, ban.EventID, ban.Seq
		return err
	})
}

func (w *worker) bansRead(ctx context.Context) {
	strong, opts := w.level()
	op := judge.Op{Kind: judge.KindBansRead, Node: w.reader(), Strong: strong, BansRead: &judge.BansRead{}}
	w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		out, err := c.Bans(ctx, append(opts, client.Page("", 1000), client.Index(&op.Index))...)
		r := op.BansRead
		r.Size, r.Head, r.Complete = out.Size, out.ChainHead, out.Next == ""
		for _, b := range out.Bans {
			r.Agents = append(r.Agents, b.AgentID)
		}
		return err
	})
}

func (w *worker) policyRead(ctx context.Context) {
	strong, opts := w.level()
	w.readPolicy(ctx, w.reader(), strong, opts)
}

func (w *worker) readPolicy(ctx context.Context, node string, strong bool, opts []client.Option) judge.Op {
	op := judge.Op{Kind: judge.KindPolicyRead, Node: node, Strong: strong, PolicyRead: &judge.PolicyRead{}}
	return w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		out, err := c.Policy(ctx, append(opts, client.Index(&op.Index))...)
		op.PolicyRead.Version, op.PolicyRead.Policy = out.Version, judge.PolicyOf(out)
		return err
	})
}

// policySet changes the policy on what was read, sometimes on what is stale:
// then it must be refused.
func (w *worker) policySet(ctx context.Context) {
	strong, opts := w.level()
	if read := w.readPolicy(ctx, w.node(""), strong, opts); read.Outcome == judge.OK {
		w.sendPolicy(ctx, w.newPolicy(read, w.node("")))
	}
}

// newPolicy makes a change of the policy that was read.
func (w *worker) newPolicy(read judge.Op, node string) judge.Op {
	next := read.PolicyRead.Policy
	next.RateLimit.Requests = wideRequests + int64(w.rng.IntN(1000))
	next.MaxSkewMs = w.mix.drawSkew(w.rng).Milliseconds()
	return judge.Op{Kind: judge.KindPolicySet, Node: node, Key: client.NewClaimID(),
		PolicySet: &judge.PolicySet{IfVersion: read.PolicyRead.Version, Policy: next}}
}

func (w *worker) sendPolicy(ctx context.Context, op judge.Op) judge.Op {
	set := *op.PolicySet
	op.PolicySet = &set
	return w.ask(ctx, op, func(ctx context.Context, c *client.Client, op *judge.Op) error {
		next := &set.Policy
		out, err := c.SetPolicy(ctx, set.IfVersion, client.PolicyUpdate{RateLimit: &next.RateLimit, MaxSkewMs: &next.MaxSkewMs,
			AutoApprove: &next.AutoApprove, Overrides: next.Overrides}, client.IdempotencyKey(op.Key), client.Index(&op.Index))
		op.PolicySet.Version, op.PolicySet.Repeated = out.Version, out.Repeated
		return err
	})
}
