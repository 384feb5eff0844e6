package edge_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
)

// Keys that a source makes up take nobody's place: a coordinator that comes later is known all the same.
func TestP3KeysThatAreMadeUpFillNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		junk := make([]crypto.PublicKey, 10_000)
		for i := range junk {
			_, _ = rand.Read(junk[i][:]) // never fails
		}
		var told atomic.Bool
		c := newCluster(3)
		c.Ban("a", 2, 0)
		c.Cosign(3)
		liar := &edgetest.Member{ID: "liar", Cluster: c,
			Tell: func([]crypto.PublicKey) []crypto.PublicKey { told.Store(true); return junk },
			Tamper: func(_ uint64, record []byte) []byte {
				e, err := crypto.ParseBlacklistEvent(record)
				if err != nil {
					return nil
				}
				e.Link(e.PrevEventHash, edgetest.Key(99)) // has the liar asked for its keys
				return e.WireJSON()
			}}
		r := startRig(t, t.TempDir(), c, liar, &edgetest.Member{ID: "c1", Cluster: c})
		pass(time.Second)
		if !r.banned("a-0") || !told.Load() {
			t.Fatalf("%s, alarms %v", brief(r.Status()), r.alarms)
		}
		liar.Change(func(m *edgetest.Member) { m.Tamper = nil })
		c.Replace(3, 0, 1, 5)
		c.Ban("late", 30, 0)
		c.Cosign(3)
		pass(2 * edge.DefaultEvery)
		if !r.banned("late-0") || r.lease.Left() <= 0 {
			t.Errorf("after a coordinator came in: %s, lease %s", brief(r.Status()), r.lease.Left())
		}
		if n := len(r.Status().Position.Keys); n > 4 {
			t.Errorf("%d keys are kept", n)
		}
	})
}

// A source that serves genuine events as slowly as it may holds nobody up, whatever it is slow with.
func TestP2EdgeIsNotHeldUpByADrip(t *testing.T) {
	for name, slow := range map[string]func(*edgetest.Member){
		"an event a page, at the last moment": func(m *edgetest.Member) { m.Most = 1; m.Before = drip("events") },
		"an event a page, at once":            func(m *edgetest.Member) { m.Most = 1 },
		"full pages, at the last moment":      func(m *edgetest.Member) { m.Before = drip("events") },
		"everything at the last moment":       func(m *edgetest.Member) { m.Most = 1; m.Before = drip("") },
		"nothing, ever":                       func(m *edgetest.Member) { m.Before = hang },
	} {
		for _, isEdge := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, edge %t", name, isEdge), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := newCluster(3)
					c.Ban("a", 2, 0)
					c.Cosign(3)
					bad := &edgetest.Member{ID: "slow", Edge: isEdge, Cluster: c}
					asked := new(atomic.Int64)
					bad.Asked = func(string, int) { asked.Add(1) }
					r := startRig(t, t.TempDir(), c, bad, &edgetest.Member{ID: "c1", Cluster: c})
					pass(time.Second)
					bad.Change(slow)
					asked.Store(0)
					c.Ban("late", 1500, 0)
					c.Cosign(3)
					r.tell()
					pass(15 * time.Second)
					if !r.banned("late-1499") || r.lease.Left() <= 0 || asked.Load() > 20 {
						t.Errorf("after 15 s: %s, lease %s, the slow one answered %d times", brief(r.Status()), r.lease.Left(), asked.Load())
					}
				})
			})
		}
	}
}

// drip answers just before the caller's patience with a coordinator ends.
func drip(only string) func(context.Context, string) error {
	return func(ctx context.Context, what string) error {
		if only != "" && what != only {
			return nil
		}
		select {
		case <-time.After(4900 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func hang(ctx context.Context, _ string) error {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second): // the bound of a client
	}
	return edgetest.ErrDown
}

// One slow coordinator alone is still a source: what it serves in a while is taken.
func TestPullFromOneSlowCoordinator(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("a", 1500, 0)
		c.Cosign(3)
		r := startRig(t, t.TempDir(), c, &edgetest.Member{ID: "c1", Cluster: c, Most: 150, Before: func(ctx context.Context, what string) error {
			time.Sleep(2 * time.Second)
			return ctx.Err()
		}})
		pass(30 * time.Second)
		if !r.banned("a-1499") {
			t.Error(brief(r.Status()))
		}
	})
}

// Heads of chains that nobody has cost a few questions, whoever makes them up however fast, and keep no true news away.
func TestHintsOfNothingAreNoStorm(t *testing.T) {
	for _, epoch := range []uint64{1, 1 << 40} {
		inBubble(t, func(t *testing.T) {
			c := newCluster(3)
			c.Ban("a", 2, 0)
			c.Cosign(3)
			asked := new(atomic.Int64)
			r := startRig(t, t.TempDir(), c, &edgetest.Member{ID: "c1", Cluster: c, Asked: func(string, int) { asked.Add(1) }})
			pass(time.Second)
			asked.Store(0)
			for i := range uint64(3000) {
				r.Hint(edge.Hint{Epoch: epoch, Size: 1<<40 + i})
				pass(20 * time.Millisecond)
			}
			if n := asked.Load(); n > 60 {
				t.Errorf("%d questions in a minute of made up heads", n)
			}
			c.Ban("late", 1, 0)
			r.Hint(edge.Hint{Epoch: 1, Size: 3, Note: c.Cosign(3)})
			r.Hint(edge.Hint{Epoch: epoch, Size: 1 << 50})
			pass(100 * time.Millisecond)
			if !r.banned("late-0") {
				t.Errorf("true news wait behind made up ones: %s", brief(r.Status()))
			}
		})
	}
}

// Genuine checkpoints that are sent again and again keep an edge from asking nobody.
func TestP2OldNotesDoNotReplaceAsking(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("a", 2, 0)
		old := c.Cosign(3)
		r := startRig(t, t.TempDir(), c)
		c.Ban("late", 1, 0)
		for range 20 {
			c.Cosign(3)
			r.Hint(edge.Hint{Epoch: c.Epoch(), Size: 2, Note: old})
			pass(3 * time.Second)
			if r.lease.Left() <= 20*time.Second {
				t.Fatalf("lease %s, %s", r.lease.Left(), brief(r.Status()))
			}
		}
		if !r.banned("late-0") {
			t.Error(brief(r.Status()))
		}
	})
}

// A burst that goes on is followed closely, although some of it is always missing.
func TestSyncFollowsASteadyBurst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		pass(time.Second)
		for i := range 100 {
			c.Ban(fmt.Sprintf("bad-%d", i), 1, 0)
			r.tell()
			pass(20 * time.Millisecond)
			c.Cosign(2)
			if have := r.set.View().Head.Size; i > 10 && have+15 < c.Size() {
				t.Fatalf("%d of %d: %s", have, c.Size(), brief(r.Status()))
			}
		}
	})
}
