package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/keyfile"
	"github.com/edgecoder/edgecoder/edge"
	"github.com/edgecoder/edgecoder/fsm"
	"github.com/edgecoder/edgecoder/gossip"
)

// testLease is short, and so are the rounds of cosigning beside it.
const testLease = 3 * time.Second

func shortLease(_ int, cfg *Config) { cfg.Timing.Lease = testLease }

func edgeTestConfig(t *testing.T, c *trio, name, token string) EdgeConfig {
	t.Helper()
	cfg := DefaultEdgeConfig()
	cfg.DataDir, cfg.Name = filepath.Join(t.TempDir(), name), name
	cfg.Listen, cfg.GossipAddr = unixPrefix+filepath.Join(t.TempDir(), "edge.sock"), freeAddr(t)
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr, c.cfgs[min(1, len(c.cfgs)-1)].GossipAddr}, token
	cfg.Lease, cfg.anyLease, cfg.iterations = testLease, true, keyfile.MinIterations
	cfg.Passphrase, cfg.Log = []byte("correct horse battery"), testLog(t)
	return cfg
}

func startEdge(t *testing.T, cfg EdgeConfig) *Edge {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e, err := StartEdge(ctx, cfg)
	if err != nil {
		t.Fatalf("start edge %s: %v", cfg.Name, err)
	}
	t.Cleanup(func() { _ = e.Stop(context.Background()) })
	return e
}

func askEdge(t *testing.T, cfg EdgeConfig) *client.EdgeClient {
	t.Helper()
	c, err := client.NewEdge(client.EdgeConfig{Addr: cfg.Listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// allowed asks an edge; an error is the code "error".
func allowed(t *testing.T, c *client.EdgeClient, agent string) client.Allowed {
	t.Helper()
	a, err := c.Allowed(t.Context(), agent)
	if err != nil {
		t.Logf("ask for %s: %v", agent, err)
		a.Code = "error"
	}
	return a
}

func TestP2EdgeOfACluster(t *testing.T) {
	heavy(t)
	t.Parallel()
	c := &trio{t: t, adjust: shortLease}
	t.TempDir() // first, so that it is removed last: after the nodes have stopped
	t.Cleanup(c.stopAll)
	c.grow(3)
	token := c.token("edge", 2)
	strictCfg, lenientCfg := edgeTestConfig(t, c, "e-strict", token), edgeTestConfig(t, c, "e-lenient", token)
	lenientCfg.Mode = client.EdgeBestEffort
	strict, lenient := startEdge(t, strictCfg), startEdge(t, lenientCfg)
	ask, also := askEdge(t, strictCfg), askEdge(t, lenientCfg)
	ready := func() bool { return ask.Ready(t.Context()) == nil && also.Ready(t.Context()) == nil }
	c.eventually("edges are ready", ready)

	edgeEnforces(t, c, ask, also)
	edgeShownAsMember(c, strict, lenient)
	edgeEnforcementIsSeen(t, c, strict, lenient)
	edgeServesDeltas(t, c, ask)
	edgeAdmits(t, c, ask)
	edgeServesEdges(t, c, strict, lenient)
	edgeKeepsSecrets(t, strictCfg, strict, token)
	edgeRestarts(t, c, strict, strictCfg, ask)
	edgeIsRemoved(t, c, lenient, also)
	edgeLeaseEnds(t, c, ask, also)
}

// edgeEnforces: a ban at one coordinator holds at the edges, and its lift too.
func edgeEnforces(t *testing.T, c *trio, ask, also *client.EdgeClient) {
	t.Helper()
	ban := client.BanRequest{AgentID: "bad one/1", ReasonCode: crypto.ReasonManualReview, Reason: "a test", EvidenceSHA256: crypto.Sum(nil).String(), ReporterID: "tester"}
	if _, err := c.client(1, c.admin).Ban(t.Context(), ban); err != nil {
		t.Fatal(err)
	}
	for _, edge := range []*client.EdgeClient{ask, also} {
		c.eventually("the ban is enforced", func() bool { return allowed(t, edge, ban.AgentID).Code == client.AllowedBlacklisted })
	}
	if a := allowed(t, ask, "somebody else"); !a.Allowed || !a.Freshness.Fresh || a.Freshness.Size != 1 {
		t.Errorf("%+v", a)
	}
	if _, err := c.client(2, c.admin).Lift(t.Context(), ban.AgentID, "it was a test"); err != nil {
		t.Fatal(err)
	}
	c.eventually("the lift is known", func() bool { return allowed(t, ask, ban.AgentID).Allowed })
	if _, err := c.client(1, c.admin).Ban(t.Context(), ban); err != nil {
		t.Fatal(err)
	}
	c.eventually("the second ban is enforced", func() bool { return !allowed(t, ask, ban.AgentID).Allowed && !allowed(t, also, ban.AgentID).Allowed })
}

// edgeShownAsMember: every coordinator lists the edges, and how far they are.
func edgeShownAsMember(c *trio, edges ...*Edge) {
	c.t.Helper()
	c.eventually("edges are members everywhere", func() bool {
		seen := 0
		for i := range c.nodes {
			all, err := c.client(i, c.admin).Members(c.t.Context())
			if err != nil {
				return false
			}
			for _, m := range all.Members {
				for _, e := range edges {
					if m.ID == e.id.NodeID && m.Role == string(fsm.RoleEdge) && m.State == gossip.StateAlive && m.ChainSize == 3 {
						seen++
					}
				}
			}
		}
		return seen == len(edges)*len(c.nodes)
	})
}

// edgeEnforcementIsSeen: any coordinator tells who enforces, edges included, and for how long the leader waited for it.
func edgeEnforcementIsSeen(t *testing.T, c *trio, edges ...*Edge) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.nodes[c.leader()].enforcement.delay)
	const delays = "edgecoder_ban_enforced_duration_seconds"
	if n := histogramCount(t, registry, delays); n == 0 {
		t.Error("no delay was measured")
	}
	for i := range c.nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got, err := c.client(i, c.admin).WaitEnforced(ctx, 0, client.EnforcedAll, nil)
		cancel()
		if err != nil || got.Size != 3 || got.Coordinators != 3 || got.Edges != len(edges) || len(got.Members) != 3+len(edges) {
			t.Errorf("node %d: %+v, %v", i, got, err)
		}
		ahead, err := c.client(i, c.admin).Enforcement(t.Context(), 4, client.EnforcedQuorum, 50*time.Millisecond)
		if err != nil || ahead.EnforcedBy.Coordinators+ahead.EnforcedBy.Edges != 0 || ahead.Meets(client.EnforcedQuorum) {
			t.Errorf("node %d, of what is not there yet: %+v, %v", i, ahead, err)
		}
	}
}

// edgeServesDeltas: who begins gets the list by way of the edge, and what changes then from the edge.
func edgeServesDeltas(t *testing.T, c *trio, ask *client.EdgeClient) {
	t.Helper()
	banned := map[string]bool{}
	cursor := ""
	c.eventually("the list came in deltas", func() bool {
		var err error
		cursor, err = ask.SyncBlacklist(t.Context(), cursor, func(d client.BlacklistDelta) error {
			for _, b := range d.New {
				banned[b.AgentID] = true
			}
			return nil
		})
		return err == nil && len(banned) == 1 && banned["bad one/1"]
	})
	if d, err := ask.BlacklistDelta(t.Context(), cursor); err != nil || d.Cursor != cursor || d.Reset || d.More || len(d.New) > 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// edgeAdmits: an admission through the edge is decided by the cluster, once.
func edgeAdmits(t *testing.T, c *trio, ask *client.EdgeClient) {
	t.Helper()
	a := c.enroll(0, "agent-1")
	r := a.request(t, "nonce-1")
	if got, err := ask.Admit(t.Context(), r); err != nil || got.Verdict != client.VerdictAdmitted {
		t.Fatalf("%+v, %v", got, err)
	}
	verifier := c.token("verifier", -1)
	for i := range c.nodes {
		if got, err := c.client(i, verifier).Admit(t.Context(), r); err != nil || got.Code != client.VerdictReplay {
			t.Errorf("node %d: %+v, %v", i, got, err)
		}
	}
	if got, err := ask.AdmitBatch(t.Context(), []client.AdmissionRequest{r, a.request(t, "nonce-2")}); err != nil || got.Results[0].Code != client.VerdictReplay || got.Results[1].Verdict != client.VerdictAdmitted {
		t.Errorf("%+v, %v", got, err)
	}
}

// edgeServesEdges: pages of one edge lead another to the same place, and are shown to members alone.
func edgeServesEdges(t *testing.T, c *trio, from, to *Edge) {
	t.Helper()
	source, err := to.edgeSource(from.id.NodeID)
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("the other edge is known", func() bool { return len(to.otherEdges()) > 0 })
	note, err := source.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o, err := to.sync.Status().Position.Trusted.OpenFinal(note); err != nil || o.Size != 3 {
		t.Errorf("size %d, %v", o.Size, err)
	}
	events, err := source.Events(t.Context(), 1, 10)
	if err != nil || len(events) != 3 {
		t.Errorf("%d events, %v", len(events), err)
	}
	if keys, err := source.Keys(t.Context()); err != nil || len(keys) == 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := source.Cosigners(t.Context(), 1); err != nil {
		t.Error(err)
	}
	// P8: a stranger hears nothing, neither without a certificate nor with one of another cluster.
	other := &identity{ClusterID: from.id.ClusterID}
	if other.CACert, other.CAKey, err = newCA(other.ClusterID); err != nil {
		t.Fatal(err)
	}
	if other.TLSKey, err = newTLSKey(); err != nil {
		t.Fatal(err)
	}
	signer, err := parseSigner(other.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	if other.TLSCert, err = other.shared().active().issueLeaf(other.ClusterID, "stranger", fsm.RoleEdge, signer.Public(), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	forged, err := other.tlsCertificate([][]byte{other.TLSCert})
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]tls.Certificate{"no certificate": nil, "another CA": {*forged}} {
		stranger := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}}
		if resp, err := stranger.Get("https://" + from.cfg.GossipAddr + "/v1/blacklist/checkpoint"); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
}

// edgeKeepsSecrets: no secret of the edge stands on its disk in the clear.
func edgeKeepsSecrets(t *testing.T, cfg EdgeConfig, e *Edge, joinToken string) {
	t.Helper()
	credential, err := crypto.ParseTokenText(e.id.Credential)
	if err != nil {
		t.Fatal(err)
	}
	join, err := crypto.ParseTokenText(joinToken)
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte(credential.Secret), []byte(join.Secret), e.id.Signing, e.id.TLSKey, e.id.PoolKeys[0], cfg.Passphrase}
	files := 0
	err = filepath.WalkDir(cfg.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		for i, s := range secrets {
			if bytes.Contains(data, s) {
				t.Errorf("%s holds secret %d in the clear", d.Name(), i)
			}
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files, %v", files, err)
	}
}

// edgeRestarts: it goes on from what it has, without a token.
func edgeRestarts(t *testing.T, c *trio, e *Edge, cfg EdgeConfig, ask *client.EdgeClient) {
	t.Helper()
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.JoinToken = ""
	again := startEdge(t, cfg)
	if a := allowed(t, ask, "bad one/1"); a.Code != client.AllowedBlacklisted || again.id.NodeID != e.id.NodeID {
		t.Errorf("%+v", a)
	}
	c.eventually("it is fresh again", func() bool { return allowed(t, ask, "somebody else").Allowed })
}

// edgeIsRemoved: with its credential goes what it may ask, its place in the pool, and its next start.
func edgeIsRemoved(t *testing.T, c *trio, e *Edge, ask *client.EdgeClient) {
	t.Helper()
	if _, err := c.client(1, c.admin).RemovePeer(t.Context(), e.cfg.Name, false); err != nil {
		t.Fatal(err)
	}
	c.eventually("it is trusted no more", func() bool {
		all, err := c.client(0, c.admin).Members(t.Context())
		if err != nil {
			return false
		}
		for _, m := range all.Members {
			if m.ID == e.id.NodeID {
				return m.State == gossip.StateUntrusted
			}
		}
		return false
	})
	// A coordinator that has not applied the removal yet denies what is not signed, whoever asks.
	c.eventually("no coordinator takes its word", func() bool {
		_, err := ask.Admit(t.Context(), client.AdmissionRequest{Method: "GET", Path: "/", Headers: map[string]string{}})
		refused := (*client.Error)(nil)
		return errors.As(err, &refused) && refused.Reason == "edge_credential"
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := e.rejoin(ctx); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("asks for a certificate: %v", err)
	}
}

// edgeLeaseEnds: without a majority, strict denies when its lease ended, best_effort answers on and says so.
func edgeLeaseEnds(t *testing.T, c *trio, ask, also *client.EdgeClient) {
	t.Helper()
	c.stopAll()
	stopped := time.Now()
	c.eventually("strict denies", func() bool { return allowed(t, ask, "somebody else").Code == client.AllowedStale })
	if took := time.Since(stopped); took > testLease+10*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := ask.Ready(t.Context()); err == nil {
		t.Error("strict is ready")
	}
	c.eventually("best_effort marks it", func() bool {
		a := allowed(t, also, "somebody else")
		return a.Allowed && !a.Freshness.Fresh && allowed(t, also, "bad one/1").Code == client.AllowedBlacklisted
	})
	if _, err := ask.Admit(t.Context(), client.AdmissionRequest{Method: "GET", Path: "/", Headers: map[string]string{}}); err == nil {
		t.Error("an admission without a cluster")
	}

}

func TestEdgeConfigRefused(t *testing.T) {
	good := DefaultEdgeConfig()
	good.DataDir, good.Name, good.Passphrase = "dir", "e", []byte("correct horse battery")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*EdgeConfig){
		"data-dir": func(c *EdgeConfig) { c.DataDir = "" }, "--name": func(c *EdgeConfig) { c.Name = "a\nb" },
		"its own machine alone": func(c *EdgeConfig) { c.Listen = "0.0.0.0:4501" }, "name a path": func(c *EdgeConfig) { c.Listen = "unix:" },
		"--gossip-addr": func(c *EdgeConfig) { c.GossipAddr = "nowhere" }, "--mode": func(c *EdgeConfig) { c.Mode = "lax" },
		"--lease": func(c *EdgeConfig) { c.Lease = time.Second }, "passphrase": func(c *EdgeConfig) { c.Passphrase = nil },
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestEdgeSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "edge.sock")
	l, err := listenLocal(unixPrefix+path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := listenLocal(unixPrefix+path, 0); err == nil || !strings.Contains(err.Error(), "answers on") {
		t.Errorf("a second one: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = listenLocal(unixPrefix+path, 0o660); err != nil {
		t.Fatalf("over a dead socket: %v", err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenLocal(unixPrefix+file, 0); err == nil {
		t.Error("a file was replaced")
	}
}

func TestEdgeAlarmsOnceInAWhile(t *testing.T) {
	var out bytes.Buffer
	a := (&Edge{log: slog.New(slog.NewJSONHandler(&out, nil))}).alarms()
	for range 50 {
		a.raise(edge.AlarmChain, "x")
	}
	a.raise(edge.AlarmForked, "y")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 2 || last.Level != "ERROR" || !strings.Contains(last.Msg, "CRITICAL") {
		t.Errorf("%d lines, %+v, %v", len(lines), last, err)
	}
}
