package edge

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// replica is a replicated state that bans and lifts are applied to.
type replica struct {
	state *fsm.State
	key   crypto.PrivateKey
	atMs  int64
	n     int
}

func newReplicaKey() crypto.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32)) }

func newReplica(t testing.TB) *replica {
	t.Helper()
	key := newReplicaKey()
	r := &replica{state: fsm.NewState(), key: key, atMs: 1_800_000_000_000}
	genesis := fsm.Genesis{ClusterID: "00112233445566778899aabbccddeeff", CACert: []byte("ca"), Level: fsm.LevelSupported,
		AdminToken: fsm.TokenCreate{ID: "admin", Hash: crypto.Sum([]byte("admin")), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: fsm.Coordinator{ID: "n1", Name: "one", Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(key), Level: fsm.LevelSupported,
			EncryptionKey: bytes.Repeat([]byte{7}, 32), API: "127.0.0.1:1", Raft: "127.0.0.1:2", Gossip: "127.0.0.1:3"}}
	if res, _ := r.apply(t, fsm.Actor{}, genesis); !res.OK() {
		t.Fatalf("genesis: %+v", res)
	}
	return r
}

func (r *replica) apply(t testing.TB, actor fsm.Actor, body any) (fsm.Result, []fsm.Record) {
	t.Helper()
	cmd, err := fsm.New(actor, body)
	if err != nil {
		t.Fatal(err)
	}
	r.n++
	cmd.AtMs = r.atMs
	res, records, err := r.state.Apply(uint64(r.n), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return res, records
}

// append bans an agent, or lifts the ban in force, and returns the event, nil if the state refused it.
func (r *replica) append(t testing.TB, agent string, expiresMs int64, lift bool) *crypto.BlacklistEvent {
	t.Helper()
	e := crypto.BlacklistEvent{EventID: fmt.Sprintf("event-%d", r.n), AgentID: agent, ReasonCode: crypto.ReasonManualReview, Reason: "a test",
		EvidenceHashSHA256: crypto.Sum(nil).String(), ReporterID: "tester", ReportedBy: "tester", TimestampMs: r.atMs}
	if lift {
		ban, _ := r.state.Ban(agent, r.state.ClockMs())
		e.EvidenceHashSHA256, expiresMs = ban.EventHash.String(), r.atMs-1
	}
	if expiresMs != 0 {
		e.ExpiresAtMs = &expiresMs
	}
	head, _ := r.state.Chain()
	e.Link(head, r.key)
	if res, _ := r.apply(t, fsm.Actor{TokenID: "admin"}, fsm.BlacklistAppend{Event: e, Lift: lift}); !res.OK() {
		return nil
	}
	return &e
}

// The set answers as the replicated state does, whatever happened, at every time and however the events came in.
func TestSetFollowsTheState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, set := newReplica(t), NewSet()
		agents := []string{"a", "b", "c", "d"}
		var waiting []Change
		seq := uint64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "events") {
			r.atMs += rapid.Int64Range(0, 5_000).Draw(rt, "passes")
			agent := rapid.SampledFrom(agents).Draw(rt, "agent")
			expires := int64(0)
			if rapid.Bool().Draw(rt, "ends") {
				expires = r.atMs + rapid.Int64Range(1, 10_000).Draw(rt, "after")
			}
			if e := r.append(t, agent, expires, rapid.Bool().Draw(rt, "lift")); e != nil {
				seq++
				waiting = append(waiting, ChangeOf(seq, e))
			}
			if rapid.Bool().Draw(rt, "held back") {
				continue
			}
			v, err := set.View().with(waiting, Head{Size: seq}, r.state.ClockMs())
			if err != nil {
				rt.Fatal(err)
			}
			set.replace(v)
			waiting = nil
			for _, a := range agents {
				now := r.state.ClockMs() + rapid.Int64Range(0, 12_000).Draw(rt, "asked at")
				want, in := r.state.Ban(a, now)
				got, known := v.Ban(a)
				if known = known && got.InForce(now); known != in || in && (got.Seq != want.Seq || got.ExpiresMs != want.ExpiresMs) {
					rt.Fatalf("%s at %d: %+v %t, the state says %+v %t", a, now, got, known, want, in)
				}
			}
		}
	})
}

// manyChanges are n permanent bans.
func manyChanges(n int) []Change {
	changes := make([]Change, n)
	for i := range changes {
		changes[i] = Change{Key: KeyOf(fmt.Sprintf("agent-%d", i)), Ban: Ban{Seq: uint64(i) + 1}}
	}
	return changes
}

func mustWith(t testing.TB, v *View, changes []Change) *View {
	t.Helper()
	out, err := v.with(changes, Head{Size: v.Head.Size + uint64(len(changes))}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSetKeepsWhatIsInIt(t *testing.T) {
	const n = 100_000
	v := mustWith(t, emptyView(), manyChanges(n))
	if v.Len() != n {
		t.Fatalf("%d bans", v.Len())
	}
	for i := range n {
		if b, ok := v.Ban(fmt.Sprintf("agent-%d", i)); !ok || b.Seq != uint64(i)+1 {
			t.Fatalf("agent %d: %+v %t", i, b, ok)
		}
		if _, ok := v.Ban(fmt.Sprintf("other-%d", i)); ok {
			t.Fatalf("other %d is banned", i)
		}
	}
	lifts := manyChanges(n)[:n/2]
	for i := range lifts {
		lifts[i].Lift = true
	}
	if after := mustWith(t, v, lifts); after.Len() != n/2 || v.Len() != n {
		t.Fatalf("%d left, the old view has %d", after.Len(), v.Len())
	}
}

func TestSetForgetsWhatExpiredLongAgo(t *testing.T) {
	c := Change{Key: KeyOf("a"), Ban: Ban{Seq: 1, ExpiresMs: 1000}}
	v, err := emptyView().with([]Change{c}, Head{}, 1000+expiredKeptMs)
	if err != nil || v.Len() != 1 {
		t.Fatalf("%d, %v", v.Len(), err)
	}
	same := Change{Key: c.Key, Ban: Ban{Seq: 2, ExpiresMs: 1000}}
	if v, err = v.with([]Change{same}, Head{}, 1001+expiredKeptMs); err != nil || v.Len() != 0 {
		t.Fatalf("%d, %v", v.Len(), err)
	}
}

// Readers beside the writer see one position or the other, never a mixture: bans of a pair come and go together.
func TestSetReadersSeeWholePositions(t *testing.T) {
	set := NewSet()
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				v := set.View()
				_, a := v.Ban("left")
				_, b := v.Ban("right")
				if a != b || a != (v.Head.Size%2 == 1) {
					t.Errorf("at size %d: %t and %t", v.Head.Size, a, b)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range uint64(500) {
		pair := []Change{{Key: KeyOf("left"), Ban: Ban{Seq: i + 1}, Lift: i%2 == 1}, {Key: KeyOf("right"), Ban: Ban{Seq: i + 1}, Lift: i%2 == 1}}
		v, err := set.View().with(pair, Head{Size: i + 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		set.replace(v)
	}
	close(done)
	readers.Wait()
}

// heapOf returns the bytes that stay alive of what make returns.
func heapOf[T any](make func() T) (uint64, T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	v := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return after.HeapAlloc - before.HeapAlloc, v
}

// A ban takes less than 64 bytes, also right after the set grew.
func TestSetBytesPerBan(t *testing.T) {
	if testing.Short() {
		t.Skip("make bench-edge measures it with 1,000,000 bans; this is a third of that")
	}
	changes := manyChanges(300_000)
	live, v := heapOf(func() *View { return mustWith(t, emptyView(), changes) })
	if perBan := float64(live) / float64(v.Len()); perBan > 64 {
		t.Errorf("%.1f bytes a ban", perBan)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		set := NewSet()
		live, v := heapOf(func() *View { return mustWith(b, emptyView(), manyChanges(n)) })
		set.replace(v)
		ids := make([]string, 1<<16)
		for i := range ids {
			ids[i] = fmt.Sprintf("agent-%d", rand.IntN(2*n))
		}
		b.Run(fmt.Sprintf("bans=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				set.View().Ban(ids[i&(1<<16-1)])
			}
			b.ReportMetric(float64(live)/float64(n), "B/ban")
		})
	}
}

func BenchmarkOneMoreBan(b *testing.B) {
	v := mustWith(b, emptyView(), manyChanges(1_000_000))
	one := []Change{{Key: KeyOf("one more"), Ban: Ban{Seq: 1}}}
	b.ReportAllocs()
	for b.Loop() {
		mustWith(b, v, one)
	}
}
