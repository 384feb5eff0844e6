package cluster

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// TestKillWaitsForNobody holds that SIGKILL is sent while somebody else has the
// cluster's lock, and that a later stop records it.
func TestKillWaitsForNobody(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 3})
	nodes := c.Record().Nodes
	l, err := acquire(t.Context(), dir, c.note)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill("node1", "node2"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, n := range nodes[:2] {
		if err := waitGone(ctx, n.PID, n.DataDir); err != nil {
			t.Errorf("%s lives while the lock is held: %v", n.Name, err)
		}
	}
	l.release()
	if err := c.Kill("node1", "node3"); err == nil {
		t.Error("a server that does not run was killed")
	}
	if err := waitGone(ctx, nodes[2].PID, nodes[2].DataDir); err != nil {
		t.Errorf("node3 was spared because node1 was dead: %v", err)
	}
	if err := c.Stop(t.Context(), "node1", true); err != nil {
		t.Fatal(err)
	}
	if got := readJSON(t, filepath.Join(dir, readyName)).Nodes[0]; got.PID != 0 {
		t.Errorf("recorded as pid %d", got.PID)
	}
}
