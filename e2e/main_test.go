// Package e2e tests a real three-process cluster through its public API, as a
// user would run it: servers are killed, paused and restarted.
package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/cluster"
	"github.com/edgecoder/edgecoder/crypto"
)

var binary string

// floodEnv tells a process of this test that it is the flood of TestOverload.
const floodEnv = "EDGECODER_FLOOD"

func TestMain(m *testing.M) {
	if os.Getenv(floodEnv) != "" {
		os.Exit(m.Run()) // of TestFlood alone, which needs no server
	}
	dir, err := os.MkdirTemp("", "edgecoder-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "edgecoder")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/edgecoder").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the server: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// mesh is a running three-node cluster and the tokens of a test.
type mesh struct {
	t        testing.TB
	cluster  *cluster.Cluster
	admin    string
	verifier string
}

func up(t testing.TB) *mesh { return upAs(t, cluster.Options{}) }

// upAs brings a cluster up with options of its own.
func upAs(t testing.TB, o cluster.Options) *mesh {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o.Dir, o.Nodes, o.Binary = filepath.Join(t.TempDir(), "mesh"), 3, binary
	c, err := cluster.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return meshOf(t, c)
}

// meshOf takes a running cluster down with the test, and makes the tokens of one.
func meshOf(t testing.TB, c *cluster.Cluster) *mesh {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Down(ctx); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	m := &mesh{t: t, cluster: c}
	text, err := os.ReadFile(c.Record().AdminTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	m.admin = strings.TrimSpace(string(text))
	m.verifier = m.token("verifier")
	unlimited := client.RateLimit{Requests: 1_000_000, WindowMs: 60_000}
	p, err := m.any(m.admin).Policy(ctx)
	if err == nil {
		_, err = m.any(m.admin).SetPolicy(ctx, p.Version, client.PolicyUpdate{RateLimit: &unlimited})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mesh) names() []string {
	var out []string
	for _, n := range m.cluster.Record().Nodes {
		out = append(out, n.Name)
	}
	return out
}

// client talks to the named nodes only, one attempt a call.
func (m *mesh) client(token string, attempts int, names ...string) *client.Client {
	m.t.Helper()
	cfg := client.Config{CAFile: m.cluster.Record().CAFile, Token: token, Attempts: attempts}
	for _, n := range m.cluster.Record().Nodes {
		for _, want := range names {
			if n.Name == want {
				cfg.Addrs = append(cfg.Addrs, n.API)
			}
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *mesh) any(token string) *client.Client { return m.client(token, 20, m.names()...) }

func (m *mesh) token(role string) string {
	m.t.Helper()
	got, err := m.any(m.admin).CreateToken(m.t.Context(), client.TokenRequest{Role: role})
	if err != nil {
		m.t.Fatalf("token %s: %v", role, err)
	}
	return got.Token
}

type agent struct {
	id  string
	key crypto.PrivateKey
}

func (m *mesh) agent(id string) agent {
	m.t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	token := m.token("agent")
	proof := ed25519.Sign(key, crypto.EnrollProofText(m.cluster.Record().ClusterID, id, token))
	ctx := m.t.Context()
	if _, err := m.any("").Enroll(ctx, client.EnrollRequest{AgentID: id, PublicKey: crypto.PublicOf(key).PEM(), Token: token,
		Proof: base64.StdEncoding.EncodeToString(proof)}); err != nil {
		m.t.Fatalf("enroll %s: %v", id, err)
	}
	if _, err := m.any(m.admin).ApproveAgent(ctx, id); err != nil {
		m.t.Fatalf("approve %s: %v", id, err)
	}
	return agent{id, key}
}

func (a agent) request(t testing.TB, nonce string) client.AdmissionRequest {
	t.Helper()
	s, err := crypto.SignRequest(a.key, a.id, "POST", "/pull", []byte("{}"), time.Now().UnixMilli(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	r := client.AdmissionRequest{Method: "POST", Path: "/pull", Headers: map[string]string{}, ClaimID: client.NewClaimID()}
	for _, h := range s.Headers() {
		r.Headers[h[0]] = h[1]
	}
	return r
}

// leader returns the name of the node that leads, as any node tells.
func (m *mesh) leader() string {
	m.t.Helper()
	var name string
	m.eventually("a leader", func() bool {
		st, err := m.any(m.admin).Status(m.t.Context())
		if err == nil && st.Leader != nil {
			name = st.Leader.Name
		}
		return name != ""
	})
	return name
}

func (m *mesh) eventually(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond) // polling with a generous deadline, not a wait for a moment
	}
	m.t.Fatalf("not in a minute: %s", what)
}

// agree waits until all nodes share a mark, and fails if digests differ.
func (m *mesh) agree() {
	m.t.Helper()
	m.eventually("a mark that all nodes share", func() bool {
		marks := map[uint64]map[string]int{}
		var applied uint64
		for _, name := range m.names() {
			st, err := m.client(m.admin, 1, name).Status(m.t.Context())
			if err != nil {
				return false
			}
			applied = max(applied, st.AppliedIndex)
			for _, d := range st.Digests {
				if marks[d.Index] == nil {
					marks[d.Index] = map[string]int{}
				}
				marks[d.Index][d.Digest]++
			}
		}
		shared := false
		for index, digests := range marks {
			if len(digests) > 1 {
				m.t.Fatalf("mark %d: nodes differ: %v", index, digests)
			}
			for _, n := range digests {
				shared = shared || n == len(m.names())
			}
		}
		return shared
	})
}
