package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/fsm"
)

// TestSimLeftoverOfARemovalMakesPlace: a leader prepared a gossip key without a member,
// and went before it removed it. Nobody asks again, and the rotation goes on.
func TestSimLeftoverOfARemovalMakesPlace(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, 1, 2, simDir(t))
		defer w.end()
		n, other := w.leader().running().node, w.servers["node1"]
		if other.running().node == n {
			other = w.servers["node2"]
		}
		active := func() (k fsm.Key) {
			if st, _ := n.standing(gossipSubject); st.Active >= 0 && st.Pending < 0 {
				k = st.Ring[st.Active]
			}
			return k
		}
		w.eventually("the key is on record", func() bool { return !active().Public.IsZero() })
		before := active().Public
		l := n.lead.Load()
		l.rotating.Lock()
		left, err := n.prepareShared(t.Context(), l, gossipSubject, 0, other.running().node.id.NodeID)
		l.rotating.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Minute)
		w.eventually("another took its place", func() bool {
			now := active().Public
			return !now.IsZero() && now != before && now.Fingerprint() != left
		})
	})
}
