package cmd

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// madeBackup is a backup of a small cluster, and what it was made of.
type madeBackup struct {
	data   []byte
	events []crypto.BlacklistEvent
	key    crypto.PrivateKey
}

func makeBackup(t *testing.T, bans int) madeBackup {
	t.Helper()
	s, history := fsm.NewState(), fsm.NewMemoryHistory()
	index := uint64(0)
	apply := func(actor fsm.Actor, body any) {
		t.Helper()
		index++
		cmd, err := fsm.New(actor, body)
		if err != nil {
			t.Fatal(err)
		}
		cmd.AtMs = testNowMs
		res, records, err := s.Apply(index, cmd)
		if err != nil || !res.OK() {
			t.Fatalf("%+v: %v", res, err)
		}
		if err := history.Append(1, records); err != nil {
			t.Fatal(err)
		}
	}
	admin, err := crypto.NewTokenText(rand.Reader, testClusterID, "admin", "")
	if err != nil {
		t.Fatal(err)
	}
	out := madeBackup{}
	out.events, out.key = chainOf(t, bans)
	apply(fsm.Actor{}, fsm.Genesis{ClusterID: testClusterID, CACert: []byte("ca"), Level: fsm.LevelRecovery,
		AdminToken: fsm.TokenCreate{ID: admin.ID, Hash: admin.Hash(), Role: fsm.RoleAdmin, Uses: -1},
		Coordinator: fsm.Coordinator{ID: "n1", Name: "n1", Role: fsm.RoleCoordinator, SigningKey: crypto.PublicOf(out.key), EncryptionKey: make([]byte, 32),
			API: "a:1", Raft: "a:1", Gossip: "a:2"}})
	for _, e := range out.events {
		apply(fsm.Actor{TokenID: admin.ID}, fsm.BlacklistAppend{Event: e})
	}
	var file bytes.Buffer
	f := s.Freeze()
	if err := f.Write(&file); err != nil {
		t.Fatal(err)
	}
	if err := fsm.WriteHistory(&file, f.Totals(), history.UpTo(f.Totals())); err != nil {
		t.Fatal(err)
	}
	out.data = file.Bytes()
	return out
}

func (b madeBackup) file(t *testing.T) string {
	return writeTemp(t, "backup.snapshot", string(b.data))
}

// snapshotAPI serves a backup, or whatever else it is given.
func snapshotAPI(t *testing.T, serve http.HandlerFunc) {
	t.Helper()
	srv := httptest.NewServer(serve)
	t.Cleanup(srv.Close)
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", srv.URL)
	t.Setenv("EDGECODER_TOKEN", testToken(t, "admin"))
}

func TestSnapshotSave(t *testing.T) {
	b := makeBackup(t, 3)
	asked := ""
	snapshotAPI(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		_, _ = w.Write(b.data)
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.snapshot")
	r := runArgs(t, "", "snapshot", "save", path)
	wantStatus(t, r, exitDone)
	if asked != "/v1/snapshot?level=strong" || !strings.Contains(r.out, "verified") || !strings.Contains(r.out, b.events[2].EventHash) {
		t.Errorf("asked %s\n%s", asked, r.out)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(len(b.data)) {
		t.Errorf("%v %v", info, err)
	}
	wantStatus(t, runArgs(t, "", "snapshot", "save", path), exitUsage)
	r = runArgs(t, "", "snapshot", "save", path, "--force", "--local", "--format", "json")
	wantStatus(t, r, exitDone)
	var view savedView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || view.File != path || view.Events != 3 || view.ClusterID != testClusterID || asked != "/v1/snapshot" {
		t.Errorf("%v %+v, asked %s", err, view, asked)
	}
	r = runArgs(t, "", "snapshot", "save", dir)
	wantStatus(t, r, exitDone)
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("edgecoder-%s-1-4.snapshot", testClusterID))); err != nil {
		t.Errorf("%v: %s", err, r.out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestSnapshotSaveAmongLinks: what somebody put in the way is not followed, not
// replaced without --force, and what comes while the backup does stays, too.
func TestSnapshotSaveAmongLinks(t *testing.T) {
	b := makeBackup(t, 3)
	dir := t.TempDir()
	victim := writeTemp(t, "victim", "precious")
	link := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(victim, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link(".edgecoder-backup.partial")
	link("mine.partial")
	mine := link("mine")
	late := filepath.Join(dir, fmt.Sprintf("edgecoder-%s-1-4.snapshot", testClusterID))
	snapshotAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = os.Symlink(victim, late) // it comes in between
		_, _ = w.Write(b.data)
	})
	wantStatus(t, runArgs(t, "", "snapshot", "save", dir), exitUsage)
	wantStatus(t, runArgs(t, "", "snapshot", "save", late), exitUsage)
	wantStatus(t, runArgs(t, "", "snapshot", "save", mine), exitUsage)
	for _, path := range []string{dir, mine} {
		wantStatus(t, runArgs(t, "", "snapshot", "save", path, "--force"), exitDone)
	}
	for _, path := range []string{late, mine} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 || info.Size() != int64(len(b.data)) {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the file behind the links: %q %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// What arrives by half, or damaged, does not get the name.
func TestSnapshotSaveOfHalfABackup(t *testing.T) {
	b := makeBackup(t, 3)
	for name, serve := range map[string]http.HandlerFunc{
		"cut without a word": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b.data[:len(b.data)-7]) },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(b.data)))
			_, _ = w.Write(b.data[:100])
		},
		"damaged": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(bytes.Clone(b.data[:len(b.data)-1]), b.data[len(b.data)-1]^1))
		},
		"empty": func(http.ResponseWriter, *http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			snapshotAPI(t, serve)
			dir := t.TempDir()
			r := runArgs(t, "", "snapshot", "save", filepath.Join(dir, "b"))
			if r.status == exitDone || r.status == exitUsage || r.out != "" {
				t.Errorf("%+v", r)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v %v", entries, err)
			}
		})
	}
}

func TestSnapshotInspect(t *testing.T) {
	cleanEnv(t)
	b := makeBackup(t, 2)
	r := runArgs(t, "", "snapshot", "inspect", b.file(t))
	wantStatus(t, r, exitDone)
	for _, want := range []string{testClusterID, "2 events, head " + b.events[1].EventHash, "epoch", "sha256"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("lacks %q:\n%s", want, r.out)
		}
	}
	for text, status := range map[string]int{"": exitRefused, "something else": exitRefused, string(b.data[:50]): exitRefused} {
		wantStatus(t, runArgs(t, "", "snapshot", "inspect", writeTemp(t, "f", text)), status)
	}
	wantStatus(t, runArgs(t, "", "snapshot", "inspect", "/nowhere"), exitUsage)
}

// Any flipped byte is found, offline.
func TestSnapshotVerifyFindsDamage(t *testing.T) {
	cleanEnv(t)
	b := makeBackup(t, 2)
	r := runArgs(t, "", "snapshot", "verify", b.file(t))
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.out, "2 of 2") || !strings.Contains(r.err, "file itself") {
		t.Errorf("%+v", r)
	}
	path := filepath.Join(t.TempDir(), "flipped")
	for at := 0; at < len(b.data); at += 1 + len(b.data)/61 {
		flipped := bytes.Clone(b.data)
		flipped[at] ^= 1
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		r := runArgs(t, "", "snapshot", "verify", path, "--format", "json")
		var view checkedView
		if err := json.Unmarshal([]byte(r.out), &view); err != nil || r.status != exitRefused || view.Verified || view.Fault == nil || !strings.Contains(r.err, "not verified") {
			t.Fatalf("byte %d: %v %+v", at, err, r)
		}
	}
}

func TestSnapshotVerifyAgainstTheCluster(t *testing.T) {
	b := makeBackup(t, 2)
	path := b.file(t)
	more, moreKey := makeBackup(t, 3), crypto.PrivateKey(nil)
	moreKey = more.key
	peer := func(key crypto.PrivateKey) client.MeshPeers {
		pub := crypto.PublicOf(key)
		return client.MeshPeers{Peers: []client.MeshPeer{{PeerID: pub.CoordinatorID(), PublicKeyPEM: pub.PEM()}}}
	}
	_, other := chainOf(t, 0)
	for _, tt := range []struct {
		name   string
		status client.Status
		keys   crypto.PrivateKey
		page   client.ChainPage
		want   string // in the JSON of the fault; "" for none
	}{
		{"as it was", client.Status{ClusterID: testClusterID, Epoch: 1}, b.key, client.ChainPage{Size: 7, Events: []client.ChainEvent{{Seq: 2, Event: b.events[1].WireJSON()}}}, ""},
		{"another cluster", client.Status{ClusterID: "other", Epoch: 1}, b.key, client.ChainPage{}, "other_cluster"},
		{"strange keys", client.Status{ClusterID: testClusterID, Epoch: 1}, moreKey, client.ChainPage{}, "strange_key"},
		{"another chain", client.Status{ClusterID: testClusterID, Epoch: 2}, b.key, client.ChainPage{Size: 7, Events: []client.ChainEvent{{Seq: 2, Event: more.events[1].WireJSON()}}}, crypto.ChainHeadMismatch},
		{"a shorter chain", client.Status{ClusterID: testClusterID, Epoch: 2}, b.key, client.ChainPage{Size: 1}, crypto.ChainHeadMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			self := crypto.PublicOf(other)
			f := newFakeAPI(t, map[string]reply{
				"GET /v1/status": always(tt.status), "GET /mesh/peers": always(peer(tt.keys)), "GET /v1/blacklist/events": always(tt.page),
				"GET /identity": always(client.Identity{PeerID: self.CoordinatorID(), PublicKeyPEM: self.PEM()}),
			})
			pointAt(t, f)
			r := runArgs(t, "", "snapshot", "verify", path, "--cluster", "--format", "json")
			var view checkedView
			if err := json.Unmarshal([]byte(r.out), &view); err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			switch {
			case tt.want == "" && (r.status != exitDone || !view.Verified || !view.Live.OnChain || view.Live.EventsBehind != 5 || view.KeysFrom != "cluster"):
				t.Errorf("%+v %+v", r, view.Live)
			case tt.want != "" && (r.status != exitRefused || view.Verified || view.Fault == nil || view.Fault.Code != tt.want):
				t.Errorf("%+v", r)
			}
		})
	}
}

// restoreAPI is a leader that plans and restores.
func restoreAPI(t *testing.T, plan client.RestorePlan, answer func() any) *[]string {
	t.Helper()
	var asked []string
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status" {
			_ = json.NewEncoder(w).Encode(client.Status{Leader: &client.Leader{Name: "n1", API: srv.URL}})
			return
		}
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.URL.RawQuery+" "+string(body))
		out := any(plan)
		if r.URL.Query().Get("plan") == "" {
			out = answer()
		}
		if e, ok := out.(*client.Error); ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(client.StatusOf(e.Code))
			out = e.Problem()
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	t.Cleanup(srv.Close)
	cleanEnv(t)
	t.Setenv("EDGECODER_ADDR", srv.URL)
	t.Setenv("EDGECODER_TOKEN", testToken(t, "admin"))
	return &asked
}

func TestSnapshotRestore(t *testing.T) {
	done := client.Restored{Epoch: 2, Index: 40, ChainHead: hashText, ChainSize: 3, AdmissionsFromMs: testNowMs + 120_000}
	plan := client.RestorePlan{Confirm: "c1", BansLost: 1, BansLostList: []client.Ban{{AgentID: "evil\x1b[2J", ReasonCode: "dos_behavior", Seq: 9, EventID: "e-9"}}, NewEpoch: 2, Older: true,
		AgentsChanged: 2, AgentsRekeyed: 1, AgentsList: []client.AgentChange{{AgentID: "a-1", State: "active", Then: "active", NewKeys: true, KeyID: "new", ThenKeyID: "old"}, {AgentID: "a-2", State: "revoked", Then: "active"}}}
	path := writeTemp(t, "b.snapshot", "backup")
	asked := restoreAPI(t, plan, func() any { return done })
	r := runArgs(t, "", "snapshot", "restore", path, "--plan")
	wantStatus(t, r, exitDone)
	if first := strings.SplitN(r.out, "\n", 2)[0]; !strings.Contains(first, "bans that this restore undoes") || !strings.Contains(r.out, `evil\x1b[2J`) {
		t.Errorf("the bans are not on top:\n%s", r.out)
	}
	if !strings.Contains(r.out, "a-1  active -> active, key new -> old") || !strings.Contains(r.out, "what they replaced verifies again") {
		t.Errorf("the keys that come back are not named:\n%s", r.out)
	}
	wantStatus(t, runArgs(t, "", "snapshot", "restore", path), exitUsage) // nobody to ask
	r = runArgs(t, "", "snapshot", "restore", path, "--yes")
	wantStatus(t, r, exitRefused)
	if !strings.Contains(r.err, "--lose-acknowledged") || !strings.Contains(r.err, "e-9") || r.out != "" {
		t.Errorf("%+v", r)
	}
	r = runArgs(t, "", "snapshot", "restore", path, "--yes", "--lose-acknowledged", "--format", "json")
	wantStatus(t, r, exitDone)
	var view restoreView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || view.Restored == nil || view.Restored.Epoch != 2 || view.Plan.Confirm != "c1" {
		t.Errorf("%v %+v", err, view)
	}
	want := []string{"plan=true backup", "plan=true backup", "plan=true backup", "confirm=c1&lose_acknowledged=true backup"}
	if strings.Join(*asked, "|") != strings.Join(want, "|") {
		t.Errorf("asked %q", *asked)
	}
}

func TestSnapshotRestoreEnds(t *testing.T) {
	path := writeTemp(t, "b.snapshot", "backup")
	for code, status := range map[string]int{client.CodeConflict: exitRefused, client.CodeUnknownOutcome: exitUnknown, client.CodeForbidden: exitRefused, client.CodeInvalid: exitRefused} {
		restoreAPI(t, client.RestorePlan{Confirm: "c1"}, func() any { return &client.Error{Code: code, Detail: "the detail"} })
		r := runArgs(t, "", "snapshot", "restore", path, "--yes")
		wantStatus(t, r, status)
		if !strings.Contains(r.err, "the detail") || (code == client.CodeUnknownOutcome) != strings.Contains(r.err, "plan again") {
			t.Errorf("%s: %s", code, r.err)
		}
	}
	for _, args := range [][]string{{"--plan", "--yes"}, {"--format", "json"}} {
		wantStatus(t, runArgs(t, "", append([]string{"snapshot", "restore", path}, args...)...), exitUsage)
	}
	wantStatus(t, runArgs(t, "", "snapshot", "restore", writeTemp(t, "empty", ""), "--yes"), exitUsage)
	wantStatus(t, runArgs(t, "", "snapshot", "restore", t.TempDir(), "--yes"), exitUsage)
}

// Asked, only a yes is a yes.
func TestSnapshotRestoreAsks(t *testing.T) {
	for answer, yes := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "n\n": false, "": false, "yesterday\n": false} {
		var out bytes.Buffer
		p := &program{in: strings.NewReader(answer), err: &out, now: testProgram().now}
		app := testProgram().app()
		err := p.agree(contextOf(app), client.RestorePlan{}, true)
		if (err == nil) != yes || (err != nil && exitStatus(err) != exitRefused) {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func contextOf(app *cli.App) *cli.Context {
	return cli.NewContext(app, flag.NewFlagSet("test", flag.ContinueOnError), nil)
}
