package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// secondName is another name of the test binary, which is its own server.
func secondName(t *testing.T) string {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	other := filepath.Join(dir, "newer")
	if err == nil {
		var self string
		self, err = os.Executable()
		if err == nil && os.Link(self, other) != nil { // another file system: a copy is as good
			var text []byte
			text, err = os.ReadFile(self)
			err = errors.Join(err, os.WriteFile(other, text, 0o700))
		}
	}
	if err == nil {
		err = os.Chmod(other, 0o700)
	}
	if err != nil {
		t.Fatalf("no second name for the test binary: %v", err)
	}
	return other
}

// TestRestartTakesOneAtATime: followers first, the leader last, each anew.
func TestRestartTakesOneAtATime(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 3})
	before := readJSON(t, filepath.Join(dir, "cluster.json"))
	var stopped []string
	c.Progress(func(format string, args ...any) {
		if strings.HasPrefix(format, "stopping") {
			stopped = append(stopped, args[0].(string))
		}
		running := 0
		for _, n := range c.Record().Nodes {
			if n.Running() {
				running++
			}
		}
		if running < 2 {
			t.Errorf("%d servers run at %q %v", running, format, args)
		}
	})
	other := secondName(t)
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 7\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "exit status 7") || stopped != nil {
		t.Errorf("a binary that does not run: %v, stopped %v", err, stopped)
	}
	if err := c.Restart(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	after := readJSON(t, filepath.Join(dir, "cluster.json"))
	if !slices.Equal(stopped, []string{"node2", "node3", "node1"}) || after.Binary != other {
		t.Errorf("stopped in the order %v, the binary is %s", stopped, after.Binary)
	}
	for i, n := range after.Nodes {
		if n.PID == before.Nodes[i].PID || !n.Running() {
			t.Errorf("%s: pid %d, was %d", n.Name, n.PID, before.Nodes[i].PID)
		}
	}
}

func TestRestartBeginsOnlyWithAWholeCluster(t *testing.T) {
	c := up(t, Options{Dir: newDir(t), Nodes: 3})
	if err := c.Stop(t.Context(), "node2", false); err != nil {
		t.Fatal(err)
	}
	pid := c.Record().Nodes[0].PID
	if err := c.Restart(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "node2 does not run: start it first") || c.Record().Nodes[0].PID != pid {
		t.Errorf("restart of a cluster with a server away: %v", err)
	}
}

// TestRestartStopsAtTheFirstThatFails: the others go on.
func TestRestartStopsAtTheFirstThatFails(t *testing.T) {
	c := up(t, Options{Dir: newDir(t), Nodes: 3})
	before := c.Record().Binary
	t.Setenv(fakeFails, "node2")
	if err := c.Restart(t.Context(), secondName(t)); err == nil || c.Record().Binary != before {
		t.Errorf("no server runs the new binary: %v, and the record says %s", err, c.Record().Binary)
	}
	t.Setenv(fakeFails, "")
	if err := c.Start(t.Context(), "node2"); err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeFails, "node3")
	err := c.Restart(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "1 of 3 servers were restarted, [node3 node1] were not") {
		t.Fatalf("restart: %v", err)
	}
	for _, n := range c.Record().Nodes {
		if n.Running() != (n.Name != "node3") {
			t.Errorf("%s runs: %t", n.Name, n.Running())
		}
	}
}
