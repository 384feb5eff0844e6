package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
)

// landed is the commit of the version before this one; its binaries know feature
// level landedLevel, one below what this test has kept back until all are upgraded.
const (
	landed      = "e8d34b7d530fdf2018f98240caece8dd53176f97"
	landedLevel = 6
)

// upgradeAsked switches the tests of mixed versions on, which need the history of
// this repository and a minute: `make upgrade-test`, which CI runs.
const upgradeAsked = "EDGECODER_UPGRADE"

// landedBinary builds the server of the landed version from the history of this repository.
func landedBinary(t *testing.T) string {
	t.Helper()
	if os.Getenv(upgradeAsked) == "" {
		t.Skipf("builds the landed version and takes a minute: for whoever sets %s, as make upgrade-test does, which CI runs", upgradeAsked)
	}
	if err := exec.Command("git", "cat-file", "-e", landed+"^{commit}").Run(); err != nil {
		t.Skipf("the landed version, commit %.12s, is not in this checkout: not for shallow clones and archives", landed)
	}
	dir := t.TempDir()
	source := exec.Command("git", "-C", "..", "archive", "--format=tar", landed)
	unpack := exec.Command("tar", "-xf", "-", "-C", dir)
	var wrong bytes.Buffer
	source.Stderr, unpack.Stderr = &wrong, &wrong
	pipe, err := source.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	unpack.Stdin = pipe
	if err := errors.Join(unpack.Start(), source.Run(), unpack.Wait()); err != nil {
		t.Fatalf("the landed version cannot be unpacked: %v\n%s", err, wrong.String())
	}
	out := filepath.Join(dir, "edgecoder-landed")
	build := exec.Command("go", "build", "-o", out, "./cmd/edgecoder")
	build.Dir = dir
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the landed version cannot be built: %v\n%s", err, text)
	}
	return out
}

// versions is a cluster whose servers run one of two binaries.
type versions struct {
	*mesh
	slot string // what servers are started from
	old  string
	runs map[string]string // binary by node
}

func upVersions(t *testing.T, old string) *versions {
	t.Helper()
	v := &versions{slot: filepath.Join(t.TempDir(), "edgecoder"), old: old, runs: map[string]string{}}
	v.take(t, old)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := cluster.Up(ctx, cluster.Options{Dir: filepath.Join(t.TempDir(), "mesh"), Nodes: 3, Binary: v.slot})
	if err != nil {
		t.Fatal(err)
	}
	v.mesh = meshOf(t, c)
	for _, name := range v.names() {
		v.runs[name] = old
	}
	return v
}

// take has servers that start from now on run a binary. Those that run keep the file they have.
func (v *versions) take(t *testing.T, binary string) {
	t.Helper()
	next := v.slot + ".next"
	in, err := os.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Close(), os.Rename(next, v.slot)); err != nil {
		t.Fatal(err)
	}
}

// run restarts a node with a binary, gracefully, and waits until all agree again.
func (v *versions) run(name, binary string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Minute)
	defer cancel()
	if err := v.cluster.Stop(ctx, name, false); err != nil {
		v.t.Fatal(err)
	}
	v.take(v.t.(*testing.T), binary)
	if err := v.cluster.Start(ctx, name); err != nil {
		v.t.Fatalf("%s with %s: %v", name, filepath.Base(binary), err)
	}
	v.runs[name] = binary
	if err := v.cluster.WaitReady(ctx); err != nil {
		v.t.Fatal(err)
	}
	v.agree()
}

// lead has leadership move to a node.
func (v *versions) lead(name string) {
	v.t.Helper()
	v.eventually(name+" leads", func() bool {
		if v.leader() == name {
			return true
		}
		_, _ = v.any(v.admin).TransferLeader(v.t.Context(), name) // asked again until it holds
		return false
	})
}

// level returns the feature level as all nodes have it, 0 while they differ.
func (v *versions) level() (level uint32) {
	for _, name := range v.names() {
		st, err := v.client(v.admin, 1, name).Status(v.t.Context())
		if err != nil || level != 0 && st.FeatureLevel != level {
			return 0
		}
		level = st.FeatureLevel
	}
	return level
}

// refusesNew wants what a later level brought kept out of the log, at every node of
// either version, whoever leads: the landed one would stop at it.
func (v *versions) refusesNew() {
	v.t.Helper()
	for name, runs := range v.runs {
		if runs == v.old {
			continue
		}
		if err := v.useNew(name); !isLevel(err) {
			v.t.Errorf("%s, led by %s: a schedule of keys, which level %d does not know: %v", name, v.leader(), landedLevel, err)
		}
		if _, err := v.client(v.admin, 20, name).RotateKey(v.t.Context(), "gossip", client.RotateRequest{}); !isLevel(err) {
			v.t.Errorf("%s, led by %s: a rotation, which level %d does not know: %v", name, v.leader(), landedLevel, err)
		}
	}
}

func isLevel(err error) bool {
	e := (*client.Error)(nil)
	return errors.As(err, &e) && e.Code == client.CodeConflict && e.Reason == "feature_level"
}

// useNew sets the schedule of agents' keys once more, which only later levels know.
func (v *versions) useNew(name string) error {
	v.t.Helper()
	cl := v.client(v.admin, 20, name)
	now, err := cl.KeySchedule(v.t.Context(), "agent", client.Strong())
	if err != nil {
		return err
	}
	overlap := (48 * time.Hour).Milliseconds() // the default
	_, err = cl.SetKeySchedule(v.t.Context(), "agent", now.Version, client.KeyScheduleUpdate{OverlapMs: &overlap})
	return err
}

// underLoad runs steps while honest agents act, and checks afterwards that all
// nodes have what was acknowledged.
func (v *versions) underLoad(steps func()) {
	v.t.Helper()
	agents := []agent{v.agent("agent-0"), v.agent("agent-1")}
	stop := make(chan struct{})
	l, all := v.traffic(agents, stop)
	steps()
	close(stop)
	all.Wait()
	v.t.Logf("%d admissions and %d bans acknowledged, longest gap %s", len(l.admitted), len(l.banned), l.gap)
	v.check(l)
}

// TestUpgradeServerByServer: a cluster of the landed version becomes one of this
// version under load, in both orders, with each version in the lead in between.
// All agree at every mark, what is new is kept back until the last server is
// upgraded, and the level rises by itself then.
func TestUpgradeServerByServer(t *testing.T) {
	old := landedBinary(t)
	for _, leaderFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("leader first %t", leaderFirst), func(t *testing.T) {
			v := upVersions(t, old)
			v.underLoad(func() {
				first := v.leader()
				order := slices.DeleteFunc(v.names(), func(name string) bool { return name == first })
				if leaderFirst {
					order = slices.Insert(order, 0, first)
				} else {
					order = append(order, first)
				}
				for i, name := range order[:2] {
					v.run(name, binary)
					for _, lead := range []string{name, order[2]} { // this version leads, then the landed one
						v.lead(lead)
						v.agree()
						v.refusesNew()
					}
					if level := v.level(); level != landedLevel {
						t.Fatalf("level %d with %d of 3 servers upgraded", level, i+1)
					}
				}
				v.run(order[0], old) // taken back, and forth again
				v.run(order[0], binary)
				v.run(order[2], binary)
				v.eventually("the level rises by itself", func() bool { return v.level() > landedLevel })
				v.agree()
			})
			for i, name := range v.names() {
				if err := v.useNew(name); err != nil {
					t.Errorf("%s: what is new: %v", name, err)
				}
				d, err := v.client(v.admin, 20, name).KeySchedule(t.Context(), "agent", client.Strong())
				if err != nil || d.Version != uint64(i+1) {
					t.Errorf("%s: the schedule that is new: %+v, %v", name, d, err)
				}
			}
			v.agree()
			v.refusesOldServer()
		})
	}
}

// refusesOldServer: the landed version refuses what it cannot read and leaves the
// data as it is: this version runs on with it.
func (v *versions) refusesOldServer() {
	v.t.Helper()
	name := v.names()[0]
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Minute)
	defer cancel()
	if err := v.cluster.Stop(ctx, name, false); err != nil {
		v.t.Fatal(err)
	}
	v.take(v.t.(*testing.T), v.old)
	_ = v.cluster.Start(ctx, name) // it does not start
	n, err := v.cluster.Node(name)
	if err != nil {
		v.t.Fatal(err)
	}
	v.eventually("the landed version ends", func() bool { return !n.Running() && !runs(v.cluster, name) })
	if log := cluster.Tail(n.Log, 200); !strings.Contains(log, "upgrade this one") {
		v.t.Errorf("it does not say why:\n%s", log)
	}
	v.run(name, binary)
}

func runs(c *cluster.Cluster, name string) bool {
	n, err := c.Node(name)
	return err == nil && n.Running()
}
