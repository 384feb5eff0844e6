package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
)

// trio is a cluster of real nodes in this process, on loopback.
type trio struct {
	t     *testing.T
	admin string
	cfgs  []Config
	nodes []*Node
	// adjust changes the configuration of node i before it starts.
	adjust adjustment
}

type adjustment func(i int, cfg *Config)

func (f adjustment) apply(i int, cfg *Config) {
	if f != nil {
		f(i, cfg)
	}
}

func testLog(t *testing.T) *slog.Logger {
	if os.Getenv("EDGECODER_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// nextPort walks below the ephemeral range, so that no outgoing connection
// takes a port between its choice and its use.
var nextPort atomic.Int64

// ownHost is a loopback address of this process alone where there are many: on
// Linux all of 127.0.0.0/8 is the machine itself, and other tests run beside us.
var ownHost = func() string {
	if runtime.GOOS != "linux" {
		nextPort.Store(int64(os.Getpid() % 20_000))
		return "127.0.0.1"
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff)
}()

// freeAddr returns a loopback address that nobody listens on, TCP and UDP.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 500 {
		addr := fmt.Sprintf("%s:%d", ownHost, 10_000+nextPort.Add(1)%20_000)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err == nil {
			_ = p.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func testConfig(t *testing.T, name string) Config {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Name = filepath.Join(t.TempDir(), name), name
	cfg.APIAddr, cfg.GossipAddr, cfg.RaftAddr = freeAddr(t), freeAddr(t), freeAddr(t)
	cfg.Timing.Stall = time.Minute // a busy machine must not end the test process
	cfg.DiskReserve = 1 << 20
	cfg.Passphrase, cfg.Log = []byte("correct horse battery"), testLog(t)
	cfg.iterations = keyfile.MinIterations // a rotation writes the key files a dozen times
	return cfg
}

// heavy skips a test of whole clusters under -short: the race detector makes
// some minutes of them, which `make race` takes and CI has not. `make test`
// runs them all.
func heavy(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("whole clusters take minutes under the race detector: run without -short, as make test and CI do; make race has both")
	}
}

func newTrio(t *testing.T, size int) *trio {
	t.Helper()
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	c := &trio{t: t}
	t.Cleanup(c.stopAll)
	c.grow(size)
	return c
}

func (c *trio) grow(size int) {
	t := c.t
	t.Helper()
	first := testConfig(t, "n1")
	first.Bootstrap = true
	c.adjust.apply(0, &first)
	c.cfgs = append(c.cfgs, first)
	c.start(0)
	c.admin = c.nodes[0].FirstAdminToken()
	if c.admin == "" {
		t.Fatal("bootstrap gave no admin token")
	}
	for i := 1; i < size; i++ {
		cfg := testConfig(t, fmt.Sprintf("n%d", i+1))
		cfg.Join, cfg.JoinToken = []string{first.GossipAddr}, c.token("coordinator", 1)
		c.adjust.apply(i, &cfg)
		c.cfgs = append(c.cfgs, cfg)
		c.start(i)
	}
	c.eventually("all nodes vote", func() bool { return c.allSeeVoters(size) && c.allReady() })
}

// allSeeVoters tells whether all nodes have a configuration with so many voters:
// the leader has it before it is committed, and could take it along.
func (c *trio) allSeeVoters(size int) bool {
	return !slices.ContainsFunc(c.nodes, func(n *Node) bool { return n != nil && len(voters(n.servers())) != size })
}

func (c *trio) start(i int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	n, err := Start(ctx, c.cfgs[i])
	if err != nil {
		c.t.Fatalf("start %s: %v", c.cfgs[i].Name, err)
	}
	for len(c.nodes) <= i {
		c.nodes = append(c.nodes, nil)
	}
	c.nodes[i] = n
}

// stopAll ends every node, all at once: a farewell takes a second each.
func (c *trio) stopAll() {
	var all sync.WaitGroup
	for _, n := range c.nodes {
		if n != nil {
			all.Go(func() { _ = n.shutdown() })
		}
	}
	all.Wait()
}

func (c *trio) allReady() bool {
	for _, n := range c.nodes {
		if n != nil && n.Ready() != nil {
			return false
		}
	}
	return true
}

func (c *trio) leader() int {
	for i, n := range c.nodes {
		if n != nil && n.lead.Load() != nil && n.Ready() == nil {
			return i
		}
	}
	return -1
}

func (c *trio) eventually(what string, ok func() bool) {
	c.t.Helper()
	c.within(time.Minute, what, ok)
}

func (c *trio) within(limit time.Duration, what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if ok() {
			return
		}
		pause(c.t.Context(), 20*time.Millisecond)
	}
	for _, n := range c.nodes {
		if n != nil {
			c.t.Logf("%+v ready: %v", n.Status(), n.Ready())
		}
	}
	c.t.Fatalf("not in %s: %s", limit, what)
}

// awaitEnd waits until a node ends by itself.
func (c *trio) awaitEnd(what string, n *Node) {
	c.t.Helper()
	c.eventually(what, func() bool {
		select {
		case <-n.Done():
			return true
		default:
			return false
		}
	})
}

// snapshot has a node take a snapshot, as soon as raft can: not before it has applied
// the newest configuration.
func (c *trio) snapshot(n *Node) {
	c.t.Helper()
	var err error
	c.eventually("a snapshot", func() bool {
		now := n.raft.Snapshot().Error()
		if now != nil && (err == nil || now.Error() != err.Error()) {
			c.t.Log("snapshot: ", now)
		}
		err = now
		return err == nil
	})
}

// client returns a client of one node with a token.
func (c *trio) client(i int, token string) *client.Client {
	c.t.Helper()
	cl, err := client.New(client.Config{Addrs: []string{"https://" + c.cfgs[i].APIAddr}, CAFile: filepath.Join(c.cfgs[i].DataDir, fileCA), Token: token})
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

func (c *trio) token(role string, uses int64) string {
	c.t.Helper()
	for {
		t, err := c.client(0, c.admin).CreateToken(c.t.Context(), client.TokenRequest{Role: role, Uses: uses})
		if err != nil {
			c.t.Fatalf("token %s: %v", role, err)
		}
		if t.Token != "" { // an answer that had to be repeated has no secret
			return t.Token
		}
	}
}

// agent is an enrolled agent that signs.
type agent struct {
	id  string
	key crypto.PrivateKey
}

func (c *trio) enroll(i int, id string) agent {
	c.t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	a := agent{id, key}
	if _, err := c.client(i, "").Enroll(c.t.Context(), c.enrollRequest(a, c.token("agent", 1))); err != nil {
		c.t.Fatalf("enroll %s: %v", id, err)
	}
	if _, err := c.client(i, c.admin).ApproveAgent(c.t.Context(), id); err != nil {
		c.t.Fatalf("approve %s: %v", id, err)
	}
	return a
}

func (c *trio) enrollRequest(a agent, token string) client.EnrollRequest {
	return client.EnrollRequest{AgentID: a.id, PublicKey: crypto.PublicOf(a.key).PEM(), Token: token,
		Proof: b64(sign(a.key, crypto.EnrollProofText(c.nodes[0].id.ClusterID, a.id, token)))}
}

// request signs a request as of now.
func (a agent) request(t *testing.T, nonce string) client.AdmissionRequest {
	t.Helper()
	return a.requestAt(t, nonce, time.Now().UnixMilli())
}

func (a agent) requestAt(t *testing.T, nonce string, atMs int64) client.AdmissionRequest {
	t.Helper()
	s, err := crypto.SignRequest(a.key, a.id, "POST", "/pull", []byte("{}"), atMs, nonce)
	if err != nil {
		t.Fatal(err)
	}
	r := client.AdmissionRequest{Method: "POST", Path: "/pull", Headers: map[string]string{}}
	for _, h := range s.Headers() {
		r.Headers[h[0]] = h[1]
	}
	return r
}

func TestTrioAdmitsOnceEverywhere(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	a := c.enroll(0, "agent-1")
	verifier := c.token("verifier", -1)
	r := a.request(t, "nonce-1")
	got, err := c.client(1, verifier).Admit(t.Context(), r)
	if err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("first: %+v, %v", got, err)
	}
	for i := range c.nodes {
		got, err := c.client(i, verifier).Admit(t.Context(), r)
		if err != nil || got.Code != client.VerdictReplay {
			t.Fatalf("replay at node %d: %+v, %v", i, got, err)
		}
	}
}

func sign(key crypto.PrivateKey, text []byte) []byte { return ed25519.Sign(key, text) }

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
