package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgecoder/edgecoder/client"
	"github.com/edgecoder/edgecoder/crypto"
	"github.com/edgecoder/edgecoder/crypto/golden"
	"github.com/edgecoder/edgecoder/fsm"
)

func (f *fixture) meshBan(agentID string) *httptest.ResponseRecorder {
	return f.do(ask{method: "POST", path: "/security/blacklist", token: f.tokens[fsm.RoleOperator],
		body: fmt.Sprintf(`{"agentId":%q,"reasonCode":"manual_review","reason":"why not","evidenceHashSha256":%q,"somethingNew":[1]}`, agentID, someEvidence)})
}

// names returns the members of an object in their order on the wire.
func names(t *testing.T, text []byte) string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(text)))
	var out []string
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name.(string))
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(out, ",")
}

func TestWireShapes(t *testing.T) {
	f := newFixture(t)
	mesh := f.tokens[fsm.RoleMesh]
	rec := f.do(ask{method: "GET", path: "/identity"})
	if got := names(t, rec.Body.Bytes()); got != "peerId,publicKeyPem,coordinatorUrl,networkMode" {
		t.Error(got)
	}
	rec = f.meshBan("bad")
	banned := decodeReply[client.MeshBanned](t, rec, 200)
	if got := names(t, rec.Body.Bytes()); got != "ok,record,version,chainHead" || !banned.OK || banned.Version != 1 {
		t.Errorf("%s", rec.Body)
	}
	if got := names(t, banned.Record); got != "eventId,agentId,reasonCode,reason,evidenceHashSha256,reporterId,evidenceSignatureVerified,"+
		"sourceCoordinatorId,reportedBy,timestampMs,prevEventHash,eventHash,coordinatorSignature" {
		t.Error(got)
	}
	event := must(crypto.ParseBlacklistEvent(banned.Record))
	if event.ReporterID != "policy-engine" || event.ReportedBy != "policy-engine" || event.EventHash != banned.ChainHead {
		t.Errorf("%+v", event)
	}
	rec = f.do(ask{method: "GET", path: "/security/blacklist", token: mesh})
	if got := names(t, rec.Body.Bytes()); got != "version,records,lastEventHash" {
		t.Error(got)
	}
	if list := decodeReply[client.MeshBlacklist](t, rec, 200); len(list.Records) != 1 || string(list.Records[0]) != string(banned.Record) || list.LastEventHash != banned.ChainHead {
		t.Errorf("%+v", list)
	}
	rec = f.do(ask{method: "GET", path: "/security/blacklist/audit", token: mesh})
	if got := names(t, rec.Body.Bytes()); got != "version,chainHead,events" {
		t.Error(got)
	}
	peers := decodeReply[client.MeshPeers](t, f.do(ask{method: "GET", path: "/mesh/peers", token: mesh}), 200)
	if len(peers.Peers) != 1 || peers.Peers[0].PeerID != event.SourceCoordinatorID || peers.Peers[0].CoordinatorURL != "https://127.0.0.1:4301" ||
		peers.Peers[0].Status != "active" || peers.Peers[0].NetworkMode == "" {
		t.Errorf("%+v", peers)
	}
}

func TestWireExpiry(t *testing.T) {
	f := newFixture(t)
	post := func(expires string) *httptest.ResponseRecorder {
		return f.do(ask{method: "POST", path: "/security/blacklist", token: f.tokens[fsm.RoleAdmin],
			body: fmt.Sprintf(`{"agentId":"bad","reasonCode":"manual_review","reason":"why","evidenceHashSha256":%q,"expiresInMs":%s}`, someEvidence, expires)})
	}
	out := decodeReply[client.MeshBanned](t, post("1000"), 200)
	if e := must(crypto.ParseBlacklistEvent(out.Record)); *e.ExpiresAtMs != testClock+1000 {
		t.Errorf("%+v", e)
	}
	for _, bad := range []string{"0", "-5", "1.5", "9223372036854775807", `"1000"`} {
		if rec := post(bad); rec.Code != 400 {
			t.Errorf("expiresInMs %s: %d %s", bad, rec.Code, rec.Body)
		}
	}
}

func TestWireErrors(t *testing.T) {
	f := newFixture(t)
	reporter := f.agent("reporter", fsm.AgentActive)
	signed := reporter.report("bad")
	ban := func(extra string) string {
		return fmt.Sprintf(`{"agentId":"bad","reason":%q,"evidenceHashSha256":%q,"reporterId":"reporter"%s}`, signed.Reason, someEvidence, extra)
	}
	good := fmt.Sprintf(`,"reasonCode":"forged_results","reporterSignature":%q`, signed.ReporterSignature)
	post := func(token, body string) ask {
		return ask{method: "POST", path: "/security/blacklist", token: token, body: body}
	}
	operator := f.tokens[fsm.RoleOperator]
	for name, c := range map[string]struct {
		ask    ask
		status int
		code   string
	}{
		"no token":             {ask{method: "GET", path: "/mesh/peers"}, 401, "mesh_unauthorized"},
		"bad token":            {ask{method: "GET", path: "/security/blacklist", token: "x"}, 401, "mesh_unauthorized"},
		"bearer is not enough": {ask{method: "GET", path: "/mesh/peers", header: map[string]string{"Authorization": "Bearer " + f.tokens[fsm.RoleAdmin]}}, 401, "mesh_unauthorized"},
		"mesh may not ban":     {post(f.tokens[fsm.RoleMesh], ban("")), 403, "mesh_forbidden"},
		"bad body":             {post(operator, `{"agentId":`), 400, "invalid_request"},
		"no reason code":       {post(operator, ban("")), 400, "invalid_request"},
		"evidence not hex":     {post(operator, strings.Replace(ban(`,"reasonCode":"manual_review"`), someEvidence, strings.Repeat("Z", 64), 1)), 400, "invalid_request"},
		"unsigned":             {post(operator, ban(`,"reasonCode":"abuse_spam"`)), 400, reporterUnproven},
		"without a time":       {post(operator, ban(good)), 400, reporterUnproven},
		"with another time":    {post(operator, ban(good+`,"timestampMs":1767225600000`)), 400, reporterUnproven},
		"oversized":            {post(operator, strings.Repeat(" ", bodyBytes+1)), 413, "too_large"},
	} {
		rec := f.do(c.ask)
		var e wireError
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || rec.Code != c.status || e.Error != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, rec.Code, rec.Body, c.status, c.code)
		}
		if c.status == 401 && strings.TrimSpace(rec.Body.String()) != `{"error":"mesh_unauthorized"}` {
			t.Errorf("%s: %s", name, rec.Body)
		}
	}
	rec := f.do(post(operator, ban(good+fmt.Sprintf(`,"timestampMs":%d`, signed.TimestampMs))))
	if out := decodeReply[client.MeshBanned](t, rec, 200); !must(crypto.ParseBlacklistEvent(out.Record)).EvidenceSignatureVerified {
		t.Errorf("%s", rec.Body)
	}
}

// TestNobodyReportsUnderAnotherToken: who reported is in the chain for ever.
func TestNobodyReportsUnderAnotherToken(t *testing.T) {
	f := newFixture(t)
	operator := f.tokens[fsm.RoleOperator]
	own := "token:" + must(crypto.ParseTokenText(operator)).ID
	other := "token:" + must(crypto.ParseTokenText(f.tokens[fsm.RoleAdmin])).ID
	mesh := func(member, name string) *httptest.ResponseRecorder {
		return f.do(ask{method: "POST", path: "/security/blacklist", token: operator,
			body: fmt.Sprintf(`{"agentId":"bad","reasonCode":"manual_review","reason":"why not","evidenceHashSha256":%q,%q:%q}`, someEvidence, member, name)})
	}
	plain := func(reporter string) *httptest.ResponseRecorder {
		ban := manualBan("bad")
		ban.ReporterID = reporter
		return f.do(ask{method: "POST", path: "/v1/blacklist", token: operator, body: ban})
	}
	for _, name := range []string{other, "token:", "Token:x", "TOKEN:" + own[6:]} {
		wantProblem(t, plain(name), client.CodeInvalid, "reporter_id")
		for _, member := range []string{"reportedBy", "reporterId"} {
			if rec := mesh(member, name); rec.Code != 400 || !strings.Contains(rec.Body.String(), "not yours") {
				t.Errorf("%s %s: %d %s", member, name, rec.Code, rec.Body)
			}
		}
	}
	if _, size := f.node.leader.Chain(); size != 0 {
		t.Fatalf("%d events", size)
	}
	for _, rec := range []*httptest.ResponseRecorder{plain(own), plain("tokenizer"), mesh("reportedBy", own), mesh("reporterId", own)} {
		if rec.Code/100 != 2 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
}

// TestAuditStreamsTheWholeChain goes over several pages and through the Go
// client and the independent verifier.
func TestAuditStreamsTheWholeChain(t *testing.T) {
	f := newFixture(t)
	n := 2*auditPage + 3
	for i := range n {
		if rec := f.meshBan(fmt.Sprintf("bad-%d", i)); rec.Code != 200 {
			t.Fatal(rec.Body)
		}
	}
	srv := httptest.NewServer(f.server.Handler())
	defer srv.Close()
	c := must(client.New(client.Config{Addrs: []string{srv.URL}, Token: f.tokens[fsm.RoleMesh]}))
	keys := map[string]crypto.PublicKey{}
	for _, p := range must(c.MeshPeers(context.Background())).Peers {
		keys[p.PeerID] = must(crypto.ParsePublicKeyPEM(p.PublicKeyPEM))
	}
	v := crypto.NewChainVerifier(keys)
	audit, err := c.Audit(context.Background(), func(e json.RawMessage) error { return v.Add(must(crypto.ParseBlacklistEvent(e))) })
	if err != nil || v.Finish(audit.ChainHead) != nil || v.Size() != n || audit.Version != uint64(n) {
		t.Errorf("%d events, version %d: %v", v.Size(), audit.Version, err)
	}
}

// brokenHistory loses the chain from a record on.
type brokenHistory struct {
	*fakeNode
	from uint64
}

func (b brokenHistory) Records(s fsm.Stream, from uint64, limit int) ([]fsm.Record, error) {
	if from >= b.from {
		return nil, nil
	}
	return b.fakeNode.Records(s, from, limit)
}

// TestBrokenStreamIsNotAWholeAnswer: what fails in the middle must not look
// like a shorter chain.
func TestBrokenStreamIsNotAWholeAnswer(t *testing.T) {
	f := newFixture(t)
	for i := range auditPage + 1 {
		f.meshBan(fmt.Sprintf("bad-%d", i))
	}
	f.server.node = brokenHistory{f.node, auditPage + 1}
	srv := httptest.NewServer(f.server.Handler())
	defer srv.Close()
	req := must(http.NewRequest("GET", srv.URL+"/security/blacklist/audit", nil))
	req.Header.Set("X-Mesh-Token", f.tokens[fsm.RoleMesh])
	resp := must(http.DefaultClient.Do(req))
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the answer ended as if it were whole")
	}
	f.server.node = brokenHistory{f.node, 1}
	if rec := f.do(ask{method: "GET", path: "/security/blacklist/audit", token: f.tokens[fsm.RoleMesh]}); rec.Code != 500 {
		t.Errorf("nothing to read: %d", rec.Code)
	}
}

// TestWireSignedRequestVectors holds admissions to the vectors of the
// reference implementation (WIRE.md 27).
func TestWireSignedRequestVectors(t *testing.T) {
	var vectors struct {
		RequestSigning struct {
			Valid []struct {
				Method, Path, Body, BodySHA256 string
				Headers                        map[string]string
			}
		}
	}
	golden.Load(t, &vectors)
	if len(vectors.RequestSigning.Valid) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.RequestSigning.Valid {
		body := must(json.Marshal(client.AdmissionRequest{Method: v.Method, Path: v.Path, Headers: v.Headers, BodySHA256: crypto.Sum([]byte(v.Body)).String()}))
		a, err := decodeAdmission(string(body))
		if err != nil {
			t.Fatal(err)
		}
		signed, code, detail := a.signed()
		if code != "" || signed.BodySHA256.String() != v.BodySHA256 {
			t.Errorf("%s: %s %s", v.Path, code, detail)
		}
	}
}
