package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
	"github.com/edgecoder/edgecoder/crypto"
)

// edgeProcess is an edge beside a mesh.
type edgeProcess struct {
	*client.EdgeClient
	t      *testing.T
	args   []string
	socket string
	binary string // what it is started from
	cmd    *exec.Cmd
	log    *safeBuffer
}

// safeBuffer is a buffer that a process writes while a test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// edge prepares an edge with the shortest lease there is, which joins by one of the named nodes, or by any.
func (m *mesh) edge(t *testing.T, name string, by ...string) *edgeProcess {
	t.Helper()
	dir := t.TempDir()
	passphrase := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	var seeds []string
	for _, n := range m.cluster.Record().Nodes {
		if len(by) == 0 || slices.Contains(by, n.Name) {
			seeds = append(seeds, n.Gossip)
		}
	}
	e := &edgeProcess{t: t, socket: filepath.Join(dir, "edge.sock"), binary: binary, log: &safeBuffer{}}
	e.args = []string{"edge", "--data-dir", filepath.Join(dir, name), "--name", name, "--listen", "unix:" + e.socket, "--gossip-addr", freePorts(t).Gossip(0),
		"--join", strings.Join(seeds, ","), "--passphrase-file", passphrase, "--lease", "10s"}
	c, err := client.NewEdge(client.EdgeConfig{Addr: "unix:" + e.socket})
	if err != nil {
		t.Fatal(err)
	}
	e.EdgeClient = c
	t.Cleanup(e.end)
	return e
}

// freePorts returns ports of one node that no other test gets.
func freePorts(t *testing.T) *cluster.Ports {
	t.Helper()
	p, err := cluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p
}

func (e *edgeProcess) start(env ...string) {
	e.t.Helper()
	e.cmd = exec.Command(e.binary, e.args...)
	e.cmd.Env = append(os.Environ(), env...)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
}

// kill ends it without a word.
func (e *edgeProcess) kill() {
	_ = e.cmd.Process.Kill() // it may be gone already
	_ = e.cmd.Wait()
	e.cmd = nil
}

func (e *edgeProcess) end() {
	e.Close()
	if e.cmd == nil {
		return
	}
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	if err := e.cmd.Wait(); err != nil {
		e.t.Errorf("the edge ended with %v", err)
	}
	if e.t.Failed() {
		e.t.Logf("the edge said:\n%s", e.log)
	}
}

// code is what the edge says of an agent, "" while it does not answer.
func (e *edgeProcess) code(agent string) string {
	ctx, cancel := context.WithTimeout(e.t.Context(), 5*time.Second)
	defer cancel()
	a, err := e.Allowed(ctx, agent)
	if err != nil {
		return ""
	}
	return a.Code
}

// A real edge beside a real cluster: a ban at one coordinator is enforced; a killed edge answers from its disk; without the cluster a strict one denies once its
// lease is over.
func TestP2EdgeProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("real processes: make test runs it")
	}
	m := up(t)
	e := m.edge(t, "edge1")
	e.start("EDGECODER_JOIN_TOKEN=" + m.token("edge"))
	m.eventually("the edge lets agents through", func() bool { return e.code("good") == client.AllowedOK })
	ban := client.BanRequest{AgentID: "bad", ReasonCode: crypto.ReasonManualReview, Reason: "a test", EvidenceSHA256: crypto.Sum(nil).String(), ReporterID: "tester"}
	if _, err := m.client(m.admin, 20, m.names()[1]).Ban(t.Context(), ban); err != nil {
		t.Fatal(err)
	}
	acknowledged := time.Now()
	m.eventually("the ban is enforced", func() bool { return e.code("bad") == client.AllowedBlacklisted })
	t.Logf("enforced %s after the ban was acknowledged", time.Since(acknowledged).Round(time.Millisecond))
	if got, err := e.Admit(t.Context(), m.agent("agent-1").request(t, "nonce-1")); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Errorf("admission: %+v, %v", got, err)
	}
	e.kill()
	e.start()
	m.eventually("it answers again", func() bool { return e.code("bad") == client.AllowedBlacklisted })
	m.eventually("it is fresh again", func() bool { return e.code("good") == client.AllowedOK })
	for _, name := range m.names() {
		if err := m.cluster.Stop(t.Context(), name, true); err != nil {
			t.Fatal(err)
		}
	}
	stopped := time.Now()
	m.eventually("strict denies", func() bool { return e.code("good") == client.AllowedStale })
	if took := time.Since(stopped); took > 15*time.Second {
		t.Errorf("it took %s, the lease is 10s", took)
	}
	e.kill()
	e.start()
	m.eventually("it answers without anybody", func() bool {
		return e.code("bad") == client.AllowedBlacklisted && e.code("good") == client.AllowedStale
	})
	if log := e.log.String(); strings.Contains(log, "edgc_") || strings.Contains(log, "correct horse") {
		t.Error("a secret stands in the log")
	}
}
