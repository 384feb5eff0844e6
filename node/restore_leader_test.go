package node

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/api"
	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// cut takes from node i every way to reach the others, at once.
func (c *trio) cut(i int) {
	n := c.nodes[i]
	n.dialer.shut.Store(true)
	n.dialer.mu.Lock()
	open := slices.Collect(maps.Keys(n.dialer.open))
	n.dialer.mu.Unlock()
	for _, conn := range open { // the others may not have noted yet whose it is
		_ = conn.Close()
	}
	for k, other := range c.nodes {
		for _, m := range other.face.muxes {
			if k != i {
				m.drop(func(p peerName) bool { return p.id == n.id.NodeID })
			}
		}
	}
}

// dyingLeader restores on a leader that loses the others at the very moment
// when the backup replaces its own state, and returns which node it was.
func (c *trio) dyingLeader(path string) (lead int) {
	c.t.Helper()
	c.eventually("a leader", func() bool { lead = c.leader(); return lead >= 0 })
	n := c.nodes[lead]
	n.cfg.step = func(string) { c.cut(lead) } // before raft begins: nobody else gets it
	in, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer in.Close()
	plan, err := n.PlanRestore(c.t.Context(), in)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := in.Seek(0, 0); err != nil {
		c.t.Fatal(err)
	}
	t, err := crypto.ParseTokenText(c.admin)
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = n.Restore(c.t.Context(), in, orderOf(plan, t.ID))
	if code(err) != client.CodeUnknownOutcome {
		c.t.Fatalf("a restore that no majority took: %v", err)
	}
	if n.Status().Epoch != 2 || n.Serving() == nil {
		c.t.Fatalf("epoch %d, serving: %v", n.Status().Epoch, n.Serving())
	}
	return lead
}

// newTrioWithDyingLeader makes a trio, a backup of it, a ban that the backup
// has not, and a leader that dies in its restore.
func newTrioWithDyingLeader(t *testing.T) (c *trio, path string, lead int) {
	t.Helper()
	c = newTrio(t, 3)
	path = c.save(0)
	c.ban(0, "after the backup")
	return c, path, c.dyingLeader(path)
}

// TestLeaderDiesInARestore: it replaced its own state and nobody else's. The
// others go on without; when it comes back it serves nothing of what it holds,
// gives its vote back and starts afresh. The next restore is another epoch.
func TestLeaderDiesInARestore(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, path, lead := newTrioWithDyingLeader(t)
	_ = c.nodes[lead].shutdown()
	c.nodes[lead] = nil
	c.eventually("the others go on", func() bool { return c.leader() >= 0 })
	c.ban(c.anyUp(), "without it")
	c.start(lead)
	c.givesUp(lead)
	c.nodes[lead] = nil
	c.start(lead)
	c.wentOnWithout(3, "after the backup", "without it")
	if _, done := c.restore(path, true); done.Epoch != 3 {
		t.Errorf("epoch %d: the one that was begun must not come again", done.Epoch)
	}
	c.inEpoch(3)
}

// TestLeaderIsCutOffInARestore: as above, but its process goes on. raft itself
// is stuck on such a follower; it must get away all the same.
func TestLeaderIsCutOffInARestore(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, _, lead := newTrioWithDyingLeader(t)
	c.eventually("another leads", func() bool { l := c.leader(); return l >= 0 && l != lead })
	c.ban((lead+1)%3, "without it")
	c.nodes[lead].dialer.shut.Store(false)
	c.givesUp(lead)
	c.nodes[lead] = nil
	c.start(lead)
	c.wentOnWithout(3, "after the backup", "without it")
}

// givesUp waits until a node with a restore that did not take effect stops for
// a fresh start; meanwhile it must serve nothing. One that only reads its log anew
// is started again, as a server does with itself.
func (c *trio) givesUp(i int) {
	c.t.Helper()
	for {
		c.ends(c.nodes[i])
		if err := c.nodes[i].Err(); !errors.As(err, new(again)) {
			return
		}
		c.nodes[i] = nil
		c.start(i)
	}
}

// ends waits until a node that holds such a restore ends itself.
func (c *trio) ends(n *Node) {
	c.t.Helper()
	var served atomic.Bool
	watch, stop := context.WithCancel(c.t.Context())
	defer stop()
	go func() {
		for watch.Err() == nil {
			if n.Serving() == nil && n.Status().Epoch == 2 {
				served.Store(true)
			}
			pause(watch, 5*time.Millisecond)
		}
	}()
	c.awaitEnd("it gives up what it holds", n)
	if served.Load() {
		c.t.Error("it served a state that the cluster did not take")
	}
	if err := n.Err(); !errors.Is(err, ErrResync) {
		c.t.Fatalf("it stopped for another reason: %v", err)
	}
}

// wentOnWithout: all vote in the first epoch, and nothing acknowledged is lost.
func (c *trio) wentOnWithout(votes int, banned ...string) {
	c.t.Helper()
	c.inEpoch(1)
	c.eventually("all vote again", func() bool { return len(voters(c.nodes[0].servers())) == votes })
	for i := range c.nodes {
		for _, id := range banned {
			if _, err := c.client(i, c.admin).BanOn(c.t.Context(), id, client.Strong()); err != nil {
				c.t.Errorf("node %d: %s: %v", i, id, err)
			}
		}
	}
	c.digestsAgree()
}

// TestLeaderDiesInARestoreAndWinsAgain: its log is the newest, so it may lead
// again, and then the others take what it has. Either all of it or nothing.
func TestLeaderDiesInARestoreAndWinsAgain(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	path := c.save(0)
	lead := c.dyingLeader(path)
	// All stop before anybody could go on; the one with the restore begins, and
	// its log is the newest: it leads, and the others take what it has.
	c.stopAll()
	c.nodes[lead] = nil
	c.start(lead)
	other := (lead + 1) % 3
	c.start(other)
	c.nodes[(lead+2)%3] = nil
	serving := -1
	c.eventually("two of three serve", func() bool { c.startEnded(); serving = c.leader(); return serving >= 0 })
	epoch := c.nodes[serving].Status().Epoch // 1: the other one led and went on, then the restore did not happen
	c.start((lead + 2) % 3)
	c.inEpoch(epoch)
	c.ban(0, "goes on")
	c.digestsAgree()
}

func orderOf(p client.RestorePlan, tokenID string) api.RestoreOrder {
	return api.RestoreOrder{RestoreOrder: client.RestoreOrder{Confirm: p.Confirm, LoseAcknowledged: true}, Actor: fsm.Actor{TokenID: tokenID}}
}

// TestHolderOfARestoreAndOneOther: with the third down their two votes are the
// majority, so the holder cannot give its up. It takes the restore back instead,
// and the two go on.
func TestHolderOfARestoreAndOneOther(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := newTrio(t, 3)
	path := c.save(0)
	c.ban(0, "after the backup")
	all := append([]*Node{}, c.nodes...)
	for _, n := range all {
		n.members.Lock() // stands for a leader that cannot take the holder's vote yet
	}
	c.eventually("a leader", func() bool { return c.leader() >= 0 })
	c.nodes[c.leader()].members.Unlock()
	holder := c.dyingLeader(path)
	c.nodes[holder] = nil
	c.eventually("the others go on", func() bool { return c.leader() >= 0 })
	b := c.leader()
	c.ban(b, "without it")
	away := 3 - b - holder
	_ = all[away].shutdown()
	c.nodes[away] = nil
	all[holder].dialer.shut.Store(false)
	c.nodes[holder] = all[holder]
	c.givesUp(holder)
	c.nodes[holder] = nil
	c.start(holder)
	c.eventually("two of three serve", func() bool { return c.leader() >= 0 })
	c.ban(holder, "of the two")
	if n := len(voters(c.nodes[holder].servers())); n != 3 {
		t.Errorf("%d voters: the holder needed to lose nothing", n)
	}
	all[b].members.Unlock()
	c.start(away)
	c.wentOnWithout(3, "after the backup", "without it", "of the two")
}

// TestHolderThatCannotUndo: without the history of before it takes the long way,
// gives its vote up and fetches everything.
func TestHolderThatCannotUndo(t *testing.T) {
	heavy(t)
	t.Parallel()
	c, _, holder := newTrioWithDyingLeader(t)
	kept, err := filepath.Glob(filepath.Join(c.cfgs[holder].DataDir, "history-epoch-*.db"))
	if err != nil || len(kept) != 1 || os.Remove(kept[0]) != nil {
		t.Fatal(kept, err)
	}
	c.eventually("another leads", func() bool { l := c.leader(); return l >= 0 && l != holder })
	c.ban((holder+1)%3, "without it")
	c.nodes[holder].dialer.shut.Store(false)
	c.givesUp(holder)
	if err := c.nodes[holder].Err(); err != ErrResync { //nolint:errorlint // itself, not an undoing
		t.Errorf("%v", err)
	}
	c.nodes[holder] = nil
	c.start(holder)
	c.wentOnWithout(3, "after the backup", "without it")
}
