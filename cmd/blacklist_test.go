package cmd

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
)

// chainOf returns n linked events of one coordinator, and its key.
func chainOf(t *testing.T, n int) ([]crypto.BlacklistEvent, crypto.PrivateKey) {
	t.Helper()
	key, err := crypto.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	head := crypto.BlacklistGenesis
	var events []crypto.BlacklistEvent
	for i := range n {
		e := crypto.BlacklistEvent{
			EventID: fmt.Sprintf("event-%d", i+1), AgentID: fmt.Sprintf("agent-%d", i+1), ReasonCode: crypto.ReasonManualReview, Reason: "because",
			EvidenceHashSHA256: hashText, ReporterID: "operator", ReportedBy: "operator", TimestampMs: testNowMs + int64(i),
		}
		e.Link(head, key)
		head = e.EventHash
		events = append(events, e)
	}
	return events, key
}

func auditText(events []crypto.BlacklistEvent, keys ...crypto.PrivateKey) string {
	var texts, peers []string
	for _, e := range events {
		texts = append(texts, string(e.WireJSON()))
	}
	for _, key := range keys {
		pub := crypto.PublicOf(key)
		peer, _ := json.Marshal(auditKey{PeerID: pub.CoordinatorID(), PublicKeyPEM: pub.PEM()})
		peers = append(peers, string(peer))
	}
	head := crypto.BlacklistGenesis
	if len(events) > 0 {
		head = events[len(events)-1].EventHash
	}
	return fmt.Sprintf(`{"version":%d,"chainHead":%q,"events":[%s],"peers":[%s]}`, len(events), head, strings.Join(texts, ","), strings.Join(peers, ","))
}

func TestVerifyNamesTheFirstBadEvent(t *testing.T) {
	cleanEnv(t)
	good, key := chainOf(t, 3)
	changed := append([]crypto.BlacklistEvent(nil), good...)
	changed[1].Reason = "forged"
	dropped := append(append([]crypto.BlacklistEvent(nil), good[0]), good[2])
	_, stranger := chainOf(t, 1)
	for _, tt := range []struct {
		name, text, code string
		seq              int
	}{
		{"good", auditText(good, key), "", 0},
		{"empty", auditText(nil, key), "", 0},
		{"changed", auditText(changed, key), crypto.ChainHashMismatch, 2},
		{"dropped", auditText(dropped, key), crypto.ChainBreak, 2},
		{"cut off", strings.Replace(auditText(good[:2], key), `"chainHead":"`+good[1].EventHash, `"chainHead":"`+good[2].EventHash, 1), crypto.ChainHeadMismatch, 2},
		{"cut off, the head too", strings.Replace(auditText(good[:2], key), `"version":2`, `"version":3`, 1), faultVersion, 2},
		{"key of somebody else", auditText(good, stranger), crypto.ChainMissingKey, 1},
		{"malformed", strings.Replace(auditText(good, key), `"reason":"because"`, `"reason":7`, 1), "malformed", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runArgs(t, "", "blacklist", "verify", writeTemp(t, "chain.json", tt.text), "--format", "json")
			var view verifyView
			if err := json.Unmarshal([]byte(r.out), &view); err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			if tt.code == "" {
				if r.status != exitDone || !view.Verified || view.Fault != nil || !strings.Contains(r.err, "the file itself") ||
					!strings.Contains(view.Complete, "a truncated file looks the same") || !strings.Contains(r.err, view.Complete) {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.status != exitRefused || view.Verified || view.Fault == nil || view.Fault.Code != tt.code || view.Fault.Seq != tt.seq {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestVerifyWithPinnedKeys(t *testing.T) {
	cleanEnv(t)
	good, key := chainOf(t, 2)
	forged, forger := chainOf(t, 2)
	trusted := writeTemp(t, "trusted.json", auditText(good[:1], key))
	r := runArgs(t, auditText(good), "blacklist", "verify", "-", "--keys", trusted) // the file brings no keys
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "pinned") || !strings.Contains(r.out, "verified") {
		t.Errorf("%+v", r)
	}
	wantStatus(t, runArgs(t, auditText(forged, forger), "blacklist", "verify", "-"), exitDone) // consistent in itself
	wantStatus(t, runArgs(t, auditText(forged, forger), "blacklist", "verify", "-", "--keys", trusted), exitRefused)
}

func TestVerifyWithATrustedHead(t *testing.T) {
	cleanEnv(t)
	good, key := chainOf(t, 3)
	for _, tt := range []struct {
		name, head string
		events     int
		status     int
		want       string
	}{
		{"its end", good[2].EventHash, 3, exitDone, "complete: it ends at the given head, event 3"},
		{"in the middle", good[1].EventHash, 3, exitDone, "complete up to event 3 only: a truncated file looks the same; the given head is event 2"},
		{"the beginning", crypto.BlacklistGenesis, 3, exitDone, "the given head is event 0"},
		{"truncated", good[2].EventHash, 2, exitRefused, faultHeadMissing},
		{"empty", good[2].EventHash, 0, exitRefused, faultHeadMissing},
		{"no hash", "5f2c", 3, exitUsage, "--head: want 64 lower-case hex digits, got 4 bytes"},
	} {
		r := runArgs(t, auditText(good[:tt.events], key), "blacklist", "verify", "-", "--head", tt.head)
		if r.status != tt.status || !strings.Contains(r.out+r.err, tt.want) || strings.Contains(r.out, "NOT verified") != (tt.status == exitRefused) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

// TestVerifyAgainstTheLiveChain: with --addr the cluster says whether the file
// is a part of its chain.
func TestVerifyAgainstTheLiveChain(t *testing.T) {
	file, key := chainOf(t, 2)
	other, _ := chainOf(t, 2)
	pub := crypto.PublicOf(key)
	for _, tt := range []struct {
		name   string
		page   any
		status int
		want   string
	}{
		{"same", client.ChainPage{Size: 2, Events: []client.ChainEvent{{Seq: 2, Event: file[1].WireJSON()}}}, exitDone, "at event 2, and 0 newer"},
		{"longer", client.ChainPage{Size: 9, Events: []client.ChainEvent{{Seq: 2, Event: file[1].WireJSON()}}}, exitDone, "at event 2, and 7 newer"},
		{"shorter", client.ChainPage{Size: 1}, exitRefused, "1 events only"},
		{"another", client.ChainPage{Size: 9, Events: []client.ChainEvent{{Seq: 2, Event: other[1].WireJSON()}}}, exitRefused, faultNotInCluster},
		{"silent", client.ChainPage{Size: 9}, exitRefused, "did not show event 2"},
		{"refuses", &client.Error{Code: client.CodeForbidden, Detail: "no"}, exitRefused, "forbidden"},
	} {
		f := newFakeAPI(t, map[string]reply{
			"GET /identity":            always(client.Identity{PeerID: pub.CoordinatorID(), PublicKeyPEM: pub.PEM()}),
			"GET /mesh/peers":          always(client.MeshPeers{}),
			"GET /v1/blacklist/events": always(tt.page),
		})
		pointAt(t, f)
		r := runArgs(t, auditText(file, key), "blacklist", "verify", "-", "--addr", f.URL, "--format", "json")
		if r.status != tt.status || !strings.Contains(r.out+r.err, tt.want) || strings.Contains(r.out, `"verified": true`) == (tt.status != exitDone) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

func TestVerifyTheVectorChain(t *testing.T) {
	cleanEnv(t)
	v := loadVectors(t)
	peers := map[string]string{}
	var events []string
	for _, e := range v.Blacklist.Chain {
		var record struct{ SourceCoordinatorID string }
		if err := json.Unmarshal(e.Record, &record); err != nil {
			t.Fatal(err)
		}
		events = append(events, string(e.Record))
		for _, k := range v.Keys.Ed25519 {
			if k.Name == e.SignerKey {
				peers[record.SourceCoordinatorID] = k.PublicKeyPem
			}
		}
	}
	if len(peers) == 0 {
		t.Fatal("no signer of the vectors was found")
	}
	var list []auditKey
	for id, pem := range peers {
		list = append(list, auditKey{PeerID: id, PublicKeyPEM: pem})
	}
	keys, _ := json.Marshal(list)
	text := fmt.Sprintf(`{"version":3,"chainHead":%q,"events":[%s],"keys":%s}`, v.Blacklist.ChainHead, strings.Join(events, ","), keys)
	wantStatus(t, runArgs(t, text, "blacklist", "verify", "-"), exitDone)
}

func TestNotAnAuditFile(t *testing.T) {
	cleanEnv(t)
	for _, text := range []string{"", "[]", "{", `{"events":{}}`, `{"events":[]} {}`, `{"events":[],"events":[]}`, `{"chainHead":7}`} {
		r := runArgs(t, text, "blacklist", "verify", "-")
		if r.status != exitRefused || !strings.Contains(r.err, "not an audit file") {
			t.Errorf("%q: %+v", text, r)
		}
	}
	wantStatus(t, runArgs(t, "", "blacklist", "verify", "/nowhere"), exitUsage)
}

func TestAuditSavesWhatVerifyReads(t *testing.T) {
	events, key := chainOf(t, 3)
	pub := crypto.PublicOf(key)
	var raw []json.RawMessage
	for _, e := range events {
		raw = append(raw, e.WireJSON())
	}
	f := newFakeAPI(t, map[string]reply{
		"GET /security/blacklist/audit": always(client.Audit{Version: 3, ChainHead: events[2].EventHash, Events: raw}),
		"GET /v1/blacklist/events":      always(client.ChainPage{Size: 5, Events: []client.ChainEvent{{Seq: 3, Event: raw[2]}}, Next: 4}),
		"GET /identity":                 always(client.Identity{PeerID: "coord-other", PublicKeyPEM: pub.PEM()}),
		"GET /mesh/peers":               always(client.MeshPeers{Peers: []client.MeshPeer{{PeerID: pub.CoordinatorID(), PublicKeyPEM: pub.PEM(), Status: "retired"}}}),
	})
	pointAt(t, f)
	path := t.TempDir() + "/chain.json"
	r := runArgs(t, "", "blacklist", "audit", "--out", path)
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "saved 3 events") || r.out != "" {
		t.Errorf("%+v", r)
	}
	wantStatus(t, runArgs(t, "", "blacklist", "verify", path), exitDone)
	r = runArgs(t, "", "blacklist", "verify", path, "--addr", f.URL)
	wantStatus(t, r, exitDone)
	if !strings.Contains(r.err, "from the cluster at") || !strings.Contains(r.out, "has this head at event 3, and 2 newer events") || strings.Contains(r.err, "truncated") {
		t.Errorf("%+v", r)
	}
	piped := runArgs(t, "", "blacklist", "audit")
	wantStatus(t, runArgs(t, piped.out, "blacklist", "verify", "-"), exitDone)
}

func TestBanRequest(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"POST /v1/blacklist": always(client.BlacklistChange{EventID: "e", Size: 1})})
	pointAt(t, f)
	pem := loadVectors(t).Keys.Ed25519["reporter"].PrivateKeyPem
	key := writeTemp(t, "reporter.pem", pem)
	wantStatus(t, runArgs(t, "", "blacklist", "add", "agent-1", "--reason", "because"), exitDone)
	wantStatus(t, runArgs(t, "log", "blacklist", "add", "agent-1", "--reason", "because", "--reason-code", "dos_behavior",
		"--reporter", "r-1", "--reporter-key", key, "--evidence-file", "-", "--expires", "2d"), exitDone)
	var plain, signed client.BanRequest
	asked := f.asked("POST /v1/blacklist")
	_ = json.Unmarshal([]byte(asked[0].body), &plain)
	_ = json.Unmarshal([]byte(asked[1].body), &signed)
	if plain.ReporterID != "operator" || plain.ReasonCode != "manual_review" || plain.EvidenceSHA256 != crypto.Sum([]byte("because")).String() ||
		plain.ExpiresAtMs != 0 || plain.ReporterSignature != "" {
		t.Errorf("plain %+v", plain)
	}
	evidence := crypto.ReporterEvidence{AgentID: "agent-1", ReasonCode: "dos_behavior", Reason: "because",
		EvidenceHashSHA256: crypto.Sum([]byte("log")).String(), ReporterID: "r-1", TimestampMs: testNowMs}
	pub, err := crypto.ParsePublicKeyPEM(signed.ReporterPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signature, _ := base64.StdEncoding.DecodeString(signed.ReporterSignature)
	if !evidence.Verify(pub, signature) || signed.TimestampMs != testNowMs || signed.ExpiresAtMs != testNowMs+48*3_600_000 {
		t.Errorf("signed %+v", signed)
	}
}

func TestBanRefusals(t *testing.T) {
	cleanEnv(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"a"}, "--reason is missing"},
		{[]string{"a", "--reason", "x", "--reason-code", "boredom"}, "want one of"},
		{[]string{"a", "--reason", "x", "--reason-code", "dos_behavior"}, "--reporter-key"},
		{[]string{"a", "--reason", "x", "--reporter-key", "k"}, "--reporter is missing"},
		{[]string{"a", "--reason", "x", "--evidence-sha256", "ZZ"}, "--evidence-sha256"},
		{[]string{"a", "--reason", "x", "--evidence-sha256", hashText, "--evidence-file", "f"}, "give one"},
		{[]string{"a", "--reason", "x", "--expires", "later"}, "--expires"},
	} {
		r := runArgs(t, "", append([]string{"blacklist", "add"}, tt.args...)...)
		if r.status != exitUsage || !strings.Contains(r.err, tt.want) {
			t.Errorf("%q: %+v, want %q", tt.args, r, tt.want)
		}
	}
}

func TestShowOfAnAgentThatIsNotBanned(t *testing.T) {
	f := newFakeAPI(t, map[string]reply{"GET /v1/blacklist/agents/a": always(&client.Error{Code: client.CodeNotFound, Detail: "not banned"})})
	pointAt(t, f)
	wantStatus(t, runArgs(t, "", "blacklist", "show", "a"), exitRefused)
}
