package node

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/dsse"
	"github.com/edgecoder/edgecoder/crypto/manifest"
	"github.com/edgecoder/edgecoder/fsm"
)

// manifestSigner is a key that signs manifests in tests.
func manifestSigner(name string) crypto.PrivateKey {
	seed := crypto.Sum([]byte("manifest signer " + name))
	key, err := crypto.GenerateKey(strings.NewReader(string(seed[:])))
	if err != nil {
		panic(err) // a reader of 32 bytes
	}
	return key
}

func (c *trio) trustManifests(threshold int64, names ...string) {
	c.t.Helper()
	cl := c.client(c.anyUp(), c.admin)
	now, err := cl.ManifestTrust(c.t.Context(), client.Strong())
	if err != nil {
		c.t.Fatal(err)
	}
	u := client.ManifestTrustUpdate{Threshold: threshold, Sources: []string{"https://models.example/"}}
	for _, name := range names {
		u.Signers = append(u.Signers, client.ManifestSigner{Name: name, PublicKey: crypto.PublicOf(manifestSigner(name)).String()})
	}
	if _, err := cl.SetManifestTrust(c.t.Context(), now.Version, u); err != nil {
		c.t.Fatal(err)
	}
}

// accept has node i accept a manifest that the signers signed for an hour.
func (c *trio) accept(i int, name, version, artifact string, signers ...string) (client.ManifestAccepted, error) {
	c.t.Helper()
	now := time.Now().UnixMilli()
	st := manifest.Statement{Name: name, Version: version, SHA256: crypto.Sum([]byte(artifact)), Size: int64(len(artifact)),
		Source: "https://models.example/x", IssuedMs: now - 1000, ExpiresMs: now + 3_600_000}
	e := dsse.Envelope{PayloadType: manifest.PayloadType, Payload: st.Encode()}
	for _, signer := range signers {
		if err := e.Sign(manifestSigner(signer)); err != nil {
			c.t.Fatal(err)
		}
	}
	return c.client(i, c.admin).AcceptManifest(c.t.Context(), e.Encode())
}

func wantRefused(t *testing.T, err error, code, field string) {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Code != code || e.Field != field {
		t.Fatalf("%v, want %s of field %q", err, code, field)
	}
}

// What is accepted at one node is the floor at every other, and an older backup
// does not lower it.
func TestManifestRollbackIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 3)
	_, err := c.accept(0, "model", "1", "one", "a", "b")
	wantRefused(t, err, client.CodeConflict, "")
	c.trustManifests(2, "a", "b", "c")
	if _, err := c.accept(0, "model", "1", "one", "a", "b"); err != nil {
		t.Fatal(err)
	}
	backup := c.save(0)
	if got, err := c.accept(1, "model", "2", "two", "b", "c"); err != nil || len(got.Signers) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range c.nodes {
		_, err := c.accept(i, "model", "1.9", "one", "a", "b")
		wantRefused(t, err, client.CodeConflict, "version")
		_, err = c.accept(i, "model", "2.0", "other", "a", "b")
		wantRefused(t, err, client.CodeConflict, "sha256")
		_, err = c.accept(i, "model", "3", "three", "a", "stranger")
		wantRefused(t, err, client.CodeInvalid, "signatures")
		if got, err := c.accept(i, "model", "2", "two", "a", "b", "c"); err != nil || got.Index == 0 {
			t.Fatalf("renewed at node %d: %+v, %v", i, got, err)
		}
		row, err := c.client(i, c.admin).Manifest(t.Context(), "model", client.Strong())
		if err != nil || len(row.Versions) != 2 || row.Versions[0].Version != "2" {
			t.Fatalf("node %d lists %+v, %v", i, row, err)
		}
	}
	c.trustManifests(1, "c")
	plan, _ := c.restore(backup, true)
	if plan.ManifestsKept != 1 || plan.ManifestsKeptList[0].Version != "2" || plan.ManifestsKeptList[0].Then != "1" || !plan.TrustLost || len(plan.TrustBackList) != 2 || plan.Forked {
		t.Errorf("the plan says %+v", plan)
	}
	c.inEpoch(2)
	for i := range c.nodes {
		_, err := c.accept(i, "model", "1.9", "one", "a", "b") // the backup's signers
		wantRefused(t, err, client.CodeConflict, "version")
	}
}

// binaryOf makes a node take a text for its own executable.
func binaryOf(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// TestRequireManifest: a node whose binary was not accepted does not get in, and
// costs neither record nor token; one that was runs; one that is replaced stops.
func TestRequireManifest(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	c.trustManifests(1, "a")
	cfg := testConfig(t, "gated")
	cfg.Join, cfg.JoinToken = []string{c.cfgs[0].GossipAddr}, c.token("coordinator", 1)
	cfg.RequireManifest, cfg.executable = "edgecoder", binaryOf("good")
	c.cfgs = append(c.cfgs, cfg)
	refuse := func(what string, cfg Config) {
		t.Helper()
		n, err := Start(t.Context(), cfg)
		if err == nil {
			_ = n.shutdown()
			t.Fatalf("%s: it started", what)
		}
		if !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), crypto.Sum([]byte("good")).String()) || !strings.Contains(err.Error(), "edgecoder manifest accept") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refuse("nothing was accepted", cfg)
	if _, err := c.accept(0, "edgecoder", "1", "other", "a"); err != nil {
		t.Fatal(err)
	}
	refuse("another binary was accepted", cfg)
	c.nodes[0].machine.Read(func(s *fsm.State) {
		if n := len(s.Coordinators()); n != 1 {
			t.Errorf("%d coordinators after refused joins", n)
		}
	})
	if _, err := c.accept(0, "edgecoder", "2", "good", "a"); err != nil {
		t.Fatal(err)
	}
	c.start(1)
	c.eventually("it votes and serves", func() bool { return len(voters(c.nodes[0].servers())) == 2 && c.allReady() })
	if _, err := c.accept(0, "edgecoder", "3", "newer", "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[1].shutdown(); err != nil {
		t.Log(err)
	}
	c.start(1) // version 2 is kept and in force still
	c.eventually("it serves again", func() bool { return c.allReady() })
	if st := c.nodes[1].Status().Manifest; st == nil || st.Version != "2" || st.State != "active" || c.nodes[0].Status().Manifest != nil {
		t.Errorf("its status says %+v", st)
	}
	if _, err := c.client(0, c.admin).RevokeManifest(t.Context(), "edgecoder", client.ManifestRevokeRequest{Version: "2"}); err != nil {
		t.Fatal(err)
	}
	_ = c.nodes[1].shutdown()
	c.start(1)
	c.eventually("the revoked binary stops", func() bool {
		select {
		case <-c.nodes[1].Done():
			return errors.Is(c.nodes[1].Err(), ErrManifest) && strings.Contains(c.nodes[1].Err().Error(), "revoked")
		default:
			return false
		}
	})
	c.cfgs[1].executable = binaryOf("evil")
	c.start(1)
	evil := c.nodes[1]
	served := false
	c.eventually("the replaced binary stops", func() bool {
		served = served || evil.Serving() == nil
		select {
		case <-evil.Done():
			return true
		default:
			return false
		}
	})
	if err := evil.Err(); !errors.Is(err, ErrManifest) || served {
		t.Errorf("it served: %t, and stopped with %v", served, err)
	}
	c.nodes[1] = nil
}

// Strangers and holders of other tokens learn nothing of what was accepted.
func TestManifestQuestionNeedsAJoinToken(t *testing.T) {
	t.Parallel()
	c := newTrio(t, 1)
	other := newTrio(t, 1)
	for name, text := range map[string]string{"no token": "x", "an API token": c.token("viewer", 0), "an enrolment token": c.token("agent", 1), "another cluster's": other.token("coordinator", 1)} {
		if err := c.nodes[0].mayAskManifest(t.Context(), text); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	if err := c.nodes[0].mayAskManifest(t.Context(), c.token("coordinator", 1)); err != nil {
		t.Error(err)
	}
}

func TestBootstrapRequiresNoManifest(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, "first")
	cfg.Bootstrap, cfg.RequireManifest = true, "edgecoder"
	if n, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "accepted nothing yet") {
		if err == nil {
			_ = n.shutdown()
		}
		t.Errorf("%v", err)
	}
}

func TestCheckDigest(t *testing.T) {
	t.Parallel()
	key := crypto.PublicOf(manifestSigner("a"))
	version := func(v, artifact string, expires int64) fsm.AcceptedVersion {
		return fsm.AcceptedVersion{Statement: manifest.Statement{Name: "bin", Version: v, SHA256: crypto.Sum([]byte(artifact)), ExpiresMs: expires}, Signers: []fsm.KeyRef{key.Fingerprint()}}
	}
	trust := fsm.ManifestTrust{Threshold: 1, Signers: []fsm.ManifestSigner{{Name: "a", Key: key}}}
	stolen := fsm.ManifestTrust{Threshold: 1, Signers: []fsm.ManifestSigner{{Name: "b", Key: crypto.PublicOf(manifestSigner("b"))}}}
	stricter := trust
	stricter.Threshold = 2
	row := fsm.Manifest{Name: "bin", Versions: []fsm.AcceptedVersion{version("1", "old", 1000), version("2", "new", 2000)}}
	revoked := fsm.Manifest{Name: "bin", Versions: []fsm.AcceptedVersion{version("1", "old", 1000), version("2", "old", 2000), version("3", "new", 2000)}}
	revoked.Versions[0].RevokedMs = 1
	for _, c := range []struct {
		artifact string
		row      fsm.Manifest
		trust    fsm.ManifestTrust
		nowMs    int64
		ok       bool
	}{
		{"new", row, trust, 1000, true}, {"new", row, trust, 2000, true}, {"new", row, trust, 2001, false}, {"new", row, trust, 0, true},
		{"old", row, trust, 1000, true}, {"old", row, trust, 1001, false}, {"evil", row, trust, 1, false}, {"new", fsm.Manifest{}, trust, 1, false},
		{"new", row, stolen, 1000, false}, {"new", row, stricter, 1000, false}, {"new", row, fsm.ManifestTrust{}, 0, false},
		{"old", revoked, trust, 0, false}, {"new", revoked, trust, 0, true},
	} {
		if err := checkDigest("bin", crypto.Sum([]byte(c.artifact)), c.row, c.trust, c.nowMs); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrManifest) {
			t.Errorf("%s at %d, trust %+v: %v", c.artifact, c.nowMs, c.trust, err)
		}
	}
}

// TestStartAfterExpiry: a cluster in which every node asks, and which was off for longer than the manifest held, comes
// back, since only a node that serves can accept a new one. A join asks for more.
func TestStartAfterExpiry(t *testing.T) {
	t.Parallel()
	s := fsm.NewState()
	index, nowMs := uint64(0), int64(1_000)
	apply := func(actor fsm.Actor, body any) {
		t.Helper()
		cmd, err := fsm.New(actor, body)
		if err != nil {
			t.Fatal(err)
		}
		index++
		cmd.AtMs = nowMs
		if res, _, err := s.Apply(index, cmd); err != nil || !res.OK() {
			t.Fatalf("%T: %+v, %v", body, res, err)
		}
	}
	key := crypto.PublicOf(manifestSigner("a"))
	admin := fsm.Actor{TokenID: "admin"}
	apply(fsm.Actor{}, fsm.Genesis{ClusterID: "c", Level: fsm.LevelProfiles, AdminToken: fsm.TokenCreate{ID: "admin", Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: fsm.Coordinator{ID: "n", Name: "n1", Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(manifestSigner("n")), EncryptionKey: make([]byte, 32), API: "h:1", Raft: "h:2", Gossip: "h:3"}})
	apply(admin, fsm.ManifestTrustSet{Trust: fsm.ManifestTrust{Threshold: 1, Signers: []fsm.ManifestSigner{{Name: "a", Key: key}}, Sources: []string{"https://models.example/"}}})
	st := manifest.Statement{Name: "bin", Version: "1", SHA256: crypto.Sum([]byte("x")), Size: 1, Source: "https://models.example/x", IssuedMs: 1, ExpiresMs: nowMs + 10_000}
	apply(admin, fsm.ManifestAccept{Statement: st, Signers: []fsm.KeyRef{key.Fingerprint()}})
	nowMs += 50_000
	apply(fsm.Actor{}, fsm.Tick{})
	row, _ := s.Manifest("bin")
	if err := startFault("bin", st.SHA256, s); err != nil || checkDigest("bin", st.SHA256, row, s.ManifestTrust(), s.ClockMs()) == nil {
		t.Errorf("start: %v; and it may join", err)
	}
	apply(admin, fsm.ManifestRevoke{Name: "bin", Version: "1"})
	if err := startFault("bin", st.SHA256, s); !errors.Is(err, ErrManifest) {
		t.Errorf("revoked: %v", err)
	}
}

// Before a manifest would stop a start, or a join, somebody is told.
func TestManifestFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state  string
		leftMs int64
		says   string
	}{
		{"active", manifestWarnMs, ""}, {"active", manifestWarnMs - 1, "expires soon"}, {"expired", -1, "has expired"},
		{"revoked", manifestWarnMs, "will not start"}, {"untrusted", manifestWarnMs, "will not start"}, {"unknown", 0, "will not start"},
	} {
		got := manifestFault(client.ManifestStatus{State: c.state, ExpiresMs: 1000 + c.leftMs}, 1000)
		if c.says == "" && got != "" || !strings.Contains(got, c.says) {
			t.Errorf("%s, %d ms left: %q", c.state, c.leftMs, got)
		}
	}
}

// An executable that cannot be read is not accepted; without the setting nobody
// looks at it, and with it the process hashes what it runs.
func TestOwnDigest(t *testing.T) {
	t.Parallel()
	broken := func() (io.ReadCloser, error) { return nil, errors.New("gone") }
	if _, err := (Config{executable: broken}).ownDigest(); err != nil {
		t.Error(err)
	}
	if _, err := (Config{executable: broken, RequireManifest: "bin"}).ownDigest(); !errors.Is(err, ErrManifest) {
		t.Error(err)
	}
	if digest, err := (Config{executable: binaryOf("x"), RequireManifest: "bin"}).ownDigest(); err != nil || digest != crypto.Sum([]byte("x")) {
		t.Errorf("%s, %v", digest, err)
	}
	if digest, err := (Config{RequireManifest: "bin"}).ownDigest(); err != nil || digest.IsZero() {
		t.Errorf("%s, %v", digest, err)
	}
}

// TestLevelHoldsKindsBack: a server that does not know a kind would have to stop,
// so none is proposed below the level that all servers are known to have.
func TestLevelHoldsKindsBack(t *testing.T) {
	t.Parallel()
	for level, want := range map[uint32]bool{fsm.LevelRecovery: false, fsm.LevelProfiles: true} {
		n := &Node{machine: fsm.NewMachine(fsm.NewMemoryHistory(), nil)}
		cmd, err := fsm.New(fsm.Actor{}, fsm.Genesis{ClusterID: "c", Level: level, AdminToken: fsm.TokenCreate{ID: "admin", Role: fsm.RoleAdmin, Uses: -1},
			Coordinator: fsm.Coordinator{ID: "n", Name: "n1", Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(manifestSigner("n")), EncryptionKey: make([]byte, 32), API: "h:1", Raft: "h:2", Gossip: "h:3"}})
		if err != nil {
			t.Fatal(err)
		}
		cmd.AtMs = 1
		data, err := fsm.EncodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if res := n.machine.Apply(&raft.Log{Index: 1, Data: data}).(fsm.Result); !res.OK() {
			t.Fatalf("%+v", res)
		}
		for _, c := range []struct {
			body any
			want bool
		}{{fsm.ManifestAccept{}, want}, {fsm.ManifestTrustSet{}, want}, {fsm.TokenCreate{}, true}} {
			cmd, err := fsm.New(fsm.Actor{}, c.body)
			if err != nil {
				t.Fatal(err)
			}
			e := n.levelAllows(cmd)
			if (e == nil) != c.want || e != nil && (e.Code != client.CodeConflict || e.Reason != reasonLevel) {
				t.Errorf("%T at level %d: %v", c.body, level, e)
			}
		}
	}
}
