package edge_test

import (
	"crypto/rand"
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
