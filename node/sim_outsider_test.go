package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgecoder/edgecoder/client"
)

// TestSimRemovedWhileAllOthersLeft: a node is away while it and everybody that it
// knows is replaced. When it is back a coordinator that it never heard of tells it
// that it was removed, and it tells its operator; the word of one stops nothing.
func TestSimRemovedWhileAllOthersLeft(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := makeSimWorld(t, 1, 5, simDir(t))
		defer w.end()
		w.bringUp(3)
		away := w.servers["node3"]
		if err := away.stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"node4", "node5"} {
			if err := w.servers[name].start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.eventually("the new ones vote", func() bool { return len(voters(w.leader().running().node.servers())) == 5 })
		for _, name := range []string{"node3", "node1", "node2"} {
			w.remove(name)
		}
		if err := away.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := away.running().node
		w.eventually("it is told", func() bool { return n.outsiders.removedSays() != "" })
		ready, status := n.Ready(), n.Status()
		if code(ready) != client.CodeUnavailable || !strings.Contains(ready.Error(), outsiderSaysRemoved) {
			t.Errorf("ready: %v", ready)
		}
		if len(status.Warnings) != 1 || status.Warnings[0].Code != client.WarnRemoved {
			t.Errorf("warnings: %+v", status.Warnings)
		}
		if err := n.expelled(); err != nil {
			t.Errorf("it takes the word of who is not on record: %v", err)
		}
	})
}

// TestSimTimingsDiffer: servers with one profile of timeouts warn of nothing; once
// another one has joined, all are told.
func TestSimTimingsDiffer(t *testing.T) {
	heavy(t)
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := makeSimWorld(t, 1, 3, simDir(t))
		defer w.end()
		w.bringUp(2)
		time.Sleep(time.Minute)
		for _, s := range w.sorted()[:2] {
			if got := s.running().node.Status().Warnings; got != nil {
				t.Errorf("%s warns of %+v", s.name, got)
			}
		}
		w.timing = WANTiming()
		if err := w.servers["node3"].start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range w.sorted() {
			n := s.running().node
			want := 1
			if s.name == "node3" {
				want = 2 // both others differ from it
			}
			w.eventually(s.name+" warns", func() bool {
				got := n.Status().Warnings
				return len(got) == want && got[0].Code == client.WarnTiming
			})
		}
	})
}

// remove takes a server out of the cluster and shuts it down for good.
func (w *simWorld) remove(name string) {
	w.t.Helper()
	w.eventually(name+" is removed", func() bool {
		cl := w.client(w.leader())
		defer cl.Close()
		_, err := cl.RemovePeer(w.t.Context(), name, false)
		return err == nil || code(err) == client.CodeNotFound
	})
	if err := w.servers[name].stop(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}
