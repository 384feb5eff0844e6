package cmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/checkpoint"
)

// proofCluster is a cluster of coordinators that serves what a test lets it.
type proofCluster struct {
	t      *testing.T
	keys   []crypto.PrivateKey
	sets   []checkpoint.SignedSet
	events []crypto.BlacklistEvent
	shown  int // events in the checkpoint
	signed int // coordinators that cosign it
	forge  func(*checkpoint.Checkpoint)
	atS    int64
}

func newProofCluster(t *testing.T, events int) *proofCluster {
	t.Helper()
	c := &proofCluster{t: t, shown: events, signed: 3, atS: testNowMs / 1000}
	var keys []crypto.PublicKey
	for i := range byte(3) {
		key, err := crypto.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{i + 1}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		c.keys, keys = append(c.keys, key), append(keys, crypto.PublicOf(key))
	}
	c.nextSet(keys[:1])
	c.nextSet(keys)
	c.events, _ = chainOf(t, events)
	return c
}

func (c *proofCluster) nextSet(keys []crypto.PublicKey) {
	previous := crypto.Hash{}
	if n := len(c.sets); n > 0 {
		previous = c.sets[n-1].Hash()
	}
	set, err := checkpoint.NewSet(strings.Repeat("ab", 16), uint64(len(c.sets)+1), 1, previous, keys)
	if err != nil {
		c.t.Fatal(err)
	}
	signed := checkpoint.SignedSet{Set: set}
	for _, k := range c.keys {
		signed.Signatures = append(signed.Signatures, set.Sign(k))
	}
	c.sets = append(c.sets, signed)
}

func (c *proofCluster) edge(n int) checkpoint.Frontier {
	var f checkpoint.Frontier
	for _, e := range c.events[:n] {
		f.Append(checkpoint.LeafHash(e.WireJSON()))
	}
	return f
}

func (c *proofCluster) note() []byte {
	edge := c.edge(c.shown)
	cp := edge.Checkpoint(checkpoint.Origin{ClusterID: c.sets[0].ClusterID, Log: checkpoint.LogBlacklist, Epoch: 1})
	if c.forge != nil {
		c.forge(&cp)
	}
	n := checkpoint.Note{Checkpoint: cp, Signatures: []checkpoint.Signature{checkpoint.SignLog(c.keys[0], cp)}}
	for _, k := range c.keys[:c.signed] {
		n.Signatures = append(n.Signatures, checkpoint.Cosign(k, cp, c.atS))
	}
	return n.Encode()
}

// trustFile saves the first sets, as an operator did once.
func (c *proofCluster) trustFile(n int) string {
	text := ""
	for _, s := range c.sets[:n] {
		text += string(s.Encode())
	}
	return writeTemp(c.t, "cosigners.txt", text)
}

func (c *proofCluster) ReadHashes(indexes []int64) (out []tlog.Hash, err error) {
	var all []tlog.Hash
	for i, e := range c.events {
		more, err := tlog.StoredHashes(int64(i), e.WireJSON(), tlog.HashReaderFunc(func(x []int64) (old []tlog.Hash, err error) {
			for _, at := range x {
				old = append(old, all[at])
			}
			return old, nil
		}))
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	for _, at := range indexes {
		out = append(out, all[at])
	}
	return out, nil
}

func (c *proofCluster) serve() string {
	text := func(hashes []tlog.Hash) []string {
		out := []string{}
		for _, h := range hashes {
			out = append(out, base64.StdEncoding.EncodeToString(h[:]))
		}
		return out
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := func(name string) int64 { n, _ := strconv.ParseInt(r.URL.Query().Get(name), 10, 64); return n }
		answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
		switch r.URL.Path {
		case "/v1/blacklist/checkpoint", "/v1/ledger/checkpoint":
			_, _ = w.Write(c.note())
		case "/v1/blacklist/cosigners":
			out := client.CosignerSets{}
			for _, s := range c.sets {
				if s.Version >= uint64(number("from")) {
					out.Sets = append(out.Sets, client.CosignerSet{Version: s.Version, Hash: s.Hash().String(), Cosigners: s.Names(), Note: string(s.Encode())})
				}
			}
			answer(out)
		case "/v1/blacklist/events":
			seq := number("from")
			answer(client.ChainPage{Size: uint64(len(c.events)), Events: []client.ChainEvent{{Seq: uint64(seq), Event: c.events[seq-1].WireJSON()}}})
		case "/v1/blacklist/agents/agent-2":
			answer(client.Ban{AgentID: "agent-2", Seq: 2})
		case "/v1/blacklist/proof/inclusion":
			p, err := tlog.ProveRecord(number("size"), number("seq")-1, c)
			if err != nil {
				c.t.Error(err)
			}
			answer(client.InclusionProof{Hashes: text(p)})
		case "/v1/blacklist/proof/consistency":
			p, err := tlog.ProveTree(number("to"), number("from"), c)
			if err != nil {
				c.t.Error(err)
			}
			answer(client.ConsistencyProof{Hashes: text(p)})
		default:
			http.NotFound(w, r)
		}
	}))
	c.t.Cleanup(srv.Close)
	return srv.URL
}

func runAt(t *testing.T, addr string, args ...string) ran {
	t.Helper()
	t.Setenv("EDGECODER_TOKEN", testToken(t, "admin"))
	return runArgs(t, "", append(args, "--addr", addr)...)
}

// TestProofTravels: a bundle that a cluster made is checked by somebody who has nothing but who cosigned once.
func TestProofTravels(t *testing.T) {
	cleanEnv(t)
	c := newProofCluster(t, 5)
	addr, file := c.serve(), filepath.Join(t.TempDir(), "agent-2.tlog-proof")
	wantStatus(t, runAt(t, addr, "blacklist", "proof", "agent-2", "--out", file, "--trust", c.trustFile(1)), exitDone)
	r := runArgs(t, "", "blacklist", "verify", file, "--trust", c.trustFile(2), "--format", "json")
	var view provenView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || r.status != exitDone || !view.Verified || view.AgentID != "agent-2" || view.Seq != 2 || view.Checkpoint.Set != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	keys := ""
	for _, k := range c.keys {
		keys += checkpoint.CosignerKey(crypto.PublicOf(k)) + "\n"
	}
	wantStatus(t, runArgs(t, "", "blacklist", "verify", file, "--trust", writeTemp(t, "keys", "# named\n"+keys)), exitDone)
	wantStatus(t, runAt(t, addr, "blacklist", "verify", file, "--trust", c.trustFile(1)), exitDone) // who cosigns now follows from then
	wantStatus(t, runArgs(t, "", "blacklist", "verify", file), exitUsage)                           // whom to believe?

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := newProofCluster(t, 5)
	other.keys = []crypto.PrivateKey{c.keys[2]}
	for name, bad := range map[string]struct{ text, trust, want string }{
		"another event":       {strings.Replace(string(text), "index 1\n", "index 2\n", 1), c.trustFile(2), "another record"},
		"cut off":             {string(text[:len(text)-9]), c.trustFile(2), "no proof bundle"},
		"by an older set":     {string(c.bundleBy(1)), c.trustFile(2), "only cosigner set version 1 vouches for it"},
		"strangers cosigned":  {string(text), writeTemp(t, "k", checkpoint.CosignerKey(crypto.PublicOf(mustKey(t, 9)))), "signed it as the log"},
		"too few are trusted": {string(text), writeTemp(t, "k", keys+checkpoint.CosignerKey(crypto.PublicOf(mustKey(t, 8)))+"\n"+checkpoint.CosignerKey(crypto.PublicOf(mustKey(t, 9)))+"\n"+checkpoint.CosignerKey(crypto.PublicOf(mustKey(t, 10)))), "no majority"},
	} {
		r := runArgs(t, "", "blacklist", "verify", writeTemp(t, "bad", bad.text), "--trust", bad.trust)
		if r.status != exitRefused || !strings.Contains(r.out, "NOT verified") || !strings.Contains(r.err, bad.want) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func mustKey(t *testing.T, n byte) crypto.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// bundleBy makes the bundle of event 1 cosigned by some only.
func (c *proofCluster) bundleBy(cosigners int) []byte {
	c.signed = cosigners
	defer func() { c.signed = len(c.keys) }()
	p, err := tlog.ProveRecord(int64(c.shown), 0, c)
	if err != nil {
		c.t.Fatal(err)
	}
	b := checkpoint.Bundle{Record: c.events[0].WireJSON(), Note: c.note()}
	for _, h := range p {
		b.Hashes = append(b.Hashes, crypto.Hash(h))
	}
	return b.Encode()
}

// TestVerifyLiveNodes: nodes are held against each other, whoever they say they are.
func TestVerifyLiveNodes(t *testing.T) {
	cleanEnv(t)
	a, b := newProofCluster(t, 5), newProofCluster(t, 7)
	a.events = b.events
	trust := a.trustFile(1)
	both := func() string { return a.serve() + "," + b.serve() }
	r := runAt(t, both(), "blacklist", "verify", "--trust", trust, "--format", "json")
	var view nodesView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || r.status != exitDone || len(view.Nodes) != 2 || !view.Nodes[1].Consistent || view.Nodes[1].Checkpoint.Size != 7 {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, c := range map[string]struct {
		spoil func()
		want  string
	}{
		"one cosigner only": {func() { a.signed = 1 }, "no majority"},
		"two roots of one size": {func() {
			a.shown = 7
			a.forge = func(c *checkpoint.Checkpoint) { c.Root[0] ^= 1 }
		}, "two roots of one size"},
		"a forked head": {func() { a.forge = func(c *checkpoint.Checkpoint) { c.Root[0] ^= 1 } }, "does not begin with"},
		"another epoch": {func() { a.forge = func(c *checkpoint.Checkpoint) { c.Origin.Epoch++ } }, "it is of edgecoder/"},
	} {
		a.shown, a.signed, a.forge = 5, 3, nil
		c.spoil()
		r := runAt(t, both(), "blacklist", "verify", "--trust", trust)
		if r.status != exitRefused || !strings.Contains(r.err, c.want) || !strings.Contains(r.out, "NOT verified") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	a.shown, a.signed, a.forge = 5, 3, nil
	a.sets = a.sets[:1]
	a.nextSet([]crypto.PublicKey{crypto.PublicOf(a.keys[2])}) // another version 2
	if r := runAt(t, both(), "blacklist", "verify", "--trust", trust); r.status != exitRefused || !strings.Contains(r.err, "two histories of who cosigns") {
		t.Errorf("two sets of one version: %+v", r)
	}
}

// TestVerifyChainAgainstACheckpoint: a saved chain must be the one that a majority vouches for.
func TestVerifyChainAgainstACheckpoint(t *testing.T) {
	cleanEnv(t)
	c := newProofCluster(t, 4)
	events, key := chainOf(t, 4)
	c.events = events
	dir := t.TempDir()
	note, trust := filepath.Join(dir, "cp.note"), c.trustFile(2)
	addr := c.serve()
	wantStatus(t, runAt(t, addr, "blacklist", "checkpoint", "--trust", trust, "--out", note), exitDone)
	r := runArgs(t, auditText(events, key), "blacklist", "verify", "-", "--trust", trust, "--checkpoint", note, "--format", "json")
	var view verifyView
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || r.status != exitDone || view.Checkpoint == nil || view.Checkpoint.Size != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	other, otherKey := chainOf(t, 4)
	for name, text := range map[string]string{"truncated": auditText(events[:3], key), "another list": auditText(other, otherKey)} {
		r := runArgs(t, text, "blacklist", "verify", "-", "--trust", trust, "--checkpoint", note)
		if r.status != exitRefused || !strings.Contains(r.err, faultNotSigned) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	wantStatus(t, runArgs(t, auditText(events, key), "blacklist", "verify", "-", "--checkpoint", note), exitUsage)
	wantStatus(t, runArgs(t, auditText(events, key), "blacklist", "verify", "-", "--trust", trust), exitUsage)
}

// TestVerifyChainBehindACheckpoint: what stands behind it must be vouched for by something that the file does not bring along.
func TestVerifyChainBehindACheckpoint(t *testing.T) {
	cleanEnv(t)
	c := newProofCluster(t, 4)
	events, key := chainOf(t, 5)
	c.events = events[:4]
	dir := t.TempDir()
	note, trust := filepath.Join(dir, "cp.note"), c.trustFile(2)
	wantStatus(t, runAt(t, c.serve(), "blacklist", "checkpoint", "--trust", trust, "--out", note), exitDone)
	forger, forged := mustKey(t, 77), events[4]
	forged.AgentID, forged.SourceCoordinatorID = "victim", crypto.PublicOf(mustKey(t, 77)).CoordinatorID()
	forged.Link(events[3].EventHash, forger)
	honest, lie := auditText(events, key), auditText(append(events[:4:4], forged), key, forger)
	keys := writeTemp(t, "keys.json", auditText(nil, key))
	for name, tt := range map[string]struct {
		text   string
		args   []string
		status int
	}{
		"a forged event":                   {lie, nil, exitRefused},
		"a forged event, keys pinned":      {lie, []string{"--keys", keys}, exitRefused},
		"a forged event behind the head":   {lie, []string{"--head", events[3].EventHash}, exitRefused},
		"an event by a key of the file":    {honest, nil, exitRefused},
		"an event by a pinned key":         {honest, []string{"--keys", keys}, exitDone},
		"an event that a head covers":      {honest, []string{"--head", events[4].EventHash}, exitDone},
		"an event that no head reaches to": {honest, []string{"--head", events[3].EventHash}, exitRefused},
	} {
		r := runArgs(t, tt.text, append([]string{"blacklist", "verify", "-", "--trust", trust, "--checkpoint", note}, tt.args...)...)
		if r.status != tt.status || (r.status == exitRefused) != strings.Contains(r.out, "NOT verified") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestCosignersAreSavedAndFollowed.
func TestCosignersAreSavedAndFollowed(t *testing.T) {
	cleanEnv(t)
	c := newProofCluster(t, 1)
	addr, file := c.serve(), filepath.Join(t.TempDir(), "cosigners.txt")
	r := runAt(t, addr, "blacklist", "cosigners", "--out", file)
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "cluster's own word") || !strings.Contains(r.err, c.sets[1].Hash().String()) {
		t.Errorf("%+v", r)
	}
	wantStatus(t, runAt(t, addr, "blacklist", "checkpoint", "--trust", file), exitDone)
	for name, text := range map[string]string{"nothing": "", "junk": "junk", "a set cut off": string(c.sets[0].Encode()[:90]), "a version left out": string(c.sets[1].Encode()) + "x"} {
		if r := runAt(t, addr, "blacklist", "checkpoint", "--trust", writeTemp(t, "t", text)); r.status != exitUsage {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// lyingNode answers one route of a cluster by itself, from one question of it on.
func lyingNode(t *testing.T, c *proofCluster, route string, from int, lie func() any) string {
	t.Helper()
	to, err := url.Parse(c.serve())
	if err != nil {
		t.Fatal(err)
	}
	honest, asked := httputil.NewSingleHostReverseProxy(to), 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == route {
			if asked++; asked >= from {
				_ = json.NewEncoder(w).Encode(lie())
				return
			}
		}
		honest.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestSavedCosignersAreThoseVerified: a node that shows others to a second question changes nothing of what is saved and shown.
func TestSavedCosignersAreThoseVerified(t *testing.T) {
	cleanEnv(t)
	c := newProofCluster(t, 1)
	evil := mustKey(t, 66)
	set, err := checkpoint.NewSet(c.sets[0].ClusterID, 1, 1, crypto.Hash{}, []crypto.PublicKey{crypto.PublicOf(evil)})
	if err != nil {
		t.Fatal(err)
	}
	forged := client.CosignerSet{Version: 2, Hash: "forged", Note: string(checkpoint.SignedSet{Set: set, Signatures: []checkpoint.Signature{set.Sign(evil)}}.Encode())}
	want := string(c.sets[0].Encode()) + string(c.sets[1].Encode())
	for _, args := range [][]string{nil, {"--trust", c.trustFile(1)}} {
		addr := lyingNode(t, c, "/v1/blacklist/cosigners", 2, func() any { return client.CosignerSets{Sets: []client.CosignerSet{forged}} })
		file := filepath.Join(t.TempDir(), "cosigners.txt")
		r := runAt(t, addr, append([]string{"blacklist", "cosigners", "--out", file, "--format", "json"}, args...)...)
		var shown client.CosignerSets
		text, _ := os.ReadFile(file)
		if err := json.Unmarshal([]byte(r.out), &shown); err != nil || r.status != exitDone || string(text) != want || len(shown.Sets) != 2 || shown.Sets[1].Hash != c.sets[1].Hash().String() {
			t.Errorf("%v: %+v, saved:\n%s", args, r, text)
		}
	}
	keys := writeTemp(t, "keys", checkpoint.CosignerKey(crypto.PublicOf(c.keys[0])))
	wantStatus(t, runAt(t, c.serve(), "blacklist", "cosigners", "--trust", keys), exitUsage)
}

// TestProofIsOfTheAgent: neither another agent's ban nor a lift proves the ban of who was asked about; a lift reads as one.
func TestProofIsOfTheAgent(t *testing.T) {
	cleanEnv(t)
	c := newProofCluster(t, 3)
	_, key := chainOf(t, 0)
	end := testNowMs + int64(50)
	lift := c.events[1]
	lift.EventID, lift.TimestampMs, lift.ExpiresAtMs = "lift", end, &end
	lift.Link(c.events[2].EventHash, key)
	c.events, c.shown = append(c.events, lift), 4
	file, trust := filepath.Join(t.TempDir(), "proof"), c.trustFile(2)
	for seq, want := range map[uint64]string{3: "agent-3", 4: "the lift"} {
		addr := lyingNode(t, c, "/v1/blacklist/agents/agent-2", 1, func() any { return client.Ban{AgentID: "agent-2", Seq: seq} })
		r := runAt(t, addr, "blacklist", "proof", "agent-2", "--out", file, "--trust", trust)
		if _, err := os.Stat(file); r.status != exitRefused || !strings.Contains(r.err, want) || !os.IsNotExist(err) {
			t.Errorf("event %d: %+v, %v", seq, r, err)
		}
	}
	wantStatus(t, runAt(t, c.serve(), "blacklist", "proof", "--seq", "4", "--out", file, "--trust", trust), exitDone)
	r := runArgs(t, "", "blacklist", "verify", file, "--trust", trust)
	if r.status != exitDone || !strings.Contains(r.out, "the lift of a ban") {
		t.Errorf("%+v", r)
	}
}

// FuzzTrustFile: whatever is trusted is a line of sets that follow each other, or keys; and it vouches for no note that
// its newest cosigners did not sign.
func FuzzTrustFile(f *testing.F) {
	key, err := crypto.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	set, err := checkpoint.NewSet("c", 1, 1, crypto.Hash{}, []crypto.PublicKey{crypto.PublicOf(key)})
	if err != nil {
		f.Fatal(err)
	}
	note := string(checkpoint.SignedSet{Set: set, Signatures: []checkpoint.Signature{set.Sign(key)}}.Encode())
	f.Add(note, "x")
	f.Add(note+note, note)
	f.Add("# one\n"+checkpoint.CosignerKey(crypto.PublicOf(key))+"\n", note)
	f.Fuzz(func(t *testing.T, text, note string) {
		trusted, err := parseTrust(text)
		if err != nil {
			return
		}
		for i, s := range trusted.sets {
			if i > 0 && s.Version != trusted.sets[i-1].Version+1 {
				t.Errorf("version %d after %d", s.Version, trusted.sets[i-1].Version)
			}
		}
		if o, _, err := trusted.open([]byte(note)); err == nil && !o.Final() {
			t.Errorf("%+v", o)
		}
	})
}

// TestLedgerCheckpoint: the same coordinators cosign both logs, so the note of one is never that of the other.
func TestLedgerCheckpoint(t *testing.T) {
	c := newProofCluster(t, 4)
	addr, trust := c.serve(), c.trustFile(1)
	r := runAt(t, addr, "ledger", "checkpoint", "--trust", trust)
	wantStatus(t, r, exitRefused)
	if !strings.Contains(r.err, "of the log blacklist") {
		t.Errorf("%+v", r)
	}
	c.forge = func(cp *checkpoint.Checkpoint) { cp.Origin.Log = checkpoint.LogLedger }
	r = runAt(t, addr, "ledger", "checkpoint", "--trust", trust, "--format", "table")
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.out, "records") || !strings.Contains(r.out, "/ledger/1") {
		t.Errorf("%+v", r)
	}
	var view checkpointView
	r = runAt(t, addr, "ledger", "checkpoint", "--trust", trust, "--format", "json")
	if err := json.Unmarshal([]byte(r.out), &view); err != nil || r.status != exitDone || view.Size != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	wantStatus(t, runAt(t, addr, "blacklist", "checkpoint", "--trust", trust), exitRefused)
}
