package api

import (
	"context"
	stdcrypto "crypto"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/fsm"
)

// cryptoHash0 asks ed25519 for the plain signature of RFC 8032.
type cryptoHash0 struct{}

func (cryptoHash0) HashFunc() stdcrypto.Hash { return 0 }

func (f *fixture) withKey(method, path, key string, body any, header ...string) *httptest.ResponseRecorder {
	h := map[string]string{}
	if key != "" {
		h["Idempotency-Key"] = key
	}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return f.do(ask{method: method, path: path, token: f.tokens[fsm.RoleAdmin], body: body, header: h})
}

func TestAgentLifecycle(t *testing.T) {
	f := newFixture(t)
	f.agent("a", fsm.AgentPending)
	for _, step := range []struct {
		action, state string
		status        int
	}{{"suspend", "", 409}, {"approve", "active", 200}, {"approve", "active", 200}, {"suspend", "suspended", 200}, {"approve", "active", 200}, {"revoke", "revoked", 200}, {"approve", "", 409}} {
		rec := f.admin("POST", "/v1/agents/a/"+step.action, nil)
		if step.status != 200 {
			wantProblem(t, rec, client.CodeConflict, "state")
			continue
		}
		if a := decodeReply[client.Agent](t, rec, 200); a.State != step.state || a.Index == 0 {
			t.Errorf("%s: %+v", step.action, a)
		}
	}
	wantProblem(t, f.admin("POST", "/v1/agents/nobody/approve", nil), client.CodeNotFound, "agent_id")
	wantProblem(t, f.admin("POST", "/v1/agents/a/approve", `{"x":1}`), client.CodeInvalid, "x")
	if rec := f.admin("POST", "/v1/agents/a/revoke", "{}"); rec.Code != 200 {
		t.Error(rec.Code)
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.agent(fmt.Sprintf("agent-%d", i), fsm.AgentPending)
	}
	var seen []string
	for path, n := "/v1/agents?limit=2", 0; ; n++ {
		page := decodeReply[client.Agents](t, f.admin("GET", path, nil), 200)
		for _, a := range page.Agents {
			seen = append(seen, a.AgentID)
		}
		if page.Next == "" {
			break
		}
		path = "/v1/agents?limit=2&after=" + page.Next
		if n > 5 {
			t.Fatal("pages do not end")
		}
	}
	if len(seen) != 5 {
		t.Errorf("%v", seen)
	}
	for path, field := range map[string]string{
		"/v1/agents?limit=0": "limit", "/v1/agents?limit=1001": "limit", "/v1/agents?limit=-1": "limit", "/v1/agents?limit=x": "limit",
		"/v1/agents?level=weak": "level", "/v1/agents?level=": "level", "/v1/agents?min_index=-1": "min_index", "/v1/agents?min_idx=1": "min_idx",
		"/v1/agents?limit=1&limit=2": "limit", "/v1/blacklist/events?from=x": "from", "/v1/status?limit=1": "limit",
	} {
		wantProblem(t, f.admin("GET", path, nil), client.CodeInvalid, field)
	}
}

func TestReadLevels(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	res := f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: 1, Policy: fsm.DefaultPolicy()})
	if p := decodeReply[client.Policy](t, f.admin("GET", "/v1/policy", nil), 200); p.Version != 1 {
		t.Errorf("a local read is of this replica: %+v", p)
	}
	rec := f.admin("GET", fmt.Sprintf("/v1/policy?min_index=%d", res.Index), nil)
	if p := decodeReply[client.Policy](t, rec, 200); p.Version != 2 || rec.Header().Get("X-Edgecoder-Index") != fmt.Sprint(res.Index) {
		t.Errorf("min_index: %+v %s", p, rec.Header().Get("X-Edgecoder-Index"))
	}
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: 2, Policy: fsm.DefaultPolicy()})
	if p := decodeReply[client.Policy](t, f.admin("GET", "/v1/policy?level=strong", nil), 200); p.Version != 3 {
		t.Errorf("strong: %+v", p)
	}
	wantProblem(t, f.admin("GET", "/v1/policy?min_index=999999", nil), client.CodeUnavailable, "")
}

func TestPolicy(t *testing.T) {
	f := newFixture(t)
	rec := f.admin("GET", "/v1/policy", nil)
	p := decodeReply[client.Policy](t, rec, 200)
	if p.Version != 1 || p.RateLimit != (client.RateLimit{Requests: 30, WindowMs: 60_000}) || p.MaxSkewMs != 120_000 || p.AutoApprove || rec.Header().Get("ETag") != `"1"` {
		t.Fatalf("%+v", p)
	}
	wantProblem(t, f.admin("PUT", "/v1/policy", `{"max_skew_ms":5000}`), client.CodeInvalid, "If-Match")
	for _, bad := range []string{"x", `""`, "*", `W/"1"`, "-1"} {
		wantProblem(t, f.withKey("PUT", "/v1/policy", "", `{}`, "If-Match", bad), client.CodeInvalid, "If-Match")
	}
	wantProblem(t, f.withKey("PUT", "/v1/policy", "", `{"version":2}`, "If-Match", "1"), client.CodeInvalid, "version")
	wantProblem(t, f.withKey("PUT", "/v1/policy", "", `{"max_skew_ms":1}`, "If-Match", "1"), client.CodeInvalid, "max_skew_ms")
	wantProblem(t, f.withKey("PUT", "/v1/policy", "", `{"max_skew_ms":5000}`, "If-Match", "7"), client.CodeConflict, "version")

	body := `{"max_skew_ms":5000,"overrides":{"vip":{"requests":500,"window_ms":1000}}}`
	p = decodeReply[client.Policy](t, f.withKey("PUT", "/v1/policy", "k1", body, "If-Match", "1"), 200)
	if p.Version != 2 || p.MaxSkewMs != 5000 || p.RateLimit.Requests != 30 || p.Overrides["vip"].Requests != 500 || p.Repeated {
		t.Fatalf("%+v", p)
	}
	if now := decodeReply[client.Policy](t, f.admin("GET", "/v1/policy", nil), 200); now.Version != 2 || now.MaxSkewMs != 5000 {
		t.Fatalf("answer and state differ: %+v", now)
	}
	if p = decodeReply[client.Policy](t, f.withKey("PUT", "/v1/policy", "k1", body, "If-Match", "1"), 200); !p.Repeated || p.Version != 2 {
		t.Errorf("repeated: %+v", p)
	}
	wantProblem(t, f.withKey("PUT", "/v1/policy", "k1", body, "If-Match", `"2"`), client.CodeConflict, "") // another precondition
	p = decodeReply[client.Policy](t, f.withKey("PUT", "/v1/policy", "", `{"overrides":{}}`, "If-Match", `"2"`), 200)
	if p.Version != 3 || len(p.Overrides) != 0 || p.MaxSkewMs != 5000 {
		t.Errorf("%+v", p)
	}
}

func TestPolicyOnAReplicaThatIsBehind(t *testing.T) {
	f := newFixture(t)
	f.node.held = true
	strict := fsm.DefaultPolicy()
	strict.MaxSkewMs = 7000
	f.node.mustApply(f.actor(), fsm.PolicySet{IfVersion: 1, Policy: strict})
	p := decodeReply[client.Policy](t, f.withKey("PUT", "/v1/policy", "", `{"auto_approve":true}`, "If-Match", "2"), 200)
	if p.MaxSkewMs != 7000 || !p.AutoApprove {
		t.Errorf("built upon the wrong version: %+v", p)
	}
}

func TestTokenDefaults(t *testing.T) {
	f := newFixture(t)
	const day = 24 * 3_600_000
	for _, role := range allRoles {
		rec := f.admin("POST", "/v1/tokens", client.TokenRequest{Role: string(role), Label: "l"})
		tok := decodeReply[client.Token](t, rec, 201)
		text, err := crypto.ParseTokenText(tok.Token)
		if err != nil || text.ID != tok.ID || text.Role != string(role) || text.ClusterID != clusterID {
			t.Fatalf("%s: %+v %v", role, tok, err)
		}
		ttl, uses, pin := int64(90*day), int64(-1), ""
		if role.SingleUse() {
			ttl, uses, pin = day, 1, testPin
		}
		if tok.ExpiresMs != testClock+ttl || tok.UsesLeft != uses || text.Pin != pin || tok.State != "active" || tok.Label != "l" {
			t.Errorf("%s: %+v pin %q", role, tok, text.Pin)
		}
		command := map[fsm.Role]string{fsm.RoleCoordinator: "edgecoder server", fsm.RoleObserver: "edgecoder server", fsm.RoleEdge: "edgecoder edge"}[role]
		if (command == "") != (tok.JoinCommand == "") || (command != "" && !(strings.HasPrefix(tok.JoinCommand, "EDGECODER_JOIN_TOKEN="+tok.Token+" "+command+" ") && strings.HasSuffix(tok.JoinCommand, "--join 127.0.0.1:4401"))) {
			t.Errorf("%s: join command %q", role, tok.JoinCommand)
		}
		if strings.Contains(f.admin("GET", "/v1/tokens", nil).Body.String(), text.Secret) || strings.Contains(f.log.String(), text.Secret) {
			t.Error("a listing or the log tells a secret")
		}
	}
}

func TestJoinCommandHasNoShellInIt(t *testing.T) {
	line := joinCommand(fsm.RoleCoordinator, "T", []fsm.Coordinator{{Gossip: "$(rm -rf):1"}, {Gossip: "a;b:1"}, {Gossip: "--x:1"}, {Gossip: "10.0.0.1:4401"}, {Gossip: "[::1]:4401"}})
	if !strings.HasSuffix(line, " --join 10.0.0.1:4401,[::1]:4401") {
		t.Error(line)
	}
}

func TestTokenTerms(t *testing.T) {
	f := newFixture(t)
	for body, field := range map[string]string{
		`{}`:              "role",
		`{"role":"root"}`: "role",
		`{"role":"viewer","ttl":"1h","ttl_ms":5}`:                     "ttl",
		`{"role":"viewer","ttl":"soon"}`:                              "ttl",
		`{"role":"viewer","ttl":"-1h"}`:                               "ttl",
		`{"role":"viewer","ttl":"0s"}`:                                "ttl",
		`{"role":"viewer","ttl_ms":-5}`:                               "ttl_ms",
		`{"role":"viewer","ttl_ms":9223372036854775807}`:              "ttl_ms",
		`{"role":"viewer","ttl":"100000h"}`:                           "ttl",
		`{"role":"viewer","uses":3}`:                                  "uses",
		`{"role":"agent","uses":-2}`:                                  "uses",
		`{"role":"agent","label":"` + strings.Repeat("x", 129) + `"}`: "label",
		`{"role":"agent","label":"a\u001bb"}`:                         "label",
		`{"role":"agent","secret":"mine"}`:                            "secret",
	} {
		t.Run(body, func(t *testing.T) { wantProblem(t, f.admin("POST", "/v1/tokens", body), client.CodeInvalid, field) })
	}
	if p := wantProblem(t, f.admin("POST", "/v1/tokens", `{"role":"viewer","uses":3}`), client.CodeInvalid, "uses"); !strings.Contains(p.Detail, "nobody counts its uses") {
		t.Errorf("%q does not say why", p.Detail)
	}
	tok := decodeReply[client.Token](t, f.admin("POST", "/v1/tokens", `{"role":"agent","uses":-1,"ttl":"90m"}`), 201)
	if tok.UsesLeft != -1 || tok.ExpiresMs != testClock+90*60_000 {
		t.Errorf("%+v", tok)
	}
}

func TestRepeatedTokenCreationTellsNoSecret(t *testing.T) {
	f := newFixture(t)
	body := client.TokenRequest{Role: "viewer"}
	first := decodeReply[client.Token](t, f.withKey("POST", "/v1/tokens", "key-1", body), 201)
	rec := f.withKey("POST", "/v1/tokens", "key-1", body)
	again := decodeReply[client.Token](t, rec, 201)
	if again.ID != first.ID || again.Index != first.Index || !again.Repeated || again.Token != "" || strings.Contains(rec.Body.String(), "edgc_") {
		t.Errorf("%s", rec.Body)
	}
	wantProblem(t, f.withKey("POST", "/v1/tokens", "key-1", client.TokenRequest{Role: "mesh"}), client.CodeConflict, "")
	second := f.makeToken(fsm.RoleAdmin, -1)
	rec = f.do(ask{method: "POST", path: "/v1/tokens", token: second, body: body, header: map[string]string{"Idempotency-Key": "key-1"}})
	if other := decodeReply[client.Token](t, rec, 201); other.Repeated || other.ID == first.ID {
		t.Error("the key of one principal answered another")
	}
	for _, bad := range []string{"", strings.Repeat("k", 129), "tab\there", "ü"} {
		req := ask{method: "POST", path: "/v1/tokens", token: f.tokens[fsm.RoleAdmin], body: body, header: map[string]string{"Idempotency-Key": bad}}
		wantProblem(t, f.do(req), client.CodeInvalid, "Idempotency-Key")
	}
}

func TestUnknownOutcomeNamesTheKey(t *testing.T) {
	f := newFixture(t)
	f.node.loseAnswer = true
	p := wantProblem(t, f.admin("POST", "/v1/tokens", client.TokenRequest{Role: "viewer"}), client.CodeUnknownOutcome, "")
	if p.IdempotencyKey == "" {
		t.Fatal("no key to ask again under")
	}
	f.node.loseAnswer = false
	again := decodeReply[client.Token](t, f.withKey("POST", "/v1/tokens", p.IdempotencyKey, client.TokenRequest{Role: "viewer"}), 201)
	if !again.Repeated {
		t.Errorf("%+v", again)
	}
	f.node.proposeErr = &client.Error{Code: client.CodeUnavailable, Detail: "no leader"}
	if p := wantProblem(t, f.withKey("DELETE", "/v1/tokens/x", "mine", nil), client.CodeUnavailable, ""); p.IdempotencyKey != "mine" {
		t.Errorf("%+v", p)
	}
	f.node.proposeErr = context.DeadlineExceeded // what has no code may have been done
	wantProblem(t, f.admin("DELETE", "/v1/tokens/x", nil), client.CodeUnknownOutcome, "")
}

func TestRevokeToken(t *testing.T) {
	f := newFixture(t)
	id := must(crypto.ParseTokenText(f.tokens[fsm.RoleViewer])).ID
	if out := decodeReply[client.TokenRevoked](t, f.admin("DELETE", "/v1/tokens/"+id, nil), 200); out.ID != id || out.Index == 0 {
		t.Errorf("%+v", out)
	}
	wantProblem(t, f.do(ask{method: "GET", path: "/v1/status", token: f.tokens[fsm.RoleViewer]}), client.CodeUnauthorized, "")
	wantProblem(t, f.admin("DELETE", "/v1/tokens/nothing", nil), client.CodeNotFound, "id")
	wantProblem(t, f.admin("DELETE", "/v1/tokens/"+f.actor().TokenID, nil), client.CodeConflict, "id")
	page := decodeReply[client.Tokens](t, f.admin("GET", "/v1/tokens?limit=3", nil), 200)
	rest := decodeReply[client.Tokens](t, f.admin("GET", "/v1/tokens?after="+page.Next, nil), 200)
	if len(page.Tokens) != 3 || len(rest.Tokens) != len(allRoles)-3 || rest.Next != "" {
		t.Errorf("pages of %d and %d", len(page.Tokens), len(rest.Tokens))
	}
}

func TestPeers(t *testing.T) {
	f := newFixture(t)
	join := func(id, name string) {
		tok := must(crypto.ParseTokenText(f.tokens[fsm.RoleCoordinator]))
		key := must(crypto.GenerateKey(rand.Reader))
		f.node.mustApply(fsm.Actor{TokenID: tok.ID}, fsm.CoordinatorJoin{Coordinator: f.node.coordinator(id, name, crypto.PublicOf(key))})
	}
	join("node-2", "n2")
	out := decodeReply[client.Peers](t, f.admin("GET", "/v1/peers", nil), 200)
	if out.Peers[0].API != "https://127.0.0.1:4301" { // a URL, as in status and members
		t.Errorf("API %q", out.Peers[0].API)
	}
	if len(out.Peers) != 2 || out.Peers[0].Suffrage != "voter" || out.Peers[1].Suffrage != "none" || out.Peers[1].PeerID == "" {
		t.Fatalf("%+v", out)
	}
	if p := out.Peers[0]; p.Health != "healthy" || p.LastContactMs == nil || *p.LastContactMs != 40 || p.Lag == nil || *p.Lag != 3 {
		t.Errorf("a server that was heard: %+v", p)
	}
	if p := out.Peers[1]; p.Health != "unknown" || p.LastContactMs != nil || p.Lag != nil {
		t.Errorf("one that was not: %+v", p)
	}
	wantProblem(t, f.admin("DELETE", "/v1/peers/n9", nil), client.CodeNotFound, "")
	wantProblem(t, f.admin("DELETE", "/v1/peers/n2?compromised=maybe", nil), client.CodeInvalid, "compromised")
	removed := decodeReply[client.PeerRemoved](t, f.withKey("DELETE", "/v1/peers/n2?compromised=true", "k", nil), 200)
	if removed.ID != "node-2" {
		t.Fatalf("%+v", removed)
	}
	if again := decodeReply[client.PeerRemoved](t, f.withKey("DELETE", "/v1/peers/n2?compromised=true", "k", nil), 200); !again.Repeated {
		t.Errorf("%+v", again)
	}
	wantProblem(t, f.withKey("DELETE", "/v1/peers/n2", "k", nil), client.CodeConflict, "") // the query is part of it
	join("node-3", "n2")                                                                   // the name comes back under a new id
	if out := decodeReply[client.PeerRemoved](t, f.admin("DELETE", "/v1/peers/n2", nil), 200); out.ID != "node-3" {
		t.Errorf("removed %s", out.ID)
	}
	out = decodeReply[client.Peers](t, f.admin("GET", "/v1/peers", nil), 200)
	if len(out.Peers) != 3 || out.Peers[2].State != "removed" || out.Peers[2].PeerID == "" || out.Peers[1].Reason != "compromised" || out.Peers[2].Reason != "" {
		t.Errorf("%+v", out.Peers)
	}
}

func TestTransferLeader(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ body, id string }{{"", "node-2"}, {"{}", "node-3"}, {`{"node":"n1"}`, "node-1"}, {`{"node":"node-1"}`, "node-1"}} {
		out := decodeReply[client.LeaderTransferred](t, f.admin("POST", "/v1/leader/transfer", c.body), 200)
		if got := f.node.transfers[len(f.node.transfers)-1]; out.Node != c.id || out.Name != "n-"+c.id || (got != "" && got != c.id) {
			t.Errorf("%s: %+v, node was told %q", c.body, out, got)
		}
	}
	wantProblem(t, f.admin("POST", "/v1/leader/transfer", `{"node":"n9"}`), client.CodeNotFound, "")
	wantProblem(t, f.admin("POST", "/v1/leader/transfer", `{"name":"n1"}`), client.CodeInvalid, "name")
}

func TestStatusAndMembersHaveListsNotNulls(t *testing.T) {
	f := newFixture(t)
	rec := f.do(ask{method: "GET", path: "/v1/status", token: f.tokens[fsm.RoleViewer]})
	st := decodeReply[client.Status](t, rec, 200)
	if st.Version != "test" || st.Voters == nil || st.Digests == nil || strings.Contains(rec.Body.String(), "null,\"v") {
		t.Errorf("%s", rec.Body)
	}
	if rec := f.admin("GET", "/v1/members", nil); strings.TrimSpace(rec.Body.String()) != `{"members":[]}` {
		t.Errorf("%s", rec.Body)
	}
}
