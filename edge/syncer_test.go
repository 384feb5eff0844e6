package edge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/edge/edgetest"
)

// rig is one edge beside a cluster, in a bubble of virtual time.
type rig struct {
	*edge.Syncer
	set     *edge.Set
	lease   *edge.Lease
	cluster *edgetest.Cluster
	mu      sync.Mutex
	members []*edgetest.Member // guarded by mu
	alarms  map[string]int
	dir     string
	stop    func()
}

// brief is what a test says of a status.
func brief(st edge.Status) string {
	return fmt.Sprintf("at %+v, cosigners %d, %d looks, %d failed, %d refused, halted %q, error %q",
		st.Position.Head, st.Position.Trusted.Version, st.Looks, st.Failed, st.Refused, st.Halted, st.Error)
}

func nowS() int64 { return time.Now().Unix() }

func newCluster(n int) *edgetest.Cluster { return edgetest.New(n, nowS) }

// startRig starts an edge that knows nothing yet, or goes on from its directory.
func startRig(t *testing.T, dir string, c *edgetest.Cluster, members ...*edgetest.Member) *rig {
	return startRigBy(t, edge.NewClock(), dir, c, members...)
}

// startRigBy is startRig by a clock of its own.
func startRigBy(t *testing.T, clock edge.Clock, dir string, c *edgetest.Cluster, members ...*edgetest.Member) *rig {
	t.Helper()
	store, view, at, err := edge.OpenStore(dir, edgetest.ClusterID, edgetest.Seal)
	if err != nil {
		t.Fatal(err)
	}
	if at == nil {
		p := c.Pinned()
		at = &p
	}
	if len(members) == 0 {
		members = []*edgetest.Member{{ID: "c1", Cluster: c}}
	}
	r := &rig{set: edge.NewSet(), lease: edge.NewLease(clock, edge.DefaultLease), cluster: c, members: members, alarms: map[string]int{}, dir: dir}
	r.set.Restore(view)
	r.Syncer = edge.NewSyncer(edge.Config{ClusterID: edgetest.ClusterID, Store: store, Set: r.set, Lease: r.lease,
		Rand:  func(d time.Duration) time.Duration { return d / 2 },
		Alarm: func(code, _ string) { r.alarms[code]++ },
		Sources: func(uint64) (out []edge.Source) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, m := range r.members {
				out = append(out, m)
			}
			return out
		}}, *at)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	r.stop = func() { cancel(); <-done; _ = store.Close() }
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

// join adds a member that may be asked.
func (r *rig) join(m *edgetest.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = append(r.members, m)
}

func (r *rig) banned(agent string) bool {
	b, ok := r.set.View().Ban(agent)
	return ok && b.InForce(r.lease.NowMs())
}

// pass lets virtual time go by.
func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// tell hints at what there is.
func (r *rig) tell() { r.Hint(edge.Hint{Epoch: r.cluster.Epoch(), Size: r.cluster.Size()}) }

func TestSyncFromNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 2500, 0)
		c.Lift("bad-7")
		c.Cosign(2)
		r := startRig(t, t.TempDir(), c)
		if head := r.set.View().Head; head.Size != 2501 || r.set.View().Len() != 2499 {
			t.Fatalf("%+v, %d bans, %s", head, r.set.View().Len(), r.Status().Error)
		}
		if !r.banned("bad-8") || r.banned("bad-7") || r.banned("good") {
			t.Error("the answers are wrong")
		}
		if left := r.lease.Left(); left <= 28*time.Second || left > edge.DefaultLease {
			t.Errorf("lease of %s", left)
		}
	})
}

// A hint comes before a majority has cosigned: the edge looks again until one has.
func TestSyncAfterAHint(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		c.Ban("bad", 1, 0)
		r.tell()
		pass(100 * time.Millisecond)
		if r.banned("bad-0") {
			t.Fatal("enforced without a majority")
		}
		c.Cosign(2)
		pass(500 * time.Millisecond)
		if !r.banned("bad-0") {
			t.Error("not enforced half a second after a majority cosigned")
		}
	})
}

// A checkpoint that comes with the news saves the question, and renews the lease without any.
func TestSyncByANoteInTheHint(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		var checkpoints, all atomic.Int64
		r := startRig(t, t.TempDir(), c, &edgetest.Member{ID: "c1", Cluster: c, Asked: func(what string, _ int) {
			if all.Add(1); what == "checkpoint" {
				checkpoints.Add(1)
			}
		}})
		checkpoints.Store(0)
		c.Ban("bad", 1, 0)
		r.Hint(edge.Hint{Epoch: 1, Size: 1, Note: c.Cosign(2)})
		pass(100 * time.Millisecond)
		if !r.banned("bad-0") || checkpoints.Load() != 0 {
			t.Errorf("banned %t, asked for %d checkpoints", r.banned("bad-0"), checkpoints.Load())
		}
		pass(2 * time.Second)
		all.Store(0)
		r.Hint(edge.Hint{Epoch: 1, Size: 1, Note: c.Cosign(3)})
		synctest.Wait()
		if left := r.lease.Left(); left <= 28*time.Second || all.Load() != 0 {
			t.Errorf("lease of %s, asked %d times", left, all.Load())
		}
	})
}

// Without any hint, and after a day away, the edge finds what there is.
func TestSyncHealsAfterADayAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		dir := t.TempDir()
		r := startRig(t, dir, c)
		m := r.members[0]
		m.Change(func(m *edgetest.Member) { m.Before = func(context.Context, string) error { return edgetest.ErrDown } })
		pass(24 * time.Hour)
		c.Ban("bad", 10_000, 0)
		c.Cosign(3)
		if r.lease.Left() > 0 {
			t.Error("a lease after a day alone")
		}
		m.Change(func(m *edgetest.Member) { m.Before = nil })
		pass(edge.DefaultEvery + edge.DefaultEvery/8)
		if r.set.View().Head.Size != 10_000 || r.lease.Left() <= 0 {
			t.Errorf("size %d, lease %s", r.set.View().Head.Size, r.lease.Left())
		}
	})
}

// A burst of hints is a few looks, and loses nothing.
func TestSyncBurst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		looks := r.Status().Looks
		for range 1000 {
			c.Ban(fmt.Sprintf("bad-%d", c.Size()), 10, 0)
			r.tell()
		}
		c.Cosign(3)
		pass(time.Second)
		if got := r.Status(); got.Position.Head.Size != 10_000 || got.Looks-looks > 10 || len(r.alarms) > 0 {
			t.Errorf("size %d after %d looks, alarms %v", got.Position.Head.Size, got.Looks-looks, r.alarms)
		}
	})
}

// A hint of what does not exist costs less and less, and is forgotten.
func TestSyncHintsOfNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		looks := r.Status().Looks
		r.Hint(edge.Hint{Epoch: 1, Size: 1 << 50})
		pass(time.Minute)
		got := r.Status()
		if n := got.Looks - looks; n > 30 || got.Wanted != 0 {
			t.Errorf("%d looks in a minute, still looks for %d", n, got.Wanted)
		}
	})
}

// What was kept answers at once after a restart, without anybody, and never goes back.
func TestSyncRestartOffline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		dir := t.TempDir()
		old := c.Note()
		c.Ban("bad", 10, 0)
		c.Cosign(3)
		r := startRig(t, dir, c)
		r.stop()
		c.Serve(old)
		r = startRig(t, dir, c)
		if !r.banned("bad-3") || r.lease.Left() > 0 {
			t.Errorf("banned %t, lease %s", r.banned("bad-3"), r.lease.Left())
		}
		pass(time.Minute)
		if st := r.Status(); st.Position.Head.Size != 10 || !strings.Contains(st.Error, "a checkpoint of size 0") || st.Refused == 0 || r.lease.Left() > 0 {
			t.Error(brief(st))
		}
	})
}

// Each lie is refused and named, moves nothing, and renews nothing.
func TestP3EdgeIsNotMovedByLies(t *testing.T) {
	for name, lie := range map[string]struct {
		tell  func(c *edgetest.Cluster, m *edgetest.Member, old []byte) // old: a final checkpoint of before
		want  string
		alarm string // that tells the operator; empty: it may be a member that is behind, or cut off
	}{
		"one coordinator alone": {func(c *edgetest.Cluster, _ *edgetest.Member, _ []byte) { c.Cosign(1) }, "no majority", edge.AlarmCheckpoint},
		"forged root": {func(c *edgetest.Cluster, _ *edgetest.Member, _ []byte) {
			c.Serve(c.Forge(2, c.Size(), crypto.Sum(nil)))
		}, "do not lead to the checkpoint", edge.AlarmRoot},
		"garbage":                 {func(c *edgetest.Cluster, _ *edgetest.Member, _ []byte) { c.Serve([]byte("nothing")) }, "no checkpoint", edge.AlarmCheckpoint},
		"an old checkpoint again": {func(c *edgetest.Cluster, _ *edgetest.Member, old []byte) { c.Serve(old) }, "a checkpoint of size 3, this list has 5", ""},
		"smaller, and vouched for later": {func(c *edgetest.Cluster, _ *edgetest.Member, _ []byte) {
			c.Serve(c.Forge(3, 4, crypto.Sum([]byte("x"))))
		}, "this list has 5", edge.AlarmRollback},
		"tampered event": {func(c *edgetest.Cluster, m *edgetest.Member, _ []byte) {
			c.Cosign(3)
			m.Tamper = func(_ uint64, r []byte) []byte { return []byte(strings.Replace(string(r), "late-0", "late-9", 1)) }
		}, crypto.ChainSignatureInvalid, edge.AlarmChain},
		"forged event": {func(c *edgetest.Cluster, m *edgetest.Member, _ []byte) {
			c.Cosign(3)
			m.Tamper = func(_ uint64, r []byte) []byte {
				e, err := crypto.ParseBlacklistEvent(r)
				if err != nil {
					return nil
				}
				e.AgentID = "victim"
				e.Link(e.PrevEventHash, edgetest.Key(99))
				return e.WireJSON()
			}
		}, crypto.ChainMissingKey, edge.AlarmChain},
		// A coordinator that lies can sign what it likes, but no majority vouches for it.
		"event of one coordinator alone": {func(c *edgetest.Cluster, m *edgetest.Member, _ []byte) {
			c.Cosign(3)
			m.Tamper = func(_ uint64, r []byte) []byte {
				e, err := crypto.ParseBlacklistEvent(r)
				if err != nil {
					return nil
				}
				e.AgentID = "victim"
				e.Link(e.PrevEventHash, edgetest.Key(0))
				return e.WireJSON()
			}
		}, "do not lead to the checkpoint", edge.AlarmRoot},
		"gap":       {func(c *edgetest.Cluster, m *edgetest.Member, _ []byte) { c.Ban("more", 1, 0); c.Cosign(3); m.Skip = 6 }, crypto.ChainBreak, edge.AlarmChain},
		"truncated": {func(c *edgetest.Cluster, m *edgetest.Member, _ []byte) { c.Cosign(3); m.Upto = 5 }, "it has no event 6", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(3)
				c.Ban("bad", 3, 0)
				old := c.Cosign(3)
				c.Ban("worse", 2, 0)
				c.Cosign(3)
				r := startRig(t, t.TempDir(), c)
				before, view := r.Status().Position, r.set.View()
				pass(2 * time.Second)
				c.Ban("late", 1, 0)
				r.members[0].Change(func(m *edgetest.Member) { lie.tell(c, m, old) })
				pass(time.Minute)
				st := r.Status()
				if st.Position.Head != before.Head || r.set.View() != view || r.lease.Left() > 0 || !strings.Contains(st.Error, lie.want) {
					t.Fatalf("%+v, lease %s, error %q, want %q", st.Position.Head, r.lease.Left(), st.Error, lie.want)
				}
				if (r.alarms[lie.alarm] == 0) != (lie.alarm == "") || lie.alarm == "" && len(r.alarms) > 0 {
					t.Errorf("alarms %v, want %q", r.alarms, lie.alarm)
				}
				// The truth is taken from whoever tells it.
				c.Cosign(3)
				r.join(&edgetest.Member{ID: "honest", Cluster: c})
				pass(2 * edge.DefaultEvery)
				if !r.banned("late-0") || r.lease.Left() <= 0 {
					t.Errorf("%s, lease %s", brief(r.Status()), r.lease.Left())
				}
			})
		})
	}
}

// Two final checkpoints of one size: the edge stops, says so, keeps both, also over a restart.
func TestP3EdgeStopsAtAFork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 5, 0)
		mine := c.Cosign(3)
		dir := t.TempDir()
		r := startRig(t, dir, c)
		other := c.Forge(2, 5, crypto.Sum([]byte("another list")))
		c.Serve(other)
		pass(time.Minute)
		st := r.Status()
		if st.Halted == "" || r.alarms[edge.AlarmForked] != 1 || r.lease.Left() > 0 {
			t.Fatalf("%s, alarms %v", brief(st), r.alarms)
		}
		kept, err := os.ReadFile(filepath.Join(dir, "fork-evidence.txt"))
		if err != nil || !strings.Contains(string(kept), string(mine)) || !strings.Contains(string(kept), string(other)) {
			t.Errorf("evidence: %v\n%s", err, kept)
		}
		c.Serve(mine)
		looks := st.Looks
		pass(time.Minute)
		if r.Status().Looks != looks {
			t.Error("it goes on")
		}
	})
}

// A recovery is a new list: taken up with a majority of the known cosigners, and told.
func TestP3EdgeFollowsARecovery(t *testing.T) {
	for _, keep := range []int{5, 3, 0} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(3)
				c.Ban("bad", 5, 0)
				c.Cosign(3)
				dir := t.TempDir()
				r := startRig(t, dir, c)
				old := c.Note()
				c.Recover(keep)
				c.Ban("new", 4, 0)
				c.Cosign(2)
				pass(time.Minute)
				if head := r.set.View().Head; head.Epoch != 2 || head.Size != uint64(keep)+4 || r.banned("bad-4") != (keep > 4) || !r.banned("new-3") || r.alarms[edge.AlarmEpoch] != 1 || r.alarms[edge.AlarmChain] != 0 {
					t.Fatalf("%+v, alarms %v, %s", head, r.alarms, r.Status().Error)
				}
				c.Serve(old)
				pass(time.Minute)
				if st := r.Status(); st.Position.Head.Epoch != 2 || !strings.Contains(st.Error, "epoch 1") {
					t.Error(brief(st))
				}
				r.stop()
				if r = startRig(t, dir, c); r.set.View().Head.Epoch != 2 || !r.banned("new-0") {
					t.Errorf("after a restart %+v", r.set.View().Head)
				}
			})
		})
	}
}

func TestSyncFollowsTheCosigners(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		dir := t.TempDir()
		r := startRig(t, dir, c)
		c.Replace(2, 0, 1, 3)
		c.Replace(2, 3, 4, 5)
		c.Ban("bad", 3, 0)
		c.Cosign(2)
		pass(time.Minute)
		if !r.banned("bad-1") || r.Status().Position.Trusted.Version != 3 {
			t.Fatal(brief(r.Status()))
		}
		if notes := r.Cosigners(2); len(notes) != 2 {
			t.Errorf("%d sets for others", len(notes))
		}
		r.stop()
		if r = startRig(t, dir, c); r.Status().Position.Trusted.Version != 3 {
			t.Error("forgotten at a restart")
		}
		// One of the three hands over to itself: nobody follows.
		c.Replace(1, 4)
		c.Ban("worse", 1, 0)
		c.Cosign(1)
		pass(time.Minute)
		if st := r.Status(); st.Position.Trusted.Version != 3 || r.banned("worse-0") || !strings.Contains(st.Error, "2 are needed") {
			t.Error(brief(st))
		}
	})
}

// Newer cosigners are taken up also while the old ones would do.
func TestSyncLooksForNewerCosigners(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		r := startRig(t, t.TempDir(), c)
		c.Replace(2, 0, 1, 3)
		c.Cosign(2) // by two who are in both
		pass(2 * time.Minute)
		if r.Status().Position.Trusted.Version != 2 {
			t.Error(brief(r.Status()))
		}
	})
}

// Members that are down, slow or behind do not hold up the edge.
func TestSyncAsksTheNext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 2500, 0)
		c.Cosign(3)
		down := &edgetest.Member{ID: "down", Cluster: c, Before: func(context.Context, string) error { return edgetest.ErrDown }}
		pages := 0
		breaks := &edgetest.Member{ID: "breaks", Cluster: c, Before: func(_ context.Context, what string) error {
			if what == "events" {
				if pages++; pages > 1 {
					return edgetest.ErrDown
				}
			}
			return nil
		}}
		r := startRig(t, t.TempDir(), c, down, breaks, &edgetest.Member{ID: "sound", Cluster: c})
		if st := r.Status(); st.Position.Head.Size != 2500 || pages != 2 {
			t.Errorf("%s after %d pages", brief(st), pages)
		}
	})
}

// P2: cut off from everyone, and beside a coordinator that is cut off from the majority, a strict edge denies when its lease ends, to the second.
func TestP2EdgeLeaseEnds(t *testing.T) {
	for name, cut := range map[string]func(c *edgetest.Cluster, m *edgetest.Member){
		"cut off": func(_ *edgetest.Cluster, m *edgetest.Member) {
			m.Before = func(context.Context, string) error { return edgetest.ErrDown }
		},
		"beside a lone coordinator": func(c *edgetest.Cluster, m *edgetest.Member) {
			m.Before = func(context.Context, string) error { c.Cosign(1); return nil } // it has nobody else's word
		},
		"beside one that shows the last word again": func(*edgetest.Cluster, *edgetest.Member) {},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newCluster(3)
				c.Ban("bad", 1, 0)
				c.Cosign(3)
				r := startRig(t, t.TempDir(), c)
				strict, lenient := faceOf(r, client.EdgeStrict), faceOf(r, client.EdgeBestEffort)
				pass(4 * time.Second)
				c.Cosign(3)
				vouched := time.Now().Truncate(time.Second)
				pass(edge.DefaultEvery)
				r.members[0].Change(func(m *edgetest.Member) { cut(c, m) })
				pass(time.Until(vouched.Add(edge.DefaultLease)) - time.Millisecond)
				if a := strict.allowed(t, "good"); a.Code != client.AllowedOK || !a.Freshness.Fresh {
					t.Fatalf("it ended %s early: %+v", -r.lease.Left(), a)
				}
				pass(time.Millisecond)
				if a := strict.allowed(t, "good"); a.Code != client.AllowedStale || a.Allowed || a.Freshness.Fresh {
					t.Fatalf("%s are left: %+v", r.lease.Left(), a)
				}
				if a := lenient.allowed(t, "good"); !a.Allowed || a.Freshness.Fresh {
					t.Errorf("best_effort answers on, and marks it: %+v", a)
				}
				for _, f := range []*face{strict, lenient} {
					if a := f.allowed(t, "bad-0"); a.Code != client.AllowedBlacklisted {
						t.Errorf("the ban: %+v", a)
					}
				}
			})
		})
	}
}

func TestRecentForOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCluster(3)
		c.Ban("bad", 20, 0)
		c.Cosign(3)
		r := startRig(t, t.TempDir(), c)
		c.Ban("more", 10, 0)
		c.Cosign(3)
		pass(time.Minute)
		events := r.Recent(25, 3)
		if len(events) != 3 || !strings.Contains(string(events[0]), "more-4") || len(r.Recent(31, 10)) != 0 || len(r.Recent(1, 100)) != 30 {
			t.Errorf("%d events, %s", len(events), events)
		}
	})
}
