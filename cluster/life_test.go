package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newDir returns an empty directory as Up would make it, whatever the umask.
func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cluster")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// up brings a fake cluster up and takes it down with the test.
func up(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if left, err := Load(o.Dir); err == nil {
			_ = left.Down(ctx)
		}
	})
	return c
}

func readJSON(t *testing.T, path string) Record {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUpWritesWhatTheContractSays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a cluster's dir")
	c := up(t, Options{Dir: dir, Nodes: 3})
	r := readJSON(t, filepath.Join(dir, "cluster.json"))
	if r.ClusterID != "fake-cluster" || len(r.Nodes) != 3 {
		t.Fatalf("record %+v", r)
	}
	for _, path := range []string{r.CAFile, r.AdminTokenFile, r.MeshTokenFile, r.PassphraseFile} {
		info, err := os.Stat(path)
		if err != nil || !filepath.IsAbs(path) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	for _, n := range r.Nodes {
		if !n.Running() || !filepath.IsAbs(n.DataDir) || !strings.HasPrefix(n.API, "https://127.0.0.1:") || n.Raft == "" || n.Gossip == "" {
			t.Errorf("node %+v", n)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, startingName)); err == nil {
		t.Error("the record lies under both names")
	}
	rows := c.Status(t.Context())
	if rows[0].State != "leader" || rows[1].State != "follower" || rows[2].PID != r.Nodes[2].PID {
		t.Errorf("status %+v", rows)
	}
}

func TestUpRefusesARunningCluster(t *testing.T) {
	dir := newDir(t)
	up(t, Options{Dir: dir, Nodes: 1})
	if _, err := Up(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Fatalf("got %v", err)
	}
	if r := readJSON(t, filepath.Join(dir, "cluster.json")); !r.Nodes[0].Running() {
		t.Fatal("the refusal stopped the server")
	}
}

func TestStopKillStartKeepThePidTrue(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 3})
	path := filepath.Join(dir, "cluster.json")
	for _, kill := range []bool{true, false} {
		before := readJSON(t, path).Nodes[1]
		if err := c.Stop(t.Context(), "node2", kill); err != nil {
			t.Fatal(err)
		}
		if got := readJSON(t, path).Nodes[1]; got.PID != 0 || before.Running() {
			t.Fatalf("after stop (kill %t): %+v", kill, got)
		}
		other, err := Load(dir) // as another command would
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(t.Context(), "node2"); err != nil {
			t.Fatal(err)
		}
		if got := readJSON(t, path).Nodes[1]; got.PID == 0 || got.PID == before.PID || !got.Running() {
			t.Fatalf("after start: %+v", got)
		}
	}
	if err := c.Start(t.Context(), "node2"); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("start of a running node: %v", err)
	}
	if err := c.Stop(t.Context(), "node9", false); err == nil || !strings.Contains(err.Error(), "node1, node2, node3") {
		t.Errorf("stop of nobody: %v", err)
	}
}

func TestStartOfAWipedNodeJoinsAgain(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 3})
	if err := c.Stop(t.Context(), "node1", true); err != nil {
		t.Fatal(err)
	}
	n, _ := c.Node("node1")
	if err := os.RemoveAll(n.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	if log := Tail(n.Log, 1); !strings.Contains(log, "--join=") || strings.Contains(log, "--bootstrap") {
		t.Fatalf("node1 must join, never bootstrap a second cluster:\n%s", log)
	}
}

// TestMembersFirst: a cluster begins with some of its nodes; each other joins at
// its first start, and starts with its data from then on.
func TestMembersFirst(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 3, Members: 1})
	record := filepath.Join(dir, "cluster.json")
	if r := readJSON(t, record); len(r.Nodes) != 3 || !r.Nodes[0].Joined || r.Nodes[1].Joined || r.Nodes[1].PID != 0 {
		t.Fatalf("record %+v", r)
	}
	for _, name := range []string{"node2", "node3"} {
		if err := c.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		n, _ := c.Node(name)
		if log := Tail(n.Log, 1); !n.Joined || !strings.Contains(log, "--join=") {
			t.Errorf("%s did not join (%t):\n%s", name, n.Joined, log)
		}
	}
	if err := c.Stop(t.Context(), "node3", false); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), "node3"); err != nil {
		t.Fatal(err)
	}
	n, _ := c.Node("node3")
	if log := Tail(n.Log, 1); strings.Contains(log, "--join=") || !readJSON(t, record).Nodes[2].Joined {
		t.Errorf("node3 joined twice:\n%s", log)
	}
}

func TestDownThenUpKeepsData(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 2})
	ports := c.Record().Nodes[0].API
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range readJSON(t, filepath.Join(dir, "cluster.json")).Nodes {
		if n.PID != 0 {
			t.Errorf("after down: %+v", n)
		}
	}
	if _, err := Up(t.Context(), Options{Dir: dir, Nodes: 3}); err == nil {
		t.Fatal("two nodes became three")
	}
	again := up(t, Options{Dir: dir})
	if r := again.Record(); len(r.Nodes) != 2 || r.Nodes[0].API != ports || !r.Nodes[1].Running() {
		t.Fatalf("after the second up: %+v", r)
	}
	if err := again.Purge(t.Context()); err == nil {
		t.Fatal("purged a running cluster")
	}
	if err := again.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := again.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "node1")); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestFailedUpNamesTheNodeAndStopsTheOthers(t *testing.T) {
	t.Setenv(fakeFails, "node2")
	dir := newDir(t)
	_, err := Up(t.Context(), Options{Dir: dir, Nodes: 3})
	if err == nil || !strings.Contains(err.Error(), "node2") || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "cluster.json")); err == nil {
		t.Error("cluster.json of a cluster that is not ready")
	}
	for _, n := range readJSON(t, filepath.Join(dir, startingName)).Nodes {
		if n.PID != 0 || n.Running() {
			t.Errorf("still there: %+v", n)
		}
	}
	t.Setenv(fakeFails, "")
	up(t, Options{Dir: dir}) // and the next one goes on from there
}

func TestAFailedStartLeavesNoPid(t *testing.T) {
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 2})
	if err := c.Stop(t.Context(), "node2", true); err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeFails, "node2")
	if err := c.Start(t.Context(), "node2"); !errors.Is(err, ErrNotUp) || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Fatalf("got %v", err)
	}
	if n := readJSON(t, filepath.Join(dir, "cluster.json")).Nodes[1]; n.PID != 0 {
		t.Errorf("the record names a dead process: %+v", n)
	}
}

func TestCancelledUpStopsWhatItStarted(t *testing.T) {
	dir := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Up(ctx, Options{Dir: dir, Nodes: 2, Progress: func(format string, _ ...any) {
		if strings.HasPrefix(format, "waiting") {
			cancel()
		}
	}})
	if err == nil {
		t.Fatal("a cancelled Up reported success")
	}
	for _, n := range readJSON(t, filepath.Join(dir, startingName)).Nodes {
		if n.Running() {
			t.Errorf("still there: %+v", n)
		}
	}
}

func TestAStubbornServerIsKilledOnlyByDown(t *testing.T) {
	t.Setenv(fakeStubborn, "node1")
	dir := newDir(t)
	c := up(t, Options{Dir: dir, Nodes: 1})
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Stop(short, "node1", false); err == nil || !strings.Contains(err.Error(), "--kill") {
		t.Fatalf("a graceful stop: %v", err)
	}
	n, _ := c.Node("node1")
	if !n.Running() {
		t.Fatal("a graceful stop killed")
	}
	short, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Down(short); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("down: %v", err)
	}
	if n.Running() || readJSON(t, filepath.Join(dir, "cluster.json")).Nodes[0].PID != 0 {
		t.Fatal("it survived, or the record says so")
	}
}
