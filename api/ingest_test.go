package api

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// gossip is a message of WIRE.md 8.1, its signed text written out by hand.
func (f *fixture) gossip(key crypto.PrivateKey, from, kind string, issuedMs, ttlMs int64, payload string) string {
	id := must(crypto.NewUUID(rand.Reader))
	text := fmt.Sprintf(`{"id":%q,"type":%q,"fromPeerId":%q,"issuedAtMs":%d,"ttlMs":%d,"payload":%s`, id, kind, from, issuedMs, ttlMs, payload)
	return text + fmt.Sprintf(`,"signature":%q}`, b64(must(key.Sign(nil, []byte(text+"}"), cryptoHash0{}))))
}

func (f *fixture) ingest(body string) *httptest.ResponseRecorder {
	return f.do(ask{method: "POST", path: "/mesh/ingest", token: f.tokens[fsm.RoleMesh], body: body})
}

func wantIngest(t *testing.T, rec *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	var out client.MeshIngested
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil || rec.Code != status || out.Error != text || out.OK != (status == 200) || (status != 200 && out.StatusCode != status) {
		t.Errorf("%d %s, want %d %q", rec.Code, rec.Body, status, text)
	}
}

func TestMeshIngestVerifiesAndChangesNothing(t *testing.T) {
	f := newFixture(t)
	me := crypto.PublicOf(f.node.key).CoordinatorID()
	send := func(kind string, issued, ttl int64) *httptest.ResponseRecorder {
		return f.ingest(f.gossip(f.node.key, me, kind, issued, ttl, `{"b":1.0,"a":"x"}`))
	}
	// Our canonical form is that of JavaScript: 1.0 prints as 1, so this text is not what was signed.
	wantIngest(t, send("peer_announce", testClock, 30_000), 400, "invalid_signature")
	message := func(kind string, issued, ttl int64) string {
		return f.gossip(f.node.key, me, kind, issued, ttl, `{"b":1,"a":"x"}`)
	}
	first := message("peer_announce", testClock, 30_000)
	wantIngest(t, f.ingest(first), 200, "")
	wantIngest(t, f.ingest(first), 400, "duplicate_message")
	wantIngest(t, f.ingest(message("peer_announce", testClock-30_001, 30_000)), 400, "message_expired")
	wantIngest(t, f.ingest(message("peer_announce", testClock-30_000, 30_000)), 200, "") // equality is valid
	wantIngest(t, f.ingest(message("peer_announce", testClock+3_600_000, 30_000)), 400, "message_from_the_future")
	wantWire(t, f.ingest(message("peer_announce", testClock, 9_000_000_000)), 400, "invalid_request", "ttlMs")
	wantIngest(t, f.ingest(message("nonsense", testClock, 1)), 400, meshUnknownType)
	wantIngest(t, f.ingest(message("blacklist_update", testClock, 30_000)), 409, "blacklist_chain_authoritative")
	if rec := f.ingest(message("task_offer", testClock, 30_000)); !strings.Contains(rec.Body.String(), `"skipped":"no_agents"`) {
		t.Errorf("%s", rec.Body)
	}
	if rec := f.ingest(message("peer_exchange", testClock, 60_000)); !strings.Contains(rec.Body.String(), `"added":0`) {
		t.Errorf("%s", rec.Body)
	}
	stranger := must(crypto.GenerateKey(rand.Reader))
	// C5: peer_exchange and capability_announce of a stranger are no exception.
	for _, kind := range []string{"peer_exchange", "capability_announce", "blacklist_update"} {
		wantIngest(t, f.ingest(f.gossip(stranger, "coord-000000000000", kind, testClock, 30_000, "{}")), 404, "peer_unknown")
	}
	for range 2 * meshPerWindow { // garbage in a coordinator's name costs it nothing
		wantIngest(t, f.ingest(f.gossip(stranger, me, "peer_announce", testClock, 30_000, "{}")), 400, "invalid_signature")
	}
	wantIngest(t, f.ingest(message("queue_summary", testClock, 30_000)), 200, "")
	for i := 0; ; i++ {
		if rec := f.ingest(message("queue_summary", testClock, 30_000)); rec.Code == 429 {
			wantIngest(t, rec, 429, "peer_rate_limited")
			break
		} else if i > meshPerWindow {
			t.Fatal("a sender is not limited")
		}
	}
	a := f.agent("agent-1", fsm.AgentActive)
	wantIngest(t, f.ingest(f.gossip(a.key, a.id, "capability_announce", testClock, 30_000, "{}")), 200, "")
	pending := f.agent("agent-2", fsm.AgentPending)
	wantIngest(t, f.ingest(f.gossip(pending.key, pending.id, "capability_announce", testClock, 30_000, "{}")), 404, "peer_unknown")
	if len(f.node.proposals) != 0 || len(f.node.leader.Bans("", 1, testClock)) != 0 {
		t.Error("a message changed something")
	}
}

func TestMeshSeenIsBounded(t *testing.T) {
	f := newFixture(t)
	seen := newMeshSeen()
	for i := range 3 * maxMeshSeen {
		if text := seen.enter(fmt.Sprint("peer-", i%(maxMeshSeen/10)), fmt.Sprint(i), f.now); text != "" && text != "peer_rate_limited" {
			t.Fatal(text)
		}
	}
	if len(seen.ids) > maxMeshSeen || len(seen.order) != len(seen.ids) {
		t.Errorf("%d ids, %d in order", len(seen.ids), len(seen.order))
	}
	for i := range 2 * maxMeshSenders {
		seen.enter(fmt.Sprint("sender-", i), fmt.Sprint("id-", i), f.now)
	}
	if len(seen.counts) > maxMeshSenders {
		t.Errorf("%d senders", len(seen.counts))
	}
}

func TestRegisterPeerGrantsNothing(t *testing.T) {
	f := newFixture(t)
	pub, other := crypto.PublicOf(f.node.key), crypto.PublicOf(must(crypto.GenerateKey(rand.Reader)))
	post := func(id string, key crypto.PublicKey, role string) *httptest.ResponseRecorder {
		return f.do(ask{method: "POST", path: "/mesh/register-peer", token: f.tokens[fsm.RoleMesh], body: fmt.Sprintf(
			`{"peerId":%q,"publicKeyPem":%q,"coordinatorUrl":"https://127.0.0.1:1","networkMode":"public_mesh","role":%q,"registrationToken":"secret"}`, id, key.PEM(), role)})
	}
	if rec := post(pub.CoordinatorID(), pub, "coordinator"); rec.Code != 200 || strings.TrimSpace(rec.Body.String()) != `{"ok":true,"peerCount":1}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	wantWire(t, post(pub.CoordinatorID(), other, "coordinator"), 409, "peer_key_mismatch", "") // C5: re-keying a peer
	wantWire(t, post(other.CoordinatorID(), other, ""), 403, "coordinator_not_activated", "membership_by_join_token")
	if rec := post("agent-1", other, "agent"); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	peers := f.do(ask{method: "GET", path: "/mesh/peers", token: f.tokens[fsm.RoleMesh]}).Body.String()
	if strings.Contains(peers, "secret") || strings.Contains(peers, "agent-1") || len(f.node.proposals) != 0 {
		t.Errorf("peers %s", peers)
	}
}

// FuzzAgentBodies: whatever comes as a body is answered, never with a 5xx, and
// changes nothing without a signature.
func FuzzAgentBodies(f *testing.F) {
	for _, seed := range []string{`{"agentId":"a","os":"debian","version":"1","mode":"swarm-only","publicKeyPem":"x","powerTelemetry":{"a":[1.5]}}`,
		`{"id":"1","type":"peer_exchange","fromPeerId":"a","issuedAtMs":1,"ttlMs":1,"payload":{"1":2,"0":[]},"signature":""}`, `{"agentId":"a"}`, `{"agentId":null}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		fix := newFixture(t)
		for _, path := range []string{"/register", "/heartbeat", "/pull", "/mesh/ingest", "/mesh/register-peer"} {
			rec := fix.do(ask{method: "POST", path: path, token: fix.tokens[fsm.RoleMesh], body: body})
			if rec.Code >= 500 || (rec.Code == 200 && path != "/mesh/register-peer") {
				t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
			}
		}
		if len(fix.node.proposals) != 0 {
			t.Fatal("something was proposed")
		}
	})
}
